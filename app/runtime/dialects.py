"""The /v1 routes: requests of OpenAI's and Anthropic's clients, answered by the native handlers.

A request is turned into a native one, the native handler answers it, and its records are turned back (app/wire).
An error keeps its status. Source: protocol 5 and the recordings v1_*.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace

from app.core.errors import GenerationFailed, LoupeError, NotAllowed
from app.core.generation import Json
from app.runtime.web import JSON, Answer, Call, Handler, Stream, StreamForm, Whole, error_answer
from app.wire import openai_answers, v1
from app.wire.answers import parse_object
from app.wire.dialects import EVENTS, BuiltinToolFailed, Content, Endpoint, Exchange
from app.wire.dialects import JSON as PLAIN_JSON
from app.wire.go_json import dumps
from app.wire.model_names import parse_reference
from app.wire.v1 import DIALECTS, Dialect

MODELS = "/v1/models/"
BROKEN_OFF = "an error was encountered while running the model: unexpected EOF"
_LARGE = 1 << 18  # bytes of an answer that takes longer to turn than a stream should wait

Inspect = Callable[[Call], Awaitable[Answer]]


class Dialects:
    """Handlers of the routes under /v1. `native` has the handler of each native route that they are answered by."""

    def __init__(self, native: Mapping[Endpoint, Handler], tags: Inspect, show: Inspect) -> None:
        self._native, self._tags, self._show = native, tags, show

    def routes(self) -> dict[str, dict[str, Handler]]:
        """The routes with a fixed path."""
        posts: dict[str, dict[str, Handler]] = {path: {"POST": self._handler(path)} for path in DIALECTS}
        return posts | {"/v1/models": {"GET": self.models}}

    async def models(self, call: Call) -> Answer:
        return await self._inspected(self._tags(call), openai_answers.models)

    async def model(self, call: Call) -> Answer:
        """One model, named by the tail of the path."""
        name = call.tail
        if refusal := _cloud_refusal(name.strip(), "remote model details are unavailable"):
            return refusal
        asked = replace(call, body=dumps({"model": name}))
        return await self._inspected(self._show(asked), lambda shown: openai_answers.one_model(shown, name))

    async def _inspected(self, answer: Awaitable[Answer], told: Callable[[Mapping[str, Json]], Content]) -> Answer:
        try:
            return _answer(told(parse_object((await answer).body)))
        except LoupeError as error:
            return presented(MODELS, error, PLAIN_JSON)

    def _handler(self, path: str) -> Handler:
        dialect = DIALECTS[path]

        async def handle(call: Call) -> Answer | Stream:
            return await self._handle(dialect, call)

        return handle

    async def _handle(self, dialect: Dialect, call: Call) -> Answer | Stream:
        try:
            v1.check_encoding(call.headers.get("content-encoding", ""))
            if dialect.is_json:
                refusal = _cloud_refusal(v1.named_model(call.body), "remote inference is unavailable")
                if refusal is not None:
                    return refusal
            exchange = dialect.read(call.body, call.headers.get("content-type", ""))
        except LoupeError as error:
            return presented(call.path, error)
        native = exchange.native
        if exchange.relaxes_thinking and native.get("think") and not await self._thinks(call, native):
            del native["think"]
        try:
            answer = await self._native[exchange.endpoint](replace(call, body=dumps(native)))
        except LoupeError as error:
            return presented(call.path, error, PLAIN_JSON)
        if isinstance(answer, Stream):
            return Stream(_events(answer, exchange), form=_form(call.path, dialect, exchange))
        if len(answer.body) > _LARGE:  # thousands of vectors: whoever streams meanwhile must not stand still
            return await asyncio.to_thread(_whole, answer, exchange, call.path)
        return _whole(answer, exchange, call.path)

    async def _thinks(self, call: Call, native: Mapping[str, Json]) -> bool:
        """Whether the model can think; also true where there is no such model: chat says so in its own words."""
        try:
            shown = parse_object((await self._show(replace(call, body=dumps({"model": native["model"]})))).body)
        except LoupeError:
            return True
        capabilities = shown.get("capabilities")
        return isinstance(capabilities, list) and "thinking" in capabilities


def presented(path: str, error: LoupeError, content_type: str = JSON) -> Answer:
    """An error in the dialect of `path`. Ollama's handlers end it with a newline, what comes before them does not."""
    body = v1.error_of(path)(int(error.status), error.message)
    plain = error_answer(error, content_type)
    return replace(plain, body=body + b"\n" if content_type == PLAIN_JSON else body)


def _cloud_refusal(name: str, what: str) -> Answer | None:
    """Models of Ollama's cloud are refused before the dialect is looked at, in the native shape."""
    try:
        parse_reference(name, feature=what)
    except NotAllowed as error:
        return error_answer(error)
    except LoupeError:
        return None  # the native handler says what is wrong with the name
    return None


def _answer(content: Content) -> Answer:
    return Answer(200, content.body, content.type)


def _whole(answer: Answer, exchange: Exchange, path: str) -> Answer:
    record = parse_object(answer.body)
    if exchange.streamed:  # one record that is the whole answer (load, render)
        return Answer(200, exchange.events(record), EVENTS, DIALECTS[path].stream_headers)
    try:
        return _answer(exchange.whole(record))
    except BuiltinToolFailed as error:
        return Answer(error.status, v1.error_of(path)(error.status, error.message) + b"\n", PLAIN_JSON)


async def _events(native: Stream, exchange: Exchange) -> AsyncGenerator[bytes | Whole, None]:
    """The events of a native stream. One that ends without its last record raises: nobody may take it for whole."""
    ended = False
    async with aclosing(native.lines) as lines:
        async for line in lines:
            whole = isinstance(line, Whole)
            record = parse_object(line.body if isinstance(line, Whole) else line)
            ended = ended or whole or record.get("done") is True
            if events := exchange.events(record):
                yield events
    if not ended:
        raise GenerationFailed("worker", BROKEN_OFF)


def _form(path: str, dialect: Dialect, exchange: Exchange) -> StreamForm:
    return StreamForm(
        EVENTS,
        b"",
        lambda error, _late: presented(path, error, PLAIN_JSON),
        lambda error: exchange.broken(error.message),
        dialect.stream_headers,
    )
