"""The HTTP side of the supervisor: calls, answers, streams, and noticing a client that leaves.

Plain ASGI. An error before the first byte of a stream has a real status; after it, it is one more line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from app.core.errors import BadRequest, Cancelled, LoupeError, PayloadTooLarge
from app.wire.ollama_answers import error_body

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

BODY_LIMIT = 64 << 20  # bytes; Ollama has no limit, and more than this is no request of a person
BODIES_LIMIT = 4 * BODY_LIMIT  # bytes of all the requests that are being read or answered
BODY_SECONDS = 60.0  # from a request's head to the end of its body, which comes from this machine
JSON = "application/json; charset=utf-8"
STREAM_ERROR = "application/json"  # as recorded: the stream had already set a type of its own
NDJSON = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Call:
    """One request: `tail` is what follows a route that ends in a slash.

    An upload has no `body`: its bytes are read as they come, with `pieces`.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    tail: str = ""
    receive: Receive | None = None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body, piece by piece. Raises `Cancelled` for a client that left meanwhile."""
        more = self.receive is not None
        while more and self.receive is not None:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Cancelled
            yield message.get("body", b"")
            more = bool(message.get("more_body"))


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 200
    body: bytes = b""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """A first item of a stream that turns out to be the whole answer (load, unload, render)."""

    body: bytes


@dataclass(frozen=True, slots=True)
class StreamForm:
    """How a stream is framed: its type, what ends a line, and how an error is told before and after its beginning."""

    content_type: str
    line_end: bytes
    refusal: Callable[[LoupeError, bool], Answer]  # and whether the error was late
    failure: Callable[[LoupeError], bytes]
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Stream:
    """Lines to be sent as they come. `late` is set once errors belong to the stream rather than to the request."""

    lines: AsyncGenerator[bytes | Whole, None]
    late: Callable[[], bool] = field(default=lambda: True)
    form: StreamForm = field(default_factory=lambda: NDJSON_FORM)


Handler = Callable[[Call], Awaitable[Answer | Stream]]


def json_answer(body: bytes, status: int = 200, content_type: str = JSON) -> Answer:
    return Answer(status, body, content_type)


def error_answer(error: LoupeError, content_type: str = JSON) -> Answer:
    headers: tuple[tuple[str, str], ...] = (("retry-after", f"{error.retry_after:.0f}"),) if error.retry_after else ()
    if isinstance(error, BodyTooSlow):
        headers = (("connection", "close"),)  # what still comes is no request
    return Answer(int(error.status), error_body(error.message), content_type, headers)


NDJSON_FORM: StreamForm = StreamForm(
    NDJSON,
    b"\n",
    lambda error, late: error_answer(error, STREAM_ERROR if late else JSON),
    lambda error: error_body(error.message) + b"\n",
)


class BodyTooSlow(BadRequest):
    """A body that does not end: half sent, or sent byte by byte."""

    status = 408
    code = "body_too_slow"

    def __init__(self) -> None:
        super().__init__(f"the request body did not arrive within {BODY_SECONDS:.0f} seconds; send it again")


class BodiesTooLarge(LoupeError):
    status = 503
    code = "bodies_too_large"
    retry_after = 1.0

    def __init__(self) -> None:
        super().__init__("the requests under way hold too much memory; try again when some of them have ended")


class Bodies:
    """Reads the bodies of requests. All those under way together hold at most `BODIES_LIMIT` bytes."""

    def __init__(self) -> None:
        self._held = 0

    @asynccontextmanager
    async def read(self, receive: Receive) -> AsyncIterator[bytes]:
        """The whole body, held until the request has ended.

        Raises `PayloadTooLarge`, `BodiesTooLarge`, `BodyTooSlow`, and `Cancelled` for a client that left meanwhile.
        What is still to come of a refused body is thrown away by the server as it comes.
        """
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    await self._gather(receive, parts)
            except TimeoutError:
                raise BodyTooSlow from None
            yield parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            self._held -= sum(map(len, parts))

    async def _gather(self, receive: Receive, parts: list[bytes]) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Cancelled
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            self._held += len(parts[-1])
            if size > BODY_LIMIT:
                raise PayloadTooLarge(BODY_LIMIT)
            if self._held > BODIES_LIMIT:
                raise BodiesTooLarge
            more = bool(message.get("more_body"))


class Responder:
    """Sends one answer with the headers that every answer of this server has."""

    def __init__(self, send: Send, common: tuple[tuple[bytes, bytes], ...], *, head: bool) -> None:
        self._send, self._common, self._head = send, common, head
        self.started = False

    async def answer(self, answer: Answer) -> None:
        await self._start(answer.status, answer.content_type, answer.headers, len(answer.body))
        await self._send({"type": "http.response.body", "body": b"" if self._head else answer.body})

    async def stream(self, stream: Stream) -> None:
        form = stream.form
        try:
            async with aclosing(stream.lines) as lines:
                async for line in lines:
                    if isinstance(line, Whole):
                        await self.answer(json_answer(line.body))
                        return
                    if not self.started:
                        await self._start(200, form.content_type, form.headers, None)
                    await self._send({"type": "http.response.body", "body": line + form.line_end, "more_body": True})
        except LoupeError as error:
            if not self.started:
                await self.answer(form.refusal(error, stream.late()))
                return
            await self._send({"type": "http.response.body", "body": form.failure(error), "more_body": True})
        if not self.started:
            await self._start(200, form.content_type, form.headers, None)
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(
        self, status: int, content_type: str, more: tuple[tuple[str, str], ...], length: int | None
    ) -> None:
        headers = [*self._common, *((name.encode(), value.encode("latin-1")) for name, value in more)]
        if content_type:
            headers.append((b"content-type", content_type.encode()))
        if length is not None and status != 204:
            headers.append((b"content-length", str(length).encode()))
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


async def unless_client_leaves(receive: Receive, work: Awaitable[None]) -> bool:
    """Runs `work`, and cancels it when the client closes its connection; False then."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        await work
    except asyncio.CancelledError:
        if not left or task.uncancel() > 0:
            raise
        return False
    finally:
        watcher.cancel()
    return True
