"""uvicorn's HTTP protocol with the two bounds it lacks: how long a request's head may take, and how large it may be.

Without them a silent connection, half a header or a trickle of bytes stays open for ever and costs a connection each.
And an answer whose head and first piece are there together leaves in one packet: two of them wake the client twice.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
HEAD_BYTES = 64 << 10
WHOLE = "whole"  # in the state of a request whose body is here to its last byte: reading it waits for nothing


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request head is not complete in time, or too large."""

    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport: Any = JoinedWrites(transport)
        self._await_head()

    def handle_websocket_upgrade(self) -> None:
        self.transport = self.transport.inner
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_is_there()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.scope["state"][WHOLE] = True

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._head_bytes > HEAD_BYTES:
                self.send_400_response("Request head too large.")
                return
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._deadline is None:
            self._await_head()  # a head that has come whole, as most do, needs no timer

    def _await_head(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._too_slow)

    def _head_is_there(self) -> None:
        self._in_head, self._head_bytes = False, 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self.transport.close()


class JoinedWrites:
    """A transport in which an answer's head waits for its first piece, for no longer than this turn of the loop."""

    def __init__(self, inner: asyncio.Transport) -> None:
        self.inner = inner
        self.is_closing = inner.is_closing
        self._loop = asyncio.get_running_loop()
        self._head = b""
        self._turn: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        if self._head:
            self.inner.write(self._take() + data)
        elif data.startswith(b"HTTP/1.1 "):
            self._head, self._turn = data, self._loop.call_soon(self._let_go)
        else:
            self.inner.write(data)

    def close(self) -> None:
        self._let_go()
        self.inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _take(self) -> bytes:
        head, self._head = self._head, b""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        return head

    def _let_go(self) -> None:
        if self._head:
            self.inner.write(self._take())
