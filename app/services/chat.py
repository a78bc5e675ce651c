"""The way of one generation: cache, then queue, then a host with failover, then the attempt itself.

Each layer is one method and one span; the order in this file is the order on the way. The pages and the gateway
both come in by `ask`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count

from app.core.errors import HostRefused, LoupeError
from app.core.generation import CacheMode, Chunk, GenerationRequest, Priority, Usage
from app.core.hosts import RawAnswer
from app.core.ports import SystemClock
from app.core.trace_context import HOST_HEADERS
from app.services.alias_route import AliasRoute
from app.services.attempt import Attempt
from app.services.cached_answer import Origin, question_of
from app.services.host_lease import Lease
from app.services.host_pool import HostPool, ResolvedModel
from app.services.key_usage import FREE_SEAT, KeyUsage, Seat
from app.services.queueing.tickets import beginning, measures
from app.services.repeats import key_of, made_at, moment
from app.services.request_queue import Ask, RequestQueue, Ticket
from app.services.request_trace import Writing
from app.services.response_cache import CacheHit, ResponseCache
from app.services.retry_policy import RetryBudget, costs_nothing, may_go_back, may_go_elsewhere, most_attempts
from app.services.shared_work import SharedWork, SharedWorks
from app.services.telemetry import CacheDecision, Phase, Telemetry, Trace
from app.wire.answers import error_text

IDENTITY_SECONDS = 1.0  # how long a request waits to learn which model and build would answer it; then no caching


@dataclass(slots=True, eq=False)
class Caller:
    """Who asks. `principal` owns cache entries, `flow` counts for fairness only; `trace` is theirs to watch.

    Not to be changed (`Ask` says why it is not frozen). `patience`, `from_page`, `group` and `host` are the queue's.
    `cache_mode` USE caches deterministic requests; `cache_sampled` also those that are not (asked for by name).
    `assumed`: options that the dialect filled in, not the client; an alias's own go before them.
    """

    principal: str = "local"
    flow: str = "local"
    priority: Priority = Priority.INTERACTIVE
    patience: float | None = None
    from_page: bool = False
    group: str = ""
    host: str = ""
    cache_mode: CacheMode = CacheMode.USE
    cache_sampled: bool = False
    assumed: tuple[str, ...] = ()
    trace: Trace = field(default_factory=lambda: Trace(SystemClock()))


class ChatService:
    def __init__(
        self, cache: ResponseCache, queue: RequestQueue, pool: HostPool, telemetry: Telemetry, budget: RetryBudget,
        route: AliasRoute | None = None, usage: KeyUsage | None = None,
    ) -> None:  # fmt: skip
        self._route = route
        self._cache, self._queue, self._pool = cache, queue, pool
        self._telemetry, self._budget, self._usage = telemetry, budget, usage
        self._shared = SharedWorks()

    async def ask(self, request: GenerationRequest, caller: Caller) -> AsyncGenerator[Chunk, None]:
        """The answer, piece by piece, ending with one that is `done` or `whole`.

        Raises `LoupeError`s, before the first piece or in the middle. Closing the iterator frees the slot at once.
        """
        trace = caller.trace
        trace.principal, trace.flow = caller.principal, caller.flow
        trace.describe(request, words=self._telemetry.words)
        with self._telemetry.recording(trace) as record, Writing(trace) as writing, self._seat(caller, request.model):
            async with aclosing(await self._routed(request, caller)) as chunks:
                async for chunk in chunks:
                    if chunk.text or chunk.thinking:
                        trace.saw_text(chunk)
                    if chunk.done or chunk.whole:
                        record.status = "ok"  # a reader that stops after the last piece has left nothing
                        trace.usage, trace.finish_reason = chunk.usage or trace.usage, chunk.done_reason
                    writing.begun()
                    yield chunk
                    writing.done()

    def _seat(self, caller: Caller, model: str) -> Seat:
        """Raises `ModelNotForKey` or `KeyLimitReached` for what the caller's key does not allow."""
        return self._usage.enter(caller.principal, model) if self._usage is not None else FREE_SEAT

    async def forward(self, model: str, caller: Caller, path: str, body: bytes) -> RawAnswer:
        """Work that is no generation, such as embeddings, by the same queue and with the same failover: a host's answer
        as it came, error statuses included."""
        trace = caller.trace
        trace.principal, trace.flow = caller.principal, caller.flow
        trace.model, trace.endpoint = model, path.rpartition("/")[2]
        trace.cache = CacheDecision("bypass", "not a generation")
        with self._telemetry.recording(trace) as record, self._seat(caller, model):
            answer = await self._forward(model, body, caller, path)
            if answer.status >= 400:
                record.status, record.error = HostRefused.code, error_text(answer.body) or f"status {answer.status}"
            return answer

    async def _forward(self, model: str, body: bytes, caller: Caller, path: str) -> RawAnswer:
        alias = self._route.find(model) if self._route is not None else None
        if self._route is None or alias is None:
            return await self._forwarded(model, body, caller, path)
        return await self._route.forward(alias, body, caller, path, partial(self._forwarded, path=path))

    async def _forwarded(self, model: str, body: bytes, caller: Caller, path: str) -> RawAnswer:
        await self._pool.resolve(model)
        self._budget.count_request()
        async with self._queue.enter(_asks(caller, caller.trace, model)) as ticket:
            with caller.trace.span("queue"):
                self._say_queued(caller.trace, ticket)
                lease = await ticket.admitted()
            for attempt in count(1):
                caller.trace.host = lease.address.name
                HOST_HEADERS.set(caller.trace.passed_on(attempt))
                try:
                    with caller.trace.span("host", host=lease.address.name, attempt=attempt, outcome="failed") as span:
                        answer = await lease.first(lease.backend.forward("POST", path, body))
                        span["outcome"] = "ok"
                    break
                except LoupeError as error:
                    lease.failed(error)
                    if not self._may_try_again(error, ticket, lease, attempt):
                        raise
                    lease = await self._next_lease(ticket, lease, caller.trace)
            lease.succeeded()
            ticket.finish()
            if self._usage is not None and answer.status == 200:
                self._usage.charge(caller.principal, _read_by(answer))
            return answer

    async def close(self) -> None:
        """End what is still running. Call `queue.close` first and wait for what may end by itself."""
        await self._shared.close()

    # Layer 0: aliases

    async def _routed(self, request: GenerationRequest, caller: Caller) -> AsyncGenerator[Chunk, None]:
        alias = self._route.find(request.model) if self._route is not None else None
        if self._route is None or alias is None:
            return await self._way(request, caller)
        return self._route.answer(alias, request, caller, self._way)

    # Layer 1: cache

    async def _way(self, request: GenerationRequest, caller: Caller) -> AsyncGenerator[Chunk, None]:
        """Where the answer comes from: kept, shared with others who ask the same, or straight from the queue."""
        trace = caller.trace
        trace.enter("cache")
        with trace.span("cache") as found:
            reason, model = _past_the_cache(request, caller), None
            if reason and self._pool.lists(request.model):
                trace.cache = CacheDecision("bypass", reason)
            else:
                model, trace.cache = await self._decide(request, caller, reason)
            way = self._admitted(request, caller, trace) if model is None else self._cached(request, caller, model)
            found["outcome"] = trace.cache.outcome
        return way

    def _cached(self, request: GenerationRequest, caller: Caller, model: ResolvedModel) -> AsyncGenerator[Chunk, None]:
        """Looks before the first piece is asked for, so that nobody comes between the looking and the joining."""
        trace = caller.trace
        began = trace.elapsed
        key = key_of(request, caller.principal, model, self._pool)
        trace.add_span("key", began, trace.elapsed)
        trace.digest, work = model.digest, None
        if trace.cache.outcome == "miss":
            if (hit := self._cache.get(key)) is not None:
                trace.cache = CacheDecision("hit", "", hit.age)
                return _replayed(hit)
            if (work := self._shared.find(key)) is not None:
                trace.cache = CacheDecision("joined", "the same question is being answered")
                self._cache.joined()
                self._hurry(work, caller)
        work = work or self._share(key, request, caller, model)
        trace.share(work.trace)
        return self._shared.follow(key, work, caller.patience)

    def _hurry(self, work: SharedWork, caller: Caller) -> None:
        """Work of the batch class that somebody now waits for in person goes with the interactive ones."""
        waiting = self._queue.find(work.trace.id)
        if waiting is not None and caller.priority is Priority.INTERACTIVE:
            self._queue.move(work.trace.id, Priority.INTERACTIVE)

    async def _decide(
        self, request: GenerationRequest, caller: Caller, reason: str
    ) -> tuple[ResolvedModel | None, CacheDecision]:
        """Whether the cache has a part in this, and the identity that its key needs. None: straight to the queue."""
        try:
            async with asyncio.timeout(IDENTITY_SECONDS):
                model = await self._pool.resolve(request.model, fresh=not reason)
        except TimeoutError:
            return None, CacheDecision("bypass", reason or "the host did not say in time what would answer")
        if reason or not (model.digest and model.server):
            return None, CacheDecision("bypass", reason or "the host does not say what would answer")
        outcome = "refresh" if caller.cache_mode is CacheMode.REFRESH else "miss"
        return model, CacheDecision(outcome, "" if self._cache.on else "the cache is off")

    def _share(self, key: str, request: GenerationRequest, caller: Caller, model: ResolvedModel) -> SharedWork:
        async def keep(chunks: tuple[Chunk, ...], trace: Trace) -> None:
            answered = await self._pool.identify(request.model, trace.host)
            if answered is None or answered.digest != model.digest:
                return  # pulled anew meanwhile, or another host's version answered
            if request.num_ctx is None and await self._pool.learn_context(answered) is None:
                return
            origin = Origin(request.model, answered.digest, request.endpoint, caller.principal, question_of(request))
            now = key_of(request, caller.principal, answered, self._pool)
            await self._cache.put(now, chunks, origin, seconds=trace.elapsed)

        def produce(trace: Trace) -> AsyncGenerator[Chunk, None]:
            return self._admitted(request, replace(caller, patience=None), trace)  # each one has a patience of his own

        trace = self._telemetry.trace(principal=caller.principal, flow=caller.flow)
        trace.digest, trace.context, trace.root = model.digest, caller.trace.context, caller.trace.id
        return self._shared.start(key, trace, produce, keep)

    # Layers 2 to 4: queue, failover and attempt. One method, because each generator between a host and its reader costs
    # every request some microseconds, and every piece of an answer a part of one

    async def _admitted(self, request: GenerationRequest, caller: Caller, trace: Trace) -> AsyncGenerator[Chunk, None]:
        if _unloads(request):  # frees memory: it needs no slot and must not wait for one
            async with aclosing(self._unloaded(request, caller, trace)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        async with self._queue.enter(_asks(caller, trace, request.model, request)) as ticket:
            with trace.span("queue"):
                self._say_queued(trace, ticket)
                lease = await ticket.admitted()
            self._budget.count_request()
            forwarded = False
            for attempt in count(1):
                try:
                    with Attempt(trace, lease, attempt, partial(self._attempted, ticket)) as sent:
                        async with aclosing(lease.backend.stream(request)) as chunks:
                            piece = await lease.first(ticket.piece(chunks))
                            sent.began(piece)
                            while piece is not None:
                                if piece.done or piece.whole:  # the host has finished, however slowly it is read
                                    sent.ended(piece.usage)
                                    ticket.finish(piece.usage)
                                forwarded = True
                                yield piece
                                piece = await ticket.piece(chunks)
                    break
                except (GeneratorExit, asyncio.CancelledError):
                    lease.abandoned()
                    raise
                except LoupeError as error:
                    lease.failed(error)
                    if not self._may_try_again(error, ticket, lease, attempt, begun=forwarded):
                        raise
                    lease = await self._next_lease(ticket, lease, trace)
        if request.is_load_or_unload:
            self._pool.look_again()

    async def _unloaded(self, request: GenerationRequest, caller: Caller, trace: Trace) -> AsyncGenerator[Chunk, None]:
        async with (
            self._pool.lease(request.model, caller.host) as backend,
            aclosing(backend.stream(request)) as chunks,
        ):
            trace.host = backend.address.name
            async for chunk in chunks:
                yield chunk
        self._pool.look_again()

    def _say_queued(self, trace: Trace, ticket: Ticket) -> None:
        """What the queue is doing with it; held while no host can be used, but one could a moment ago, paused while an
        operator lets nothing begin."""

        def phase() -> Phase:
            if not ticket.position:
                return Phase("connect")
            if self._queue.paused:
                return Phase("paused", ticket.position)
            return Phase("held" if self._pool.outage else "queued", ticket.position, ticket.eta)

        trace.enter(phase)

    def _has_other(self, ticket: Ticket, lease: Lease) -> bool:
        """Whether another host may serve the request."""
        return not ticket.ask.host and self._pool.has_other(lease.model, lease.address.name)

    def _may_try_again(
        self, error: LoupeError, ticket: Ticket, lease: Lease, attempt: int, *, begun: bool = False
    ) -> bool:
        """Never where the answer has `begun`: what was passed on cannot be taken back."""
        if begun or attempt >= most_attempts(error) or not may_go_elsewhere(error):
            return False
        other = self._has_other(ticket, lease)
        possible = other or may_go_back(error) or self._pool.outage is not None
        return possible and (costs_nothing(error) or self._budget.spend())

    async def _next_lease(self, ticket: Ticket, lease: Lease, trace: Trace) -> Lease:
        """A slot on another host, waiting for it if need be; on the same one where there is no other. In a short outage
        whichever comes back."""
        other = self._has_other(ticket, lease)
        if (other and lease.move()) or not (other or self._pool.outage):
            return lease
        with trace.span("queue", again=True):
            self._say_queued(trace, ticket)
            return await ticket.elsewhere(lease.address.name)

    def _attempted(self, ticket: Ticket, host: str, outcome: str, usage: Usage | None) -> None:
        """An attempt at a host is over."""
        self._telemetry.metrics.upstream.inc(host, outcome)
        if self._usage is not None:
            self._usage.charge(ticket.ask.principal, _cost(usage, ticket, outcome))


def _past_the_cache(request: GenerationRequest, caller: Caller) -> str:
    """Why the cache has no part in this, whatever model answers; "" where it may have one."""
    if request.is_load_or_unload:
        return "loads or unloads a model"
    if caller.cache_mode is CacheMode.BYPASS:
        return "asked for"
    return "" if request.deterministic or caller.cache_sampled else "not deterministic"


def _asks(caller: Caller, trace: Trace, model: str, request: GenerationRequest | None = None) -> Ask:
    """What the queue is to know. Without a request, or with one that only loads, there is no answer to wait for."""
    generates = request is not None and not request.is_load_or_unload
    prefix = beginning(request) if request is not None else 0
    chars, most = measures(request) if request is not None else (0, None)
    return Ask(
        model=model, flow=caller.flow, principal=caller.principal, priority=caller.priority, id=trace.id,
        prompt_chars=chars, most_tokens=most, generates=generates, patience=caller.patience,
        from_page=caller.from_page, group=caller.group, host=caller.host, prefix=prefix,
        phase=lambda: trace.phase.name,
    )  # fmt: skip


_READ = re.compile(rb'"prompt_eval_count":(\d{1,15})')


def _read_by(answer: RawAnswer) -> int:
    """The tokens that the host says it has read, which stand behind the vectors."""
    found = _READ.search(answer.body[-200:])
    return int(found[1]) if found else 0


def _cost(usage: Usage | None, ticket: Ticket, outcome: str) -> int:
    """Tokens of one attempt: as the host counts them, else what has come of the answer, and the prompt as the queue
    estimates it. A host that failed before its first word costs nothing; a client that left then has had it read."""
    if usage is not None:
        return usage.prompt_tokens + usage.output_tokens
    return ticket.prompt_tokens + ticket.tokens if ticket.tokens or outcome == "cancelled" else 0


def _unloads(request: GenerationRequest) -> bool:
    keep_alive = request.body.get("keep_alive")
    zero = keep_alive in (0, "0", "0s") and keep_alive is not False
    return request.is_load_or_unload and zero


async def _replayed(hit: CacheHit) -> AsyncGenerator[Chunk, None]:
    now = moment(datetime.now(UTC).timestamp())
    last = len(hit.chunks) - 1
    for number, chunk in enumerate(hit.chunks):
        yield made_at(chunk, now, more=number < last)
