"""Server-sent events: batches of JSON values on their way to one client, until it leaves or the server goes down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import structlog
from starlette.types import Receive, Scope, Send

from app.core.generation import Json
from app.gateway.bodies import disconnected
from app.gateway.needs import Lifecycle
from app.wire.framing import sse_event
from app.wire.go_json import dumps

BEAT = 1.0  # seconds between two looks whether the server goes down
SIGN_OF_LIFE = 15  # beats without news after which a comment is sent, so that nothing between takes the line for dead
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
log = structlog.get_logger(__name__)


class EventFeed:
    """An ASGI application. A reader that stalls longer than `patience` seconds is hung up on. A feed is no work that a
    shutdown would wait for."""

    def __init__(
        self, event: str, batches: AsyncGenerator[Sequence[Json], None], lifecycle: Lifecycle, *, patience: float
    ) -> None:
        self._event, self._batches, self._lifecycle, self._patience = event, batches, lifecycle, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._feed(send, gone)
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            log.warning("reader stalled", path=scope["path"])
        finally:
            gone.cancel()
            await self._batches.aclose()

    async def _feed(self, send: Send, gone: asyncio.Future[None]) -> None:
        quiet = 0
        coming = asyncio.ensure_future(anext(self._batches))
        try:
            while not self._lifecycle.draining:
                watched: set[asyncio.Future[Any]] = {coming, gone}
                await asyncio.wait(watched, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
                quiet += 1
                if coming.done():
                    quiet = 0
                    await self._write(send, b"".join(sse_event(dumps(one), self._event) for one in coming.result()))
                    coming = asyncio.ensure_future(anext(self._batches))
                elif quiet >= SIGN_OF_LIFE:
                    quiet = 0
                    await self._write(send, b": still here\n\n")
        finally:
            coming.cancel()
            await asyncio.wait({coming})

    async def _write(self, send: Send, data: bytes) -> None:
        async with asyncio.timeout(self._patience):
            await send({"type": "http.response.body", "body": data or b": none\n\n", "more_body": True})
