"""The way of a request through an alias: to the first model that can answer, to the next ones where that fails.

A fallback steps in before the first piece of the answer and never after it: where a model is not there, no host that
has it answers, it cannot be loaded, or the host fails. The client's own mistakes, a full queue, and what nobody can
mend go back as they are. Every dialect and page comes by here, before cache and queue: what these see is the model that
answers, so an alias that is switched never gives an answer of the model that it meant before.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Protocol, TypeVar

from app.core.errors import (
    BadRequest,
    HostError,
    HostRefused,
    HostUnreachable,
    LoupeError,
    ModelNotFound,
    ModelNotLocal,
    NoHealthyHost,
)
from app.core.generation import Chunk, GenerationRequest
from app.core.hosts import RawAnswer
from app.services.alias_targets import AliasTargets, Stop, Tried, nobody
from app.services.alias_values import Alias, Guard, with_defaults
from app.services.host_pool import HostPool
from app.services.queueing.tickets import measures
from app.services.telemetry import Overflow, Route, Trace
from app.wire.answers import error_text
from app.wire.go_json import dumps, loads

LOOK_SECONDS = 0.5  # how often it is looked whether the only host that may answer is still there
FAILED = (404, 500, 502, 503, 504)  # statuses of an answer that is no generation, after which another model is asked
CUT_SINCE = (0, 12, 4)  # Ollama takes `truncate` from here on; before that the guard can only estimate
_COUNTED = re.compile(r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)")
_UNCOUNTED = ("longer than the context length", "exceeds the context length", "exceed_context_size_error")


class RoutedCaller(Protocol):
    """What is needed of `services.chat.Caller`, which imports this module."""

    host: str
    trace: Trace
    assumed: tuple[str, ...]


Asker = TypeVar("Asker", bound=RoutedCaller)


class ContextExceeded(BadRequest):
    """The prompt has more tokens than the context holds. `tokens` is None where the host did not count them."""

    code = "context_exceeded"

    def __init__(self, alias: str, model: str, over: Overflow) -> None:
        about, more = "about " if over.estimated else "", f" (at least {over.tokens + 1})" if over.tokens else ""
        has = f"the prompt has {about}{over.tokens} tokens" if over.tokens else "the prompt has too many tokens"
        holds = f"the context holds {over.limit}" if over.limit else "the context does not hold them"
        super().__init__(
            f"{has} and {holds} ({alias}: {model}): it would have been cut without a word. Shorten it, or ask for a "
            f"larger options.num_ctx{more}; the alias can be given one, and guard=warn lets such a prompt be cut.",
            "messages",
        )
        self.tokens, self.limit = over.tokens, over.limit


Way = Callable[[GenerationRequest, Asker], Awaitable[AsyncGenerator[Chunk, None]]]
Send = Callable[[str, bytes, Asker], Awaitable[RawAnswer]]


def may_fall_back(error: LoupeError) -> bool:
    """Whether another model may do better."""
    match error:
        case HostRefused():
            return error.status in (404, 429) or error.status >= 500
        case ModelNotFound() | ModelNotLocal() | NoHealthyHost() | HostError():
            return True
        case _:
            return False


class AliasRoute:
    """`estimate` gives the tokens that so many characters make, about."""

    def __init__(
        self, find: Callable[[str], Alias | None], targets: AliasTargets, pool: HostPool,
        estimate: Callable[[int], int],
    ) -> None:  # fmt: skip
        self.find = find
        self._targets, self._pool, self._estimate = targets, pool, estimate

    async def answer(
        self, alias: Alias, request: GenerationRequest, caller: Asker, way: Way[Asker]
    ) -> AsyncGenerator[Chunk, None]:
        """Raises `NoTargetAnswers` where it points at several models and none can, and what `way` raises."""
        trace, began, tried = caller.trace, caller.trace.elapsed, list[Tried]()
        async with aclosing(self._open(alias, tried)) as stops:
            async for place, stop in stops:
                told = self._prepared(alias, (place, stop), request, caller, tried)
                forwarded = False
                try:
                    async with aclosing(self._guarded(alias, stop, told, _at(caller, stop), way)) as chunks:
                        async for chunk in chunks:
                            if not forwarded:
                                forwarded = True
                                _note(trace, began)
                            yield chunk
                    return
                except LoupeError as error:
                    if forwarded or not may_fall_back(error):
                        raise
                    tried.append(Tried(stop, error))
        raise nobody(alias, tried)

    async def forward(self, alias: Alias, body: bytes, caller: Asker, path: str, send: Send[Asker]) -> RawAnswer:
        """The same for work that is no generation. The host's last word is passed on where no model does better."""
        told = loads(body)
        request = GenerationRequest("generate", told if isinstance(told, dict) else {})
        tried, last = list[Tried](), None
        async with aclosing(self._open(alias, tried)) as stops:
            async for place, stop in stops:
                plain = replace(stop, defaults=replace(stop.defaults, system="", think=None))
                asked = self._prepared(alias, (place, plain), request, caller, tried)
                try:
                    answer = await self._sent(alias, stop, asked, _at(caller, stop), path, send)
                except LoupeError as error:
                    if not may_fall_back(error):
                        raise
                    tried.append(Tried(stop, error))
                    continue
                if answer.status not in FAILED:
                    return answer
                last = answer
                text = error_text(answer.body) or f"it answered {answer.status}"
                tried.append(Tried(stop, HostRefused(caller.trace.host, answer.status, text, answer.body)))
        if last is not None and len(tried) == 1:
            return last
        raise nobody(alias, tried)

    async def _open(self, alias: Alias, tried: list[Tried]) -> AsyncGenerator[tuple[int, Stop], None]:
        """The models to ask with their places, in order; those that cannot answer go to `tried`. Where it is open
        whether a host comes back, the others go first."""
        waiting, down = [], None
        for place, stop in enumerate(await self._targets.stops(alias), 1):
            if down is None or self._pool.slots:  # else each one would ask all hosts anew
                problem = await self._targets.hindrance(stop)
                down = problem if isinstance(problem, NoHealthyHost) else None
            else:
                problem = down
            if problem is None and self._targets.sure(stop):
                yield place, stop
                continue
            if problem is None:
                problem = NoHealthyHost({stop.text: "its host was lost a moment ago, or is starting"})
                waiting.append((place, stop))
            tried.append(Tried(stop, problem))
        for place, stop in waiting:
            tried[:] = [one for one in tried if one.stop is not stop]
            yield place, stop

    def _prepared(
        self, alias: Alias, found: tuple[int, Stop], request: GenerationRequest, caller: Asker, tried: Sequence[Tried]
    ) -> GenerationRequest:
        """The request for this model; the trace knows which one it is, and why not another."""
        trace, (place, stop) = caller.trace, found
        trace.model = stop.model
        reason = "; ".join(f"{one.stop.text}: {one.error.message}" for one in tried)
        trace.route = Route(alias.name, place, reason)
        return with_defaults(
            request, stop.model, stop.defaults, caller.assumed, thinks=self._pool.can(stop.model, "thinking")
        )

    # -- one model ------------------------------------------------------------------------------------------------

    async def _guarded(
        self, alias: Alias, stop: Stop, request: GenerationRequest, caller: Asker, way: Way[Asker]
    ) -> AsyncGenerator[Chunk, None]:
        """The host is told not to cut: it counts, and refuses what does not fit, before anything is generated."""
        if not _is_guarded(alias, request):
            async with aclosing(self._watched(stop, request, caller, way)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        over, forwarded = self._foreseen(stop, request), False
        if over is None:
            try:
                async with aclosing(self._watched(stop, request.with_body(truncate=False), caller, way)) as chunks:
                    async for chunk in chunks:
                        forwarded = True
                        yield chunk
                return
            except LoupeError as error:
                over = overflow_of(error, request.num_ctx)
                if forwarded or over is None:
                    raise
        self._told(alias, stop, caller, over)
        async with aclosing(self._watched(stop, request, caller, way)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _sent(
        self, alias: Alias, stop: Stop, request: GenerationRequest, caller: Asker, path: str, send: Send[Asker]
    ) -> RawAnswer:
        body = dumps(dict(request.body))
        if path != "/api/embed" or alias.guard is Guard.OFF or request.body.get("truncate") is not None:
            return await send(stop.model, body, caller)
        answer = await send(stop.model, dumps({**request.body, "truncate": False}), caller)
        if answer.status < 400:
            return answer
        refused = HostRefused(caller.trace.host, answer.status, error_text(answer.body) or "", answer.body)
        over = overflow_of(refused, request.num_ctx)
        if over is None:
            return answer
        self._told(alias, stop, caller, over)
        return await send(stop.model, body, caller)

    def _told(self, alias: Alias, stop: Stop, caller: Asker, over: Overflow) -> None:
        """Raises `ContextExceeded`, or lets it be cut and remembers that it was."""
        if alias.guard is Guard.REFUSE:
            raise ContextExceeded(alias.name, stop.model, over)
        if caller.trace.route is not None:
            caller.trace.route = replace(caller.trace.route, cut=over)

    def _foreseen(self, stop: Stop, request: GenerationRequest) -> Overflow | None:
        """For hosts from before `truncate`: by an estimate, where the context is known."""
        if request.num_ctx is None or not self._pool.older(stop.model, CUT_SINCE):
            return None
        tokens = self._estimate(measures(request)[0])
        return Overflow(tokens, request.num_ctx, estimated=True) if tokens > request.num_ctx else None

    async def _watched(
        self, stop: Stop, request: GenerationRequest, caller: Asker, way: Way[Asker]
    ) -> AsyncGenerator[Chunk, None]:
        """Where one host only may answer, waiting for its slot ends when it is lost: others would be asked."""
        async with aclosing(await way(request, caller)) as chunks:
            first = await (self._first(stop, chunks) if stop.host else anext(chunks, None))
            if first is not None:
                yield first
                async for chunk in chunks:
                    yield chunk

    async def _first(self, stop: Stop, chunks: AsyncGenerator[Chunk, None]) -> Chunk | None:
        work = asyncio.ensure_future(anext(chunks, None))
        try:
            while not (await asyncio.wait({work}, timeout=LOOK_SECONDS))[0]:
                if not self._pool.offers(stop.model, stop.host):
                    raise HostUnreachable(stop.host, "it went away before it answered")
            return work.result()
        finally:
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError, LoupeError):
                    await work


def overflow_of(error: LoupeError, asked: int | None) -> Overflow | None:
    """What a host says of a prompt that it must not cut (recorded: generate_long_no_truncate); None for other errors.

    Newer hosts tell how many tokens it has and how many fit; else the limit is what was `asked` for.
    """
    if not isinstance(error, HostRefused) or error.status not in (400, 500):
        return None
    text = error.message
    with suppress(ValueError):
        inner = json.loads(text)
        told = inner.get("error") if isinstance(inner, dict) else None
        if isinstance(told, dict) and isinstance(told.get("n_prompt_tokens"), int):
            limit = told.get("n_ctx")
            return Overflow(told["n_prompt_tokens"], limit if isinstance(limit, int) else asked)
    if found := _COUNTED.search(text):
        return Overflow(int(found[1]), int(found[2]))
    return Overflow(None, asked) if any(words in text for words in _UNCOUNTED) else None


def _is_guarded(alias: Alias, request: GenerationRequest) -> bool:
    """A client that says itself what is to be done is left to it."""
    own = request.body.get("truncate") is not None or request.body.get("_debug_render_only") is True
    return alias.guard is not Guard.OFF and not own and not request.is_load_or_unload


def _at(caller: Asker, stop: Stop) -> Asker:
    return replace(caller, host=stop.host) if stop.host else caller  # type: ignore[type-var]


def _note(trace: Trace, began: float) -> None:
    """A span for the page and the log: what the name led to."""
    route = trace.route
    if route is None:
        return
    more: dict[str, str | int | float | bool] = {"reason": route.reason} if route.reason else {}
    if route.cut is not None:
        more |= {"cut": True, "tokens": route.cut.tokens or 0, "limit": route.cut.limit or 0}
    trace.add_span("alias", began, began, alias=route.alias, model=trace.model, place=route.place, **more)
