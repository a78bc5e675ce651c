"""Adds the security headers, and CORS for origins the operator let in, to whatever the application answers."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

from app.gateway.paths import is_for_gateway
from app.gateway.request_names import HEADER, name_request, read_names
from app.gateway.security_headers import API_POLICY, COMMON, FEATURES, page_policy

_API = (*COMMON, (b"content-security-policy", API_POLICY.encode()))


_TOLD = (
    "X-Loupe-Cache, X-Loupe-Host, X-Loupe-Model, X-Loupe-Alias, X-Loupe-Context, X-Loupe-Request-Id, X-Request-Id, "
    "X-Loupe-Queue, Retry-After"
)


class Marks:
    """What is added to the answers to a request: the headers of the API, or those of a page. `foreign` is an allowed
    foreign Origin, if it asks."""

    __slots__ = ("_always", "_foreign", "_host", "_inline", "_names")

    def __init__(self, scope: Scope, request: Headers, inline: str, foreign: str | None) -> None:
        api = is_for_gateway(scope)
        self._always: tuple[tuple[bytes, bytes], ...] = _API if api else COMMON
        self._inline = None if api else inline
        self._foreign = foreign if api else None
        self._host = request["host"].lower()
        self._names = read_names(request.raw) if api else None

    def on(self, scope: Scope, send: Send) -> Send:
        """`send` that adds them, and the id of the request, which gets its name here."""
        name = None if self._names is None else name_request(scope, self._names)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add(message)
                if name is not None:
                    message["headers"].append((HEADER, name.shown.encode()))
            await send(message)

        return sending

    def _add(self, message: Message) -> None:
        present = dict(message["headers"])
        added = self._always
        if self._inline is not None and present.get(b"content-type", b"").startswith(b"text/html"):
            added = (*COMMON, FEATURES, (b"content-security-policy", page_policy(self._host, self._inline)))
        message["headers"] = [*message["headers"], *[pair for pair in added if pair[0] not in present]]
        if self._foreign is not None:
            _open_to(message, self._foreign)


def _open_to(message: Message, origin: str) -> None:
    headers = MutableHeaders(raw=message["headers"])
    headers["access-control-allow-origin"] = origin
    headers["access-control-expose-headers"] = _TOLD
    headers["cross-origin-resource-policy"] = "cross-origin"
    headers.add_vary_header("Origin")
