"""What each request waited for and what it cost: running traces, the ring of finished ones, metrics, one log line each.

Cached answers count as requests and never enter speed statistics.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import structlog

from app.core.errors import Cancelled, LoupeError
from app.core.ports import Clock
from app.core.trace_context import TraceContext
from app.services.metrics import Metrics
from app.services.request_log import KEPT_BYTES, RequestLog
from app.services.request_trace import (
    CacheDecision,
    FinishedRequest,
    Overflow,
    Phase,
    Route,
    Trace,
    new_context,
    new_id,
)

__all__ = [
    "CacheDecision", "FinishedRequest", "Overflow", "Phase", "RequestName", "Route", "Telemetry", "TelemetrySnapshot",
    "Trace", "new_id",
]  # fmt: skip
RECENT = 500  # requests that a snapshot tells of
log, _lines = structlog.get_logger("loupe.requests"), logging.getLogger("loupe.requests")


class RequestName(NamedTuple):
    """How one request is called: `own` by us, `client` by its client ("" where it did not say), and the trace that it
    belongs to, if it said so."""

    own: str
    client: str = ""
    context: TraceContext | None = None

    @property
    def shown(self) -> str:
        """What X-Request-Id answers."""
        return self.client or self.own


@dataclass(frozen=True, slots=True)
class TelemetrySnapshot:
    """`recent` newest first; counters since the start of the process."""

    recent: tuple[FinishedRequest, ...]
    running: int
    finished: int
    failed: int
    cancelled: int
    cache_hits: int


class Recording:
    """Around the work of one request: in the list of those that run, and at the end in the ring. `status` is what is
    known to have become of it; without one it is "ok" where the work returns, "cancelled" where it is left."""

    __slots__ = ("_telemetry", "_trace", "error", "status")

    def __init__(self, telemetry: Telemetry, trace: Trace) -> None:
        self._telemetry, self._trace, self.status, self.error = telemetry, trace, "", ""

    def __enter__(self) -> Self:
        self._telemetry.begin(self._trace)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        status, text = self.status or ("ok" if error is None else "cancelled"), self.error
        if isinstance(error, LoupeError):
            status, text = "cancelled" if isinstance(error, Cancelled) else error.code, error.message
        elif isinstance(error, Exception):
            status, text = "internal", repr(error)
        self._telemetry.finish(self._trace, status=status, error=text)


class Telemetry:
    """Keeps the last finished requests, as many as fit in `kept_bytes`, and the metrics that `/metrics` shows.

    `words`: questions and answers are kept with them and logged. `export` is handed every record of a
    request that belongs to a sampled trace; where there is one, a request without a trace begins one.
    """

    def __init__(self, clock: Clock, *, kept_bytes: int = KEPT_BYTES, words: bool = False) -> None:
        self._clock, self.words = clock, words
        self.export: Callable[[FinishedRequest], None] | None = None
        self._listeners: list[Callable[[FinishedRequest], None]] = []
        self.log = RequestLog(kept_bytes)
        self._running: dict[str, Trace] = {}
        self._counts = {"finished": 0, "failed": 0, "cancelled": 0, "cache_hits": 0}
        self.metrics = Metrics()

    def on_end(self, listener: Callable[[FinishedRequest], None]) -> None:
        """Called with every request that has ended, on the event loop; it must be quick. What it raises is logged and
        costs nobody else."""
        self._listeners.append(listener)

    def trace(self, *, principal: str = "local", flow: str = "local", name: RequestName | None = None) -> Trace:
        """A trace for a request that begins now."""
        trace = Trace(self._clock, principal=principal, flow=flow, own_id=name.own if name is not None else "")
        if name is not None:
            trace.client_id = name.client
            trace.context = name.context
        if self.export is not None and trace.context is None:
            trace.context = new_context()
        return trace

    def own_context(self) -> TraceContext | None:
        """The trace of a request whose client named none: it begins here where traces are exported."""
        return None if self.export is None else new_context()

    def recording(self, trace: Trace) -> Recording:
        """The request, from now to its end, however it ends."""
        return Recording(self, trace)

    def begin(self, trace: Trace) -> None:
        self._running[trace.id] = trace

    def finish(self, trace: Trace, *, status: str = "ok", error: str = "") -> FinishedRequest:
        """Close a trace: into the ring, the counters and one structured log line."""
        trace.enter("done")
        self._running.pop(trace.id, None)
        record = trace.finished(status, error)
        self.add(record)
        return record

    def add(self, record: FinishedRequest) -> None:
        """Take a request that has ended into the ring, the counters and the log."""
        self.log.add(record)
        self._count(record)
        for listener in self._listeners:
            try:
                listener(record)
            except Exception:
                log.warning("request not taken", exc_info=True)
        if self.export is not None and (record.context is None or record.context.sampled):
            self.export(record)
        if _lines.isEnabledFor(logging.INFO):  # asked of the logger below: structlog's own way to it costs 3 µs
            self._log(record)

    def running(self) -> tuple[Trace, ...]:
        return tuple(self._running.values())

    def askers(self) -> dict[str, list[Trace]]:
        """The requests that run now by the id under which the queue has them: several where they share an answer."""
        found: dict[str, list[Trace]] = {}
        for trace in self.running():
            found.setdefault(trace.work, []).append(trace)
        return found

    def work_of(self, request_id: str) -> str:
        """By which id the queue has a request, named by our id or by its client's; the same where none runs."""
        return next((one.work for one in self.running() if request_id in (one.id, one.client_id)), request_id)

    def running_of(self, principal: str = "") -> int:
        """How many run now, of everybody or of one."""
        return sum(principal in ("", trace.principal) for trace in self.running())

    def find(self, request_id: str, principal: str = "") -> FinishedRequest | None:
        """A request of the ring, or as far as it is one that still runs (its status is "running"). By our id or its
        client's; with `principal` of theirs alone."""
        found = self.log.find(request_id, principal)
        if found is not None:
            return found
        for trace in self.running():
            if request_id in (trace.id, trace.client_id) and principal in ("", trace.principal):
                return trace.finished("running", "")
        return None

    def snapshot(self) -> TelemetrySnapshot:
        return TelemetrySnapshot(recent=self.log.recent(RECENT), running=len(self._running), **self._counts)

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
        if record.ttft is not None:
            metrics.first_token.observe(record.endpoint, record.ttft)
            if record.usage.output_tokens > 1:
                after_first = max(0.0, record.seconds - record.ttft)
                metrics.per_token.observe(record.endpoint, after_first / (record.usage.output_tokens - 1))
        metrics.by_model.count(record.model, record.usage)
        metrics.layers.observe_spans(record.spans)

    def _log(self, record: FinishedRequest) -> None:
        fields = {"request": record.id, "flow": record.flow, "model": record.model, "host": record.host}
        fields |= {"endpoint": record.endpoint, "status": record.status, "cache": record.cache.outcome}
        if record.context is not None:
            fields["trace_id"] = record.context.trace_id
        if self.words:
            fields |= {"question": record.question, "answer": record.answer}
        log.info(
            "request",
            **fields,
            seconds=round(record.seconds, 4),
            ttft=None if record.ttft is None else round(record.ttft, 4),
            tokens=record.usage.output_tokens if record.usage else 0,
            error=record.error or None,
        )
