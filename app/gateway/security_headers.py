"""Response headers that keep a page to itself.

The policy is the strictest under which Streamlit 1.67 works whole, components v2 included; each loosening has its
reason beside it. Nothing may be loaded from, or sent to, another host: model output is untrusted, and a picture in an
answer is the usual way out for a conversation.
"""

from __future__ import annotations

import base64
import hashlib
import re

_PAGE = (
    "default-src 'self'",
    # Components v2 import their inline JavaScript as blob: modules; the page's own inline script goes by its hash.
    "script-src 'self' blob: {inline}",
    "style-src 'self' 'unsafe-inline'",  # emotion writes <style> elements
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "media-src 'self' data: blob:",
    "connect-src 'self' {sockets}",  # 'self' does not cover ws: in every browser
    "worker-src 'self' blob:",
    "frame-src 'self'",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
)
OWN_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
API_POLICY = "default-src 'none'; frame-ancestors 'none'"

COMMON = (
    (b"x-content-type-options", b"nosniff"),
    # Not "no-referrer": under that a browser's form names its origin "null", and the sign-in would refuse itself.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
FEATURES = (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()")


_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def inline_script_hashes(page: str) -> str:
    """The CSP sources of the inline scripts in an HTML page."""
    digests = (hashlib.sha256(script.encode()).digest() for script in _INLINE_SCRIPT.findall(page))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def page_policy(host: str, inline: str) -> bytes:
    """The policy of a page that was asked for at `host` (a Host header that has passed the check)."""
    return "; ".join(_PAGE).format(inline=inline, sockets=f"ws://{host} wss://{host}").encode("ascii")
