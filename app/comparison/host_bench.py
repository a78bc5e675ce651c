"""The real `Bench`: one host by way of Loupe's own queue, in the batch class and past the answer cache.

Everything goes to the one host that it is pinned to. People go first: a request is cut off as soon as somebody waits
for a slot or is being answered there, and asked again once they are done. Times are taken from the trace's spans, from
the moment at which the request left for the host, so that neither our queue nor somebody's turn is in them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from app.comparison.bench import Reply
from app.comparison.courtesy import CALM_SECONDS, LOOK_SECONDS, Courtesy, Sleep, opened
from app.core.errors import GenerationFailed, HostError, HostProtocolError, HostTimeout, LoupeError
from app.core.generation import CacheMode, Chunk, GenerationRequest, Json, Priority, Span, Usage
from app.core.hosts import LoadedModel, ModelDetail
from app.core.ports import Backend
from app.services.chat import Caller, ChatService
from app.services.host_pool import HostPool
from app.services.perseverance import lost
from app.services.request_queue import RequestQueue
from app.services.telemetry import Telemetry, Trace
from app.services.watched_host import canonical

FLOW = "compare"
UNLOAD_SECONDS = 60.0
PATIENCE_SECONDS = 3600.0
AGAIN_SECONDS = 2.0  # before a request is repeated that the host could not take
TRIES = 30
REPEATS = 24
REPEAT_WORDS = "repeat limit"  # of the error that some versions end such an answer with
RELOAD_NS = 100_000_000  # a request that loaded for longer found its model gone
UNTOLD_NS = 250_000_000  # time that a host's own account of an answer leaves open: it was busy with something else


@dataclass(frozen=True, slots=True)
class Way:
    """What a bench is made of."""

    chat: ChatService
    queue: RequestQueue
    pool: HostPool
    telemetry: Telemetry
    sleep: Sleep = asyncio.sleep


class HostBench:
    """`gate` is awaited before every request: a paused comparison stands there. `told(True)` says that people go first
    now, `told(False)` that it goes on; `idle` counts the seconds spent at either."""

    def __init__(
        self, way: Way, host: str, gate: Callable[[], Awaitable[None]] = opened,
        told: Callable[[bool], None] | None = None,
    ) -> None:  # fmt: skip
        self._way, self._host = way, host
        self._courtesy = Courtesy(lambda: way.queue.pressing(host, FLOW), gate, told, way.sleep)
        self.gave_way = 0

    @property
    def idle(self) -> float:
        return self._courtesy.idle

    @property
    def host(self) -> str:
        return self._host

    async def generate(self, model: str, body: Mapping[str, Json]) -> Reply:
        return await self._reply(GenerationRequest("generate", {**body, "model": model}))

    async def render(self, model: str, question: str, system: str = "") -> str:
        messages: list[Json] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": question})
        body: dict[str, Json] = {"model": model, "messages": messages, "_debug_render_only": True, "think": False}
        told = await self._asked(GenerationRequest("chat", body))
        record = json.loads(told.chunks[-1].line) if told.chunks else {}
        info = record.get("_debug_info")
        text = info.get("rendered_template") if isinstance(info, dict) else None
        if not isinstance(text, str):
            raise HostProtocolError(self._host, "it does not tell what its template makes of a question")
        return text

    async def load(self, model: str, options: Mapping[str, Json]) -> float:
        """By our own clock where the host does not tell: Ollama's answer to a load has no durations (recorded)."""
        if any(canonical(row.name) == canonical(model) for row in await self.loaded()):
            return 0.0
        told = await self._asked(GenerationRequest("generate", {"model": model, "options": dict(options)}))
        return told.usage.load_ns / 1e9 or told.seconds

    async def unload(self, model: str) -> None:
        """Raises `HostTimeout` where it is still listed after a minute: unloading is asynchronous, so it is polled."""
        await self._courtesy.gate()
        request = GenerationRequest("generate", {"model": model, "keep_alive": 0})
        async with self._short() as backend, aclosing(backend.stream(request)) as chunks:
            async for _ in chunks:
                continue
        waited = 0.0
        while any(canonical(row.name) == canonical(model) for row in await self.loaded()):
            if waited >= UNLOAD_SECONDS:
                raise HostTimeout(self._host, f"unloading {model}", UNLOAD_SECONDS)
            await self._way.sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS
        self._way.pool.look_again()

    async def loaded(self) -> Sequence[LoadedModel]:
        async with self._short() as backend:
            return await backend.loaded()

    async def show(self, model: str) -> ModelDetail:
        async with self._short() as backend:
            return await backend.show(model)

    async def version(self) -> tuple[str, str]:
        async with self._short() as backend:
            return await backend.version()

    @asynccontextmanager
    async def _short(self) -> AsyncIterator[Backend]:
        async with self._way.pool.lease("", self._host) as backend:
            yield backend

    # -- one request ----------------------------------------------------------------------------------------------

    async def _reply(self, request: GenerationRequest) -> Reply:
        told = await self._asked(request)
        texts = [chunk.text for chunk in told.chunks]
        return Reply(
            text="".join(texts),
            usage=told.usage,
            ttft=told.ttft,
            seconds=told.seconds,
            logprobs=tuple(entry for chunk in told.chunks for entry in _logprobs(chunk)),
            done_reason=told.chunks[-1].done_reason if told.complete else "",
            complete=told.complete,
            disturbed=told.disturbed or _contradicts(told.usage),
        )

    async def _asked(self, request: GenerationRequest) -> _Told:
        """The answer, asked for again where people went first, the queue was full, or the host was lost meanwhile."""
        for attempt in range(TRIES):
            await self._courtesy.turn()
            try:
                told = await self._courtesy.unless_pressed(self._read(request))
                if told is not None:
                    return told
                self.gave_way += 1
            except LoupeError as error:
                passing = error.retryable or (isinstance(error, HostError) and lost(error))
                if not passing or attempt == TRIES - 1:
                    raise
                await self._courtesy.waited(AGAIN_SECONDS)
        raise HostTimeout(self._host, "people kept going first", TRIES * CALM_SECONDS)

    async def _read(self, request: GenerationRequest) -> _Told:
        trace = self._way.telemetry.trace(flow=FLOW)
        caller = Caller(
            flow=FLOW, priority=Priority.BATCH, cache_mode=CacheMode.BYPASS, patience=PATIENCE_SECONDS,
            host=self._host, trace=trace,
        )  # fmt: skip
        others = _Others(self._way.queue, self._host)
        chunks: list[Chunk] = []
        complete = True
        try:
            async with aclosing(self._way.chat.ask(request, caller)) as pieces:
                async for piece in pieces:
                    if not chunks:
                        others.begun()
                    chunks.append(piece)
        except (HostProtocolError, GenerationFailed) as error:
            if not (_repeats(chunks) or (chunks and REPEAT_WORDS in error.message)):
                raise
            complete = False
        return _Told(chunks, complete, trace, disturbed=others.came())


