"""HTTP to a worker: one request on one connection over loopback, with as little in between as can be.

A general client costs a millisecond of CPU a request and half of what the supervisor spends on a streamed token, of the
same cores that the worker computes on. What answers here is always llama.cpp's own server, on the same machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httptools

CONNECT_SECONDS = 5.0
_HELD = 1 << 20  # bytes that are kept for a slow reader before the worker has to wait


class WorkerSaysNothing(TimeoutError):
    """Nothing came for as long as was allowed, although the connection stands."""


class Exchange(asyncio.Protocol):
    """A request that was sent, and its answer as it comes. `silence` is seconds between two pieces at most."""

    def __init__(self, request: bytes, silence: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._request, self._silence = request, silence
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._error: Exception | None = None
        self._parts: list[bytes] = []
        self._held, self._heard, self._over = 0, 0.0, False
        self._status = 0

    # what comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)
        self._heard = self._loop.time()
        self._watch = self._loop.call_later(self._silence, self._check)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"the worker did not answer in HTTP: {error}"))
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over:
            self._fail(exc or ConnectionError("the worker closed the connection"))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self._held += len(body)
        if self._held > _HELD and self._transport is not None:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        self._over = True

    def _check(self) -> None:
        """One timer for the whole answer: to set one for every piece would cost more than the piece."""
        left = self._heard + self._silence - self._loop.time()
        if self._held > _HELD:
            left = self._silence  # it is we who do not listen
        if left <= 0:
            self._fail(WorkerSaysNothing())
        else:
            self._watch = self._loop.call_later(left, self._check)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # who waits for it

    async def status(self) -> int:
        """The status of the answer. Raises `OSError` (`ConnectionError`, `WorkerSaysNothing`) where none comes."""
        while not self._status:
            await self._more()
        return self._status

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises as `status` does for one that does not end."""
        while True:
            while not self._parts:
                if self._over:
                    return
                await self._more()
            data, self._parts = b"".join(self._parts), []
            if self._held > _HELD and self._transport is not None:
                self._transport.resume_reading()
                self._heard = self._loop.time()
            self._held = 0
            yield data

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """At once, whatever is left: this is how a slot becomes free."""
        self._over = True
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()


class WorkerAddress:
    """Where a worker listens, and the key it asks for."""

    def __init__(self, url: str, key: str) -> None:
        self.host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
        self.port, self.key = int(port), key

    @asynccontextmanager
    async def asked(self, method: str, path: str, body: bytes, silence: float) -> AsyncIterator[Exchange]:
        """The exchange of one request, closed at the end. Raises `OSError` where nobody takes the connection."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        exchange = Exchange(head.encode() + body, silence)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().create_connection(lambda: exchange, self.host, self.port)
            yield exchange
        finally:
            exchange.close()
