"""What each request waited for and what it cost: traces, a ring of finished requests, metrics.

A trace is written by the layers while a request runs and read by the page that shows it; when the request ends it
becomes a `FinishedRequest`. Cached answers count as requests and never enter speed statistics.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

import structlog

from app.core.generation import Span, Usage
from app.core.ports import Clock
from app.services.metrics import Metrics
from app.services.queueing.views import Eta

_when = itemgetter(1, 2)  # start and end of a span
log, _lines = structlog.get_logger("loupe.requests"), logging.getLogger("loupe.requests")

Attribute = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Phase:
    """What a request is doing now. `name` is one of: new, cache, queued, held, connect, loading, prefill, decode, done.

    Held: queued, and no model host answers, but one did a moment ago. `position` counts from 1; `eta` is None where
    nothing has been measured yet. Both only while queued.
    """

    name: str
    position: int | None = None
    eta: Eta | None = None


class CacheDecision(NamedTuple):
    """What the cache did: hit, miss, joined (shared a running generation), refresh or bypass, and why.

    A tuple like the record below: each request makes one, and a frozen dataclass takes several times as long to make.
    """

    outcome: str = "bypass"
    reason: str = ""
    age: float | None = None  # seconds since the answer was stored, for a hit


_UNDECIDED = CacheDecision()


class Overflow(NamedTuple):
    """A prompt that is longer than the context: both in tokens, None where the host did not tell."""

    tokens: int | None
    limit: int | None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """By which alias a request came, and which of its models answers: 1 is the first choice, `reason` tells why an
    earlier one does not. `cut`: the host was let cut the prompt."""

    alias: str
    place: int = 1
    reason: str = ""
    cut: Overflow | None = None


class FinishedRequest(NamedTuple):
    """One line of the ring. `started_at` in seconds since the epoch, `seconds` and `ttft` in seconds.

    `status` is "ok", "cancelled" or the code of the error. `ttft` (to the first non-empty text) and `usage` are None
    where there was none; for a cached answer `usage` is that of the original.
    """

    id: str
    principal: str
    flow: str
    model: str
    digest: str
    host: str
    endpoint: str
    status: str
    error: str
    cache: CacheDecision
    started_at: float
    seconds: float
    ttft: float | None
    usage: Usage | None
    spans: tuple[Span, ...]

    @property
    def measured(self) -> bool:
        """Whether its times say something about a host's speed."""
        return self.status == "ok" and self.cache.outcome not in ("hit", "joined") and self.usage is not None


def new_id() -> str:
    """A name for a request, not a secret."""
    return f"{random.getrandbits(64):016x}"  # noqa: S311


class OpenSpan:
    """A layer whose time is being taken."""

    __slots__ = ("_attributes", "_began", "_name", "_trace")

    def __init__(self, trace: Trace, name: str, attributes: dict[str, Attribute]) -> None:
        self._trace, self._name, self._attributes = trace, name, attributes
        self._began = trace.elapsed

    def __enter__(self) -> dict[str, Attribute]:
        return self._attributes

    def __exit__(self, *_: object) -> None:
        self._trace.add_span(self._name, self._began, self._trace.elapsed, **self._attributes)


class Trace:
    """The running record of one request; times are seconds since it began."""

    def __init__(self, clock: Clock, *, principal: str = "local", flow: str = "local") -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._phase: str | Callable[[], Phase] = "new"
        self._shared: Trace | None = None
        self._spans: list[Span] = []
        self.id = new_id()
        self.principal, self.flow = principal, flow
        self.started_at = clock.now()
        self.model = self.endpoint = self._host = self._digest = ""
        self.cache = _UNDECIDED
        self.route: Route | None = None
        self.ttft: float | None = None
        self.usage: Usage | None = None

    @property
    def elapsed(self) -> float:
        return self._clock.monotonic() - self._began

    @property
    def phase(self) -> Phase:
        """What the request waits for now. Cheap and safe to read from another thread."""
        own = Phase(self._phase) if isinstance(self._phase, str) else self._phase()
        return self._shared.phase if self._shared is not None and own.name != "done" else own

    def enter(self, phase: str | Callable[[], Phase]) -> None:
        """Say what the request does now; a callable is asked anew at each reading (a queue position falls)."""
        self._phase = phase

    @property
    def host(self) -> str:
        return self._shared.host if self._shared is not None else self._host

    @host.setter
    def host(self, name: str) -> None:
        self._host = name

    @property
    def digest(self) -> str:
        """The digest of the model that answers; "" while that is not known."""
        return self._shared.digest if self._shared is not None else self._digest

    @digest.setter
    def digest(self, digest: str) -> None:
        self._digest = digest

    def span(self, name: str, **attributes: Attribute) -> OpenSpan:
        """Record a layer's time, also when it fails; what is entered takes attributes that are known later."""
        return OpenSpan(self, name, attributes)

    def add_span(self, name: str, start: float, end: float, **attributes: Attribute) -> None:
        self._spans.append(Span(name, start, max(start, end), attributes))

    def add_host_spans(self, usage: Usage, began: float, first: float) -> None:
        """Lay the durations the host counted on our time line: `began` is the sending, `first` the first record.

        A host tells how long, not when. Loading comes first, prefill ends with the first token, decoding follows;
        what remains between them is the host's own waiting and the network.
        """
        load, prefill, decode = usage.load_ns / 1e9, usage.prefill_ns / 1e9, usage.decode_ns / 1e9
        loaded = min(began + load, first)
        self.add_span("load", began, loaded, seconds=load)
        self.add_span("prefill", max(loaded, first - prefill), first, seconds=prefill, tokens=usage.prompt_tokens)
        self.add_span("first token", began, first)
        self.add_span("decode", first, min(first + decode, self.elapsed), seconds=decode, tokens=usage.output_tokens)

    def share(self, other: Trace) -> None:
        """This request waits for the work recorded in `other` (a generation that several callers share)."""
        self._shared = other

    @property
    def spans(self) -> tuple[Span, ...]:
        """All spans so far by start. Of shared work only what happened while this request waited."""
        spans = self._spans
        if self._shared is not None:
            shift = self._shared._began - self._began
            moved = [span._replace(start=span.start + shift, end=span.end + shift) for span in self._shared.spans]
            seen = [span._replace(start=max(span.start, 0.0)) for span in moved if span.end > 0 or span.start >= 0]
            spans = [*spans, *seen]
        return tuple(sorted(spans, key=_when))

    def saw_text(self) -> None:
        """The first non-empty piece of the answer has come."""
        if self.ttft is None:
            self.ttft = self.elapsed