class _Others:
    """Whether the host did other work between the first piece of an answer and its end."""

    def __init__(self, queue: RequestQueue, host: str) -> None:
        self._queue, self._host = queue, host
        self._beside, self._count = 0, queue.activity(host)[1] + 1

    def begun(self) -> None:
        running, count = self._queue.activity(self._host)
        self._beside, self._count = running - 1, count

    def came(self) -> bool:
        return self._beside > 0 or self._queue.activity(self._host)[1] != self._count


class _Told:
    """One answer, with its times by our clock."""

    def __init__(self, chunks: Sequence[Chunk], complete: bool, trace: Trace, *, disturbed: bool) -> None:
        self.chunks, self.complete, self.disturbed = chunks, complete, disturbed
        spans = [span for span in trace.spans if span.name == "host"]
        span = spans[-1] if spans else Span("host", 0.0, trace.elapsed)
        self.seconds = span.seconds
        self.ttft = max(0.0, (trace.ttft if trace.ttft is not None else span.end) - span.start)
        self.usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage), Usage())


def _logprobs(chunk: Chunk) -> Sequence[Mapping[str, Json]]:
    if b'"logprobs"' not in chunk.line:
        return ()
    told = json.loads(chunk.line).get("logprobs")
    return [entry for entry in told if isinstance(entry, dict)] if isinstance(told, list) else ()


def _repeats(chunks: Sequence[Chunk]) -> bool:
    """Whether Ollama's guard has ended it: it cuts an answer of the same piece over and over without a last record."""
    last = [chunk.text for chunk in chunks[-REPEATS:]]
    return len(last) == REPEATS and len(set(last)) == 1


def _contradicts(usage: Usage) -> bool:
    """The host had to load the model anew, or its own account leaves time open in which it did something else."""
    told = usage.load_ns + usage.prefill_ns + usage.decode_ns
    untold = usage.total_ns - told if usage.total_ns else 0
    return usage.load_ns > RELOAD_NS or untold > max(UNTOLD_NS, usage.total_ns // 10)
