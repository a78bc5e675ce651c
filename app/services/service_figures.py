"""What the layer between clients and models does, as figures of this second: the queue, what models write, how long
first tokens took of late, the cache, failures, hosts, and what is loaded where.

A figure that nothing can be said about (no request in the last minute) is left out; it is never a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from app.core.hosts import ANSWERING, HostAddress, HostState, HostStatus, LoadedModel
from app.core.ports import Clock
from app.services.latency import quantile
from app.services.request_log import RequestLog
from app.services.request_trace import FinishedRequest

WINDOW = 60.0  # seconds: percentiles and shares are of the requests that ended in the last minute
NEWEST = 1000  # and of so many at most
STARTING = (HostState.UNKNOWN, HostState.WARMING)
LOADED, LOADED_GPU = "loaded.", "loaded_gpu."  # series of a model's memory: in the machine's, and in that of GPUs


Load = tuple[HostAddress, LoadedModel]
"""A model that a host had in memory when it was last asked."""


class Hosts(Protocol):
    def statuses(self) -> tuple[HostStatus, ...]: ...

    def loads(self) -> Sequence[Load]: ...


class Queue(Protocol):
    @property
    def waiting(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def written(self) -> int: ...


class ServiceFigures:
    """Belongs to the event loop of what it looks at. One look is well under a millisecond. `jobs` tells how many run
    (pulls, quantizing, scorecards)."""

    def __init__(
        self, log: RequestLog, queue: Queue, hosts: Hosts, clock: Clock, jobs: Callable[[], int] = lambda: 0
    ) -> None:
        self._log, self._queue, self._hosts, self._clock, self._jobs = log, queue, hosts, clock, jobs
        self._written = queue.written
        self._looked = clock.monotonic()

    def look(self) -> dict[str, float]:
        """By name of the series; seconds, shares from 0 to 1, bytes, tokens/s."""
        states = [status.state for status in self._hosts.statuses()]
        found = {
            "queue_waiting": float(self._queue.waiting), "queue_running": float(self._queue.running),
            "jobs_running": float(self._jobs()),
            "hosts_down": float(sum(state not in (*ANSWERING, *STARTING) for state in states)),
        }  # fmt: skip
        if (pace := self._pace()) is not None:
            found["tokens_per_second"] = pace
        return found | of_requests(self._lately()) | memory_of(self._hosts.loads())

    def _pace(self) -> float | None:
        """Tokens that all models together wrote since the last look, a second. The sum over time is what hosts count;
        where a host counts fewer than pieces came, the next seconds make up for it."""
        now, written = self._clock.monotonic(), self._queue.written
        passed, self._looked = now - self._looked, now
        if passed <= 0:
            return None
        fresh = max(0, written - self._written)
        self._written += fresh
        return fresh / passed

    def _lately(self) -> list[FinishedRequest]:
        now = self._clock.now()
        found = []
        for record in self._log.recent(NEWEST):
            age = now - record.started_at - record.seconds
            if age >= WINDOW:
                break
            if age > -WINDOW:  # else the clock was set back
                found.append(record)
        return found


def of_requests(records: Sequence[FinishedRequest]) -> dict[str, float]:
    """Percentiles of the time to the first token and of the wait in the queue, the cache's hit rate, failures."""
    measured = [record for record in records if record.measured]
    firsts = sorted(record.ttft for record in measured if record.ttft is not None)
    waits = sorted(
        sum(end - start for name, start, end, _ in record.spans if name == "queue")
        for record in records if record.cache.outcome not in ("hit", "joined") and record.status == "ok"
    )  # fmt: skip
    outcomes = [record.cache.outcome for record in records]
    asked = outcomes.count("hit") + outcomes.count("miss") + outcomes.count("joined")
    ended = [record.status for record in records if record.status != "cancelled"]
    found: dict[str, float] = {}
    if firsts:
        found |= {"ttft_p50": quantile(firsts, 0.5), "ttft_p95": quantile(firsts, 0.95)}
    if waits:
        found["queue_wait_p95"] = quantile(waits, 0.95)
    if asked:
        found["cache_hit_rate"] = outcomes.count("hit") / asked
    if ended:
        found["error_rate"] = sum(status != "ok" for status in ended) / len(ended)
    return found


def memory_of(loads: Sequence[Load]) -> dict[str, float]:
    """Bytes of each loaded model on this machine; those of other hosts are not in its memory."""
    found: dict[str, float] = {}
    for host, model in loads:
        if host.here:
            for prefix, size in ((LOADED, model.size - model.size_vram), (LOADED_GPU, model.size_vram)):
                if size > 0:
                    found[prefix + model.name] = found.get(prefix + model.name, 0.0) + size
    return found
