"""One answer of one pane: asked the way every request goes, measured, and what the host says about it noted down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from app.comparison.rounds import PaneAnswer
from app.core.conversations import Answer, MessageState
from app.core.errors import LoupeError
from app.core.generation import Chunk, GenerationRequest
from app.core.hosts import HostSeats, HostStatus
from app.services.chat import Caller
from app.services.energy import NO_COUNTER, EnergyMeter, drawn
from app.services.host_pool import PooledLoad
from app.services.telemetry import Trace
from app.services.watched_host import canonical

PS_SECONDS = 2.0  # for which a finished pane waits for what its host says to have loaded
LOOK_SECONDS = 0.1  # between two looks whether the host works on something else, too, while no piece comes


class Asks(Protocol):
    """The part of `ChatService` that is used."""

    def ask(self, request: GenerationRequest, caller: Caller) -> AsyncIterator[Chunk]: ...


class Loads(Protocol):
    """The part of the host pool that is used."""

    def seats(self) -> Sequence[HostSeats]: ...

    def statuses(self) -> Sequence[HostStatus]: ...

    async def ps(self) -> Sequence[PooledLoad]: ...


@dataclass(slots=True)
class _Seen:
    """What was seen beside an answer while it was made."""

    shared: bool = False
    joules: float | None = None
    no_joules: str = NO_COUNTER
    loads: asyncio.Task[Sequence[PooledLoad]] | None = None  # what was loaded when the first words came


class PaneAsker:
    def __init__(self, chat: Asks, pool: Loads, energy: EnergyMeter) -> None:
        self._chat, self._pool, self._energy = chat, pool, energy

    async def ask(self, request: GenerationRequest, caller: Caller) -> AsyncGenerator[PaneAnswer, None]:
        """The answer as it grows; the last one is complete. Raises `LoupeError`s."""
        cold = not self._warm(request.model)
        answer = PaneAnswer(answer=Answer(model=request.model), cold=cold)
        trace = caller.trace
        async with self._watching(trace) as seen, aclosing(cast(Any, self._chat.ask(request, caller))) as chunks:
            async for chunk in chunks:
                seen.shared = seen.shared or self._crowded(trace.host)
                if seen.loads is None and chunk.text:
                    seen.loads = asyncio.create_task(self._loads(), name="memory of a pane")
                answer = taken(answer, chunk)
                yield answer
        answer = measured(answer, trace)
        joined = trace.cache.outcome == "joined"
        answer = replace(answer, state=MessageState.COMPLETE, shared=seen.shared, joined=joined)
        if answer.answer.cached:
            yield replace(answer, cold=False, no_joules="it came out of the cache")
            return
        joules, why = (None, "the host worked on something else, too") if seen.shared else (seen.joules, seen.no_joules)
        if joules is not None and not self._is_here(trace.host):
            joules, why = None, "its host is another machine"
        answer = replace(answer, joules=joules, no_joules="" if joules else why)
        yield await self._with_memory(answer, seen.loads)

    def _warm(self, model: str) -> bool:
        return any(canonical(model) in seat.loaded for seat in self._pool.seats())

    def _is_here(self, host: str) -> bool:
        return any(status.address.here for status in self._pool.statuses() if status.address.name == host)

    @asynccontextmanager
    async def _watching(self, trace: Trace) -> AsyncGenerator[_Seen, None]:
        seen = _Seen()
        watcher = asyncio.create_task(self._watch(trace, seen), name="beside a pane")
        before, finished = await self._energy.read(), False
        try:
            yield seen
            seen.joules, finished = drawn(before, await self._energy.read()), True
        finally:
            watcher.cancel()
            if seen.loads is not None and not finished:
                seen.loads.cancel()

    async def _watch(self, trace: Trace, seen: _Seen) -> None:
        while not seen.shared:
            await asyncio.sleep(LOOK_SECONDS)
            seen.shared = self._crowded(trace.host)

    def _crowded(self, host: str) -> bool:
        """Whether another request has a slot there, too."""
        return any(status.busy_slots > 1 for status in self._pool.statuses() if status.address.name == host)

    async def _with_memory(self, answer: PaneAnswer, then: asyncio.Task[Sequence[PooledLoad]] | None) -> PaneAnswer:
        """As the host reported it while it wrote (`then`), or reports it now. One that does not say leaves it unknown:
        Ollama holds the answer back while it loads another model, and by then this one may be gone."""
        loads: Sequence[PooledLoad] = ()
        if then is not None:
            await asyncio.wait({then}, timeout=PS_SECONDS)
            loads = then.result() if then.done() and not then.cancelled() else ()
        name, host = canonical(answer.answer.model), answer.answer.host
        for told in (loads, () if loads else await self._loads()):
            for load in told:
                if load.host == host and canonical(load.model.name) == name:
                    model = load.model
                    return replace(
                        answer, memory=model.size, vram=model.size_vram, context=model.context_length or None
                    )
        return answer

    async def _loads(self) -> Sequence[PooledLoad]:
        try:
            return await self._pool.ps()
        except LoupeError:
            return ()


def taken(answer: PaneAnswer, chunk: Chunk) -> PaneAnswer:
    if chunk.text or chunk.thinking:
        answer = replace(answer, text=answer.text + chunk.text, thinking=answer.thinking + chunk.thinking)
    if chunk.done:
        told = replace(answer.answer, usage=chunk.usage, done_reason=chunk.done_reason)
        answer = replace(answer, answer=told)
    return answer


def measured(answer: PaneAnswer, trace: Trace, error: LoupeError | None = None) -> PaneAnswer:
    """With what the trace tells of it."""
    told = replace(
        answer.answer, spans=trace.spans, host=trace.host, digest=trace.digest, ttft=trace.ttft,
        cached=trace.cache.outcome == "hit", cached_age=trace.cache.age,
        error=error.message if error else "", error_code=error.code if error else "",
    )  # fmt: skip
    return replace(answer, answer=told, ttft=first_token(trace))


def first_token(trace: Trace) -> float | None:
    """Seconds from the sending to the first piece, without what the host needed to load the model."""
    spans = {span.name: span.seconds for span in trace.spans}
    if "first token" not in spans:
        return trace.ttft if trace.cache.outcome == "hit" else None
    return max(0.0, spans["first token"] - spans.get("load", 0.0))