@dataclass(frozen=True, slots=True)
class TelemetrySnapshot:
    """`recent` newest first; counters since the start of the process."""

    recent: tuple[FinishedRequest, ...]
    running: int
    finished: int
    failed: int
    cancelled: int
    cache_hits: int


class Telemetry:
    """Keeps the last `keep` finished requests and the metrics that `/metrics` shows."""

    def __init__(self, clock: Clock, *, keep: int = 500) -> None:
        self._clock = clock
        self._recent: deque[FinishedRequest] = deque(maxlen=keep)
        self._running: dict[str, Trace] = {}
        self._counts = {"finished": 0, "failed": 0, "cancelled": 0, "cache_hits": 0}
        self.metrics = Metrics()

    def trace(self, *, principal: str = "local", flow: str = "local") -> Trace:
        """A trace for a request that begins now."""
        return Trace(self._clock, principal=principal, flow=flow)

    def begin(self, trace: Trace) -> None:
        self._running[trace.id] = trace

    def finish(self, trace: Trace, *, status: str = "ok", error: str = "") -> FinishedRequest:
        """Close a trace: into the ring, the counters and one structured log line."""
        trace.enter("done")
        self._running.pop(trace.id, None)
        record = FinishedRequest(
            trace.id, trace.principal, trace.flow, trace.model, trace.digest, trace.host, trace.endpoint, status, error,
            trace.cache, trace.started_at, trace.elapsed, trace.ttft, trace.usage, trace.spans,
        )  # fmt: skip
        self.add(record)
        return record

    def add(self, record: FinishedRequest) -> None:
        """Take a request that has ended into the ring, the counters and the log."""
        self._recent.appendleft(record)
        self._count(record)
        if _lines.isEnabledFor(logging.INFO):  # asked of the logger below: structlog's own way to it costs 3 µs
            self._log(record)

    def running(self) -> tuple[Trace, ...]:
        return tuple(self._running.values())

    def find(self, request_id: str) -> FinishedRequest | None:
        return next((record for record in tuple(self._recent) if record.id == request_id), None)

    def snapshot(self) -> TelemetrySnapshot:
        return TelemetrySnapshot(recent=tuple(self._recent), running=len(self._running), **self._counts)

    def render_metrics(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return self.metrics.render()

    def _count(self, record: FinishedRequest) -> None:
        self._counts["finished"] += 1
        if record.status != "ok":
            self._counts["cancelled" if record.status == "cancelled" else "failed"] += 1
        if record.cache.outcome == "hit":
            self._counts["cache_hits"] += 1
        metrics = self.metrics
        metrics.requests.inc(record.endpoint, record.status, record.cache.outcome)
        if not record.measured or record.usage is None:
            return
        metrics.seconds.observe(record.endpoint, record.seconds)
        metrics.tokens.inc("prompt", by=record.usage.prompt_tokens)
        metrics.tokens.inc("output", by=record.usage.output_tokens)
        if record.ttft is not None:
            metrics.first_token.observe(record.endpoint, record.ttft)
        for span in record.spans:
            metrics.layers.observe(span.name, span.end - span.start)

    def _log(self, record: FinishedRequest) -> None:
        fields = {"request": record.id, "flow": record.flow, "model": record.model, "host": record.host}
        fields |= {"endpoint": record.endpoint, "status": record.status, "cache": record.cache.outcome}
        log.info(
            "request",
            **fields,
            seconds=round(record.seconds, 4),
            ttft=None if record.ttft is None else round(record.ttft, 4),
            tokens=record.usage.output_tokens if record.usage else 0,
            error=record.error or None,
        )
