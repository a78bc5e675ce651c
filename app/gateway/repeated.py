"""A question that comes again byte for byte, and is in the cache, is answered in front of the routes.

Nothing of it is read anew: its bytes, with what it wants of cache and queue, lead to what was found out about them the
last time, and the bytes of the answer lie ready. What that rests on is looked at each time (`services/repeats`); where
anything is otherwise, unusual or new, the request goes to the routes as if there were nothing here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.connection_limits import WHOLE
from app.core.generation import GenerationRequest
from app.gateway.bodies import BodyTooSlow
from app.gateway.error_responses import JSON, report_bug, respond_to
from app.gateway.needs import GatewayServices, Lifecycle, flow_of, visitor_of
from app.gateway.request_names import name_of
from app.gateway.streaming import NDJSON
from app.services.cached_answer import StoredAnswer
from app.services.repeats import Repeat, Repeats, made_at, moment, stamp
from app.wire.answers import gather

PATHS = frozenset({"/api/chat", "/api/generate"})
BODY_LIMIT = 32 << 10  # bytes of a question; longer ones are read by the routes
ANSWER_LIMIT = 64 << 10  # bytes of an answer, which goes out at once: no more than a connection buffers
KEPT_LIMIT = 8 << 20  # bytes of questions and answers
_OVERHEAD = 2 << 10  # bytes of what is kept beside them
_LINES, _OBJECT = (b"content-type", NDJSON), (b"content-type", JSON.encode())
_REMEMBER = "loupe.remember"

Headers = tuple[tuple[bytes, bytes], ...]
_Question = tuple[str, str, Headers, bytes]  # path, who asks, our own headers, body


@dataclass(slots=True)
class _Known:
    """`parts` are the bytes of `answer`, around the moments at which its records were made; none if they are too long.
    `lines`: they are records of a stream."""

    repeat: Repeat
    streamed: bool
    answer: StoredAnswer | None = None
    parts: Sequence[bytes] = ()
    lines: bool = False

    def put_together(self, answer: StoredAnswer) -> None:
        self.answer, self.parts = answer, ()
        if answer.raw_size > ANSWER_LIMIT:
            return
        now = moment(answer.stored_at)
        chunks = [made_at(chunk, now) for chunk in answer.chunks]
        self.lines = self.streamed and not chunks[0].whole
        told = [chunk.line + b"\n" for chunk in chunks] if self.lines else [gather(self.repeat.endpoint, chunks)]
        self.parts = b"".join(told).split(stamp(now))

    @property
    def size(self) -> int:
        """Bytes, more or less."""
        return _OVERHEAD + sum(map(len, self.parts)) + (2 * self.answer.raw_size if self.answer else 0)


class RepeatedQuestions:
    """Wraps the gateway's routes; whoever answers a question from the cache calls `remember`."""

    def __init__(self, app: ASGIApp, services: GatewayServices, lifecycle: Lifecycle) -> None:
        self._app, self._lifecycle = app, lifecycle
        self._repeats = Repeats(
            services.cache, services.pool, services.telemetry, services.clock, services.aliases.find
        )
        self._usage = services.key_usage
        self._limit = min(BODY_LIMIT, services.settings.max_body)
        self._seconds = services.settings.body_seconds
        self._known: OrderedDict[_Question, _Known] = OrderedDict()
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (wants := self._wants(scope)) is None:
            return await self._app(scope, receive, send)
        if WHOLE in scope.get("state", ()):  # the connection says so: no clock need run
            message = await receive()
        else:
            try:
                async with asyncio.timeout(self._seconds):
                    message = await receive()
            except TimeoutError:
                return await respond_to(BodyTooSlow(self._seconds), scope["path"])(scope, receive, send)
        if message["type"] == "http.request" and not message.get("more_body"):
            question = (scope["path"], visitor_of(scope).principal, wants, message.get("body", b""))
            known = None if self._lifecycle.draining else self._known.get(question)
            answer = None if known is None else self._ready(question, known)
            if known is not None and answer is not None and self._usage.may_enter(question[1], known.repeat.model):
                return await self._answer(known, answer, scope, send)
            scope[_REMEMBER] = partial(self._remember, question)
        return await self._app(scope, _told_again(message, receive), send)

    def _wants(self, scope: Scope) -> Headers | None:
        """Our own headers, which say what a question wants; None for what is no short question."""
        if scope["type"] != "http" or scope["path"] not in PATHS or scope["method"] != "POST":
            return None
        wants: Headers = ()
        length = b""
        for pair in scope["headers"]:
            name = pair[0]
            if name == b"content-length":
                length = pair[1]
            elif name.startswith(b"x-loupe-"):
                wants += (pair,)
        return wants if length.isdigit() and int(length) <= self._limit else None

    def _ready(self, question: _Question, known: _Known) -> StoredAnswer | None:
        """The answer, whose bytes `known` then has. A bug in here costs nobody an answer."""
        try:
            answer = self._repeats.find(known.repeat)
            if answer is not None and known.answer is not answer:
                self._forget(question)
                known.put_together(answer)
                self._keep(question, known)
        except Exception:
            report_bug(question[0])
            return None
        self._known.move_to_end(question)
        return answer if known.parts else None

    async def _answer(self, known: _Known, answer: StoredAnswer, scope: Scope, send: Send) -> None:
        given, sent = self._repeats.count(answer, name_of(scope)), False
        body = stamp(moment(given.started_at)).join(known.parts)
        told = (
            (b"x-loupe-request-id", given.name.own.encode()), (b"x-loupe-cache", b"hit; age=%.0f" % given.age),
            (b"x-loupe-model", known.repeat.model.encode()),
        )  # fmt: skip
        headers = (_LINES, *told) if known.lines else (*told, (b"content-length", b"%d" % len(body)), _OBJECT)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            sent = True
        finally:
            self._repeats.finish(known.repeat, answer, given, flow_of(scope), sent=sent)

    def _remember(self, question: _Question, asked: GenerationRequest) -> None:
        self._forget(question)
        if (repeat := self._repeats.learn(asked, question[1])) is not None:
            self._keep(question, _Known(repeat, asked.stream))

    def _keep(self, question: _Question, known: _Known) -> None:
        self._known[question] = known
        self._bytes += len(question[3]) + known.size
        while self._bytes > KEPT_LIMIT:
            self._forget(next(iter(self._known)))

    def _forget(self, question: _Question) -> None:
        if (known := self._known.pop(question, None)) is not None:
            self._bytes -= len(question[3]) + known.size


def remember(scope: Scope, asked: GenerationRequest) -> None:
    """The question of this request has been answered from the cache."""
    if (note := scope.get(_REMEMBER)) is not None:
        note(asked)


def _told_again(message: Message, receive: Receive) -> Receive:
    """`receive` with the message that it has given away."""
    waiting = [message]

    async def receiving() -> Message:
        return waiting.pop() if waiting else await receive()

    return receiving
