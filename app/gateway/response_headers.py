"""Adds the security headers, and CORS for origins the operator let in, to whatever the application answers."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

from app.gateway.paths import is_for_gateway
from app.gateway.security_headers import API_POLICY, COMMON, FEATURES, page_policy

_API = (*COMMON, (b"content-security-policy", API_POLICY.encode()))


def with_headers(scope: Scope, send: Send, request: Headers, inline: str, foreign: str | None) -> Send:
    """`send` with the headers of an API answer or of a page. `foreign` is an allowed foreign Origin, if it asks."""
    if scope["type"] != "http":
        return send
    api = is_for_gateway(scope)
    host = request["host"].lower()

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = dict(message["headers"])
            added: tuple[tuple[bytes, bytes], ...] = _API if api else COMMON
            if not api and present.get(b"content-type", b"").startswith(b"text/html"):
                added = (*COMMON, FEATURES, (b"content-security-policy", page_policy(host, inline)))
            message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in present)]
            if api and foreign is not None:
                _open_to(message, foreign)
        await send(message)

    return sending


def _open_to(message: Message, origin: str) -> None:
    headers = MutableHeaders(raw=message["headers"])
    headers["access-control-allow-origin"] = origin
    headers["access-control-expose-headers"] = "X-Loupe-Cache, X-Loupe-Host, X-Loupe-Request-Id, Retry-After"
    headers["cross-origin-resource-policy"] = "cross-origin"
    headers.add_vary_header("Origin")
