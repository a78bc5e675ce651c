"""Answers that come in pieces: the status is decided by the first piece, and a client that leaves ends the work.

Before the first piece an error is a status; after it, one record in the stream, and the stream ends. The host's lines
go out as its own bytes, one message each, so that every token is flushed by itself. The client is watched all the time,
also while the request waits in the queue and while a non-streaming answer is gathered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.core.errors import Draining, HostProtocolError, LoupeError
from app.core.generation import Chunk, Endpoint
from app.gateway.bodies import disconnected
from app.gateway.error_responses import JSON, error_body, public_message, report_bug
from app.gateway.needs import Lifecycle
from app.wire.answers import gather

NDJSON = b"application/x-ndjson"
Headers = Mapping[str, str]
log = structlog.get_logger(__name__)


class WhileConnected:
    """A response whose work is cancelled when the client leaves; `work` does the sending."""

    def __init__(self, work: Callable[[Scope, Receive, Send], Awaitable[None]], lifecycle: Lifecycle) -> None:
        self._work, self._lifecycle = work, lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._lifecycle.draining:
            raise Draining
        work = asyncio.ensure_future(self._work(scope, receive, send))
        gone = asyncio.ensure_future(disconnected(receive))
        with self._lifecycle.working(work):
            try:
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                if not work.done():
                    work.cancel()
                    await asyncio.wait({work})
        if not work.cancelled():
            work.result()
        elif self._lifecycle.ending and not gone.done():
            raise Draining  # else nobody is left to be told


class Lines:
    """NDJSON on its way out. A reader that stalls longer than `patience` seconds loses the connection and its slot."""

    def __init__(self, send: Send, path: str, patience: float) -> None:
        self._send, self.path, self._patience = send, path, patience
        self.started = False

    async def begin(self, headers: Headers) -> None:
        pairs = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", NDJSON), *pairs]})

    async def write(self, line: bytes) -> None:
        async with asyncio.timeout(self._patience):
            await self._send({"type": "http.response.body", "body": line + b"\n", "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, sentence: str) -> None:
        """The one error record that ends a stream."""
        await self.write(error_body(self.path, 500, sentence))
        await self.end()


def generation(
    chunks: AsyncGenerator[Chunk, None], endpoint: Endpoint, *, stream: bool, headers: Callable[[], Headers],
    patience: float, lifecycle: Lifecycle,
) -> WhileConnected:  # fmt: skip
    """The response of /api/chat and /api/generate. `headers` is asked when the first piece is there."""

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(chunks):
            first = await anext(chunks, None)
            if first is None:
                raise HostProtocolError("", "the answer is empty")
            if first.whole or not stream:
                rest = [chunk async for chunk in chunks]
                body = gather(endpoint, [first, *rest])
                await Response(body, headers=headers(), media_type=JSON)(scope, receive, send)
                return
            lines = Lines(send, scope["path"], patience)
            await lines.begin(headers())
            await lines.write(first.line)
            await _relay((chunk.line async for chunk in chunks), lines, lifecycle)

    return WhileConnected(work, lifecycle)


async def _relay(pieces: AsyncIterator[bytes], lines: Lines, lifecycle: Lifecycle) -> None:
    """What follows the first piece. From here on every error is a record in the stream."""
    try:
        async for piece in pieces:
            await lines.write(piece)
    except LoupeError as error:
        await lines.fail(public_message(error))
    except asyncio.CancelledError:
        if not lifecycle.ending:
            raise
        await lines.fail(Draining().message)
    except TimeoutError:
        log.warning("reader stalled", path=lines.path)
    except Exception:
        await lines.fail(report_bug(lines.path))
    else:
        await lines.end()


def progress(
    records: AsyncGenerator[bytes, None], *, stream: bool, patience: float, lifecycle: Lifecycle,
    after: Callable[[], None],
) -> WhileConnected:  # fmt: skip
    """The response of pull, create and push: the host's records, or (not streamed) the last one of them.

    `after` is called when the work ended, however it ended.
    """

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(records):
                if not stream:
                    await (await _last_record(records))(scope, receive, send)
                    return
                first, lines = await anext(records, None), Lines(send, scope["path"], patience)
                await lines.begin({})
                if first is not None:
                    await lines.write(first)
                await _relay(records, lines, lifecycle)
        finally:
            after()

    return WhileConnected(work, lifecycle)


async def _last_record(records: AsyncGenerator[bytes, None]) -> Response:
    """An error record is a 500, as Ollama's waitForStream has it (pull_plain, create_not_stream)."""
    last = b""
    async for record in records:
        last = record
    failed = last.startswith(b'{"error"')
    return Response(last, 500 if failed else 200, {"content-type": JSON if failed else "application/json"})
