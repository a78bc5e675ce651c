"""A registry on loopback that takes uploads, as a private one without a sign-in does."""

from __future__ import annotations

import asyncio
import hashlib
import re
from urllib.parse import parse_qs

from tests.stub_ollama import Receive, Scope, Send
from tests.stub_registry import Seen, StubRegistry

_UPLOAD = re.compile(r"/v2/(?P<model>[^/]+/[^/]+)/blobs/uploads/(?P<id>\d*)")
_MANIFEST = re.compile(r"/v2/(?P<model>[^/]+/[^/]+)/manifests/(?P<tag>[^/]+)")


class OpenRegistry(StubRegistry):
    """`refuse` answers a method ("POST", "PATCH", "PUT") with a status; `deaf` reads no part any more."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse: dict[str, int] = {}
        self.deaf = False
        self.left = asyncio.Event()
        self.parts: list[str] = []  # the Content-Range of each
        self._uploads: list[bytearray] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method in ("GET", "HEAD"):
            await super().__call__(scope, receive, send)
            return
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        self.requests.append(Seen(method, scope["path"], headers, None, scope["query_string"].decode()))
        if method == "PATCH" and self.deaf:
            await self.left.wait()
            return
        body = await _body(receive)
        status = self.refuse.get(method) or self._take(method, scope["path"], scope["query_string"].decode(), body)
        self.parts += [headers["content-range"]] if method == "PATCH" else []
        location = f"/v2/library/any/blobs/uploads/{len(self._uploads) - 1}?state=a%2Fb".encode()
        raw = [(b"location", location)] if status == 202 else []
        await send({"type": "http.response.start", "status": status, "headers": [*raw, (b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def _take(self, method: str, path: str, query: str, body: bytes) -> int:
        if (found := _MANIFEST.fullmatch(path)) and method == "PUT":
            self.manifests[found["model"], found["tag"]] = body
            return 201
        found = _UPLOAD.fullmatch(path)
        assert found is not None, path
        if method == "POST":
            self._uploads.append(bytearray())
            return 202
        assert parse_qs(query)["state"] == ["a/b"], "what the registry said of the place is sent back as it was"
        content = self._uploads[int(found["id"])]
        content += body
        if method == "PATCH":
            return 202
        digest = parse_qs(query)["digest"][0]
        if digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
            return 400
        self.blobs[digest] = bytes(content)
        return 201


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
