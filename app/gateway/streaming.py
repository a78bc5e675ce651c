"""Answers that come in pieces: the status is decided by the first piece, and a client that leaves ends the work.

Before the first piece an error is a status; after it, one record in the stream, and the stream ends. The host's lines
go out as its own bytes, each as soon as it is there; those that come together go together. The client is watched all
the time, also while the request waits in the queue and while a non-streaming answer is gathered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

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
READER_SECONDS = 10.0  # for which an answer, and with it a host's slot, waits for a reader whose buffer is full
TOGETHER = 32 << 10  # bytes of pieces that are here already, in one write
Headers = Mapping[str, str]
Piece = tuple[bytes, bool]  # what a piece of the answer becomes, and whether another one is here already
log = structlog.get_logger(__name__)


class WhileConnected:
    """A response whose work is cancelled when the client leaves; `work` does the sending."""

    def __init__(self, work: Callable[[Scope, Receive, Send], Awaitable[None]], lifecycle: Lifecycle) -> None:
        self._work, self._lifecycle = work, lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._lifecycle.admit()
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


@dataclass(frozen=True, slots=True)
class Form:
    """How one dialect writes an answer: what a piece of it becomes in a stream (empty where it becomes nothing), what
    tells of a failure in the middle, and the answer made of all pieces, with its type (of a stream that is one piece
    too)."""

    content_type: bytes
    piece: Callable[[Chunk], bytes]
    failure: Callable[[str], bytes]
    whole: Callable[[Sequence[Chunk]], Response]


def native(endpoint: Endpoint) -> Form:
    """/api/chat and /api/generate: the host's lines as they came."""
    return Form(
        NDJSON,
        lambda chunk: chunk.line + b"\n",
        lambda sentence: error_body("", 500, sentence) + b"\n",
        lambda chunks: Response(gather(endpoint, chunks), media_type=JSON),
    )


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


class Stream:
    """An answer on its way out. The connection takes a long answer whole (`connection_limits`); a reader for whom that
    is not enough, and who then stalls longer than `patience` seconds (at most `READER_SECONDS`), loses it and its slot.
    """

    def __init__(self, send: Send, path: str, patience: float, content_type: bytes = NDJSON) -> None:
        self._send, self.path, self._type = send, path, content_type
        self._patience = min(patience, READER_SECONDS)

    async def begin(self, headers: Headers) -> None:
        told = [(b"content-type", self._type), *_raw(headers)]
        start = {"type": "http.response.start", "status": 200, "headers": told}
        await self._send(start)

    async def write(self, piece: bytes) -> None:
        async with asyncio.timeout(self._patience):
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, last: bytes = b"") -> None:
        async with asyncio.timeout(self._patience):
            await self._send({"type": "http.response.body", "body": last, "more_body": False})


def generation(
    chunks: AsyncGenerator[Chunk, None], form: Form, *, stream: bool, headers: Callable[[], Headers], patience: float,
    lifecycle: Lifecycle,
) -> WhileConnected:  # fmt: skip
    """The response to a question. `headers` is asked when the first piece is there."""

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(chunks):
            first = await anext(chunks, None)
            if first is None:
                raise HostProtocolError("", "the answer is empty")
            if first.whole or not stream:
                answer = form.whole([first, *[chunk async for chunk in chunks]])
                answer.raw_headers[:0] = _raw(headers())
                await answer(scope, receive, send)
                return
            out = Stream(send, scope["path"], patience, form.content_type)
            await out.begin(headers())
            pieces = ((form.piece(chunk), chunk.more) async for chunk in chunks)
            await _relay((form.piece(first), first.more), pieces, out, form.failure, lifecycle)

    return WhileConnected(work, lifecycle)


async def _relay(
    first: Piece, rest: AsyncIterator[Piece], out: Stream, failure: Callable[[str], bytes], lifecycle: Lifecycle
) -> None:
    """All pieces. An error is one record in the stream, and ends it."""
    held, more = first
    try:
        if held and not more:
            await out.write(held)
            held = b""
        async for piece, more in rest:
            held += piece
            if held and (not more or len(held) > TOGETHER):
                await out.write(held)
                held = b""
    except LoupeError as error:
        held += failure(public_message(error))
    except asyncio.CancelledError:
        if not lifecycle.ending:
            raise
        held += failure(Draining().message)
    except TimeoutError:
        log.warning("reader stalled", path=out.path)
        return
    except Exception:
        held += failure(report_bug(out.path))
    try:
        await out.end(held)
    except TimeoutError:
        log.warning("reader stalled", path=out.path)


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
                first, out, form = await anext(records, None), Stream(send, scope["path"], patience), native("chat")
                await out.begin({})
                begun = b"" if first is None else first + b"\n"
                await _relay(
                    (begun, False), ((record + b"\n", False) async for record in records), out, form.failure, lifecycle
                )
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
