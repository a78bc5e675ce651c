"""Who may speak to the supervisor: Origin, Host and key, as pure functions over headers.

Source: protocol 8.1 and 8.2 and the recordings host_evil, origin_evil, origin_local, preflight. The key is ours: an
embedded runtime answers only the Loupe that started it.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Mapping

_SUFFIXES = (".localhost", ".local", ".internal")
PREFLIGHT_HEADERS = (
    ("access-control-allow-methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    (
        "access-control-allow-headers",
        "Origin,Content-Length,Content-Type,Authorization,User-Agent,Accept,X-Requested-With",
    ),
    ("access-control-max-age", "43200"),
)


def origin_is_allowed(origin: str, host: str, patterns: tuple[str, ...]) -> bool:
    """`patterns` may hold one "*"; an origin that is the host itself is the same site."""
    if origin in (f"http://{host}", f"https://{host}"):
        return True
    return any(_matches(origin.lower(), pattern.lower()) for pattern in patterns)


def _matches(origin: str, pattern: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return origin == pattern
    return len(origin) >= len(before) + len(after) and origin.startswith(before) and origin.endswith(after)


def host_is_allowed(host: str) -> bool:
    """Names and addresses of this machine and its private networks; an absent Host is allowed, as Ollama does."""
    name = _without_port(host).lower().rstrip(".")
    if not name or name == "localhost" or name.endswith(_SUFFIXES) or name == socket.gethostname().lower():
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    head, colon, port = host.rpartition(":")
    return head if colon and port.isdigit() and ":" not in head else host


def key_is_right(key: str, headers: Mapping[str, str]) -> bool:
    """Compares in constant time; always true where no key was set."""
    if not key:
        return True
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())
