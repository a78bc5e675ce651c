"""What the layer between clients and hosts does right now: cache, queue, hosts and every request on its way.

One value for both edges, the page and its feed, in JSON's types. Times that run are told as moments (seconds since the
epoch), so that a snapshot differs from the one before only where something happened; the reader has the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from app.core.generation import Json
from app.core.hosts import HostStatus
from app.core.ports import Clock
from app.services.host_pool import HostPool
from app.services.queueing.views import RunningRow, WaitingRow
from app.services.request_queue import RequestQueue
from app.services.response_cache import ResponseCache
from app.services.telemetry import FinishedRequest, Telemetry, Trace

LOOK_SECONDS = 0.5  # between two looks of a feed
REPEAT_SECONDS = 5.0  # a feed says at least so often what it sees: silence means that the line is broken
STATS_SECONDS = 2.0  # how old the cache's figures may be: they are counted in its database
RECENT = 8


class Overview:
    """Belongs to the event loop of the services it looks at. `named` says a flow as people know it."""

    def __init__(
        self, cache: ResponseCache, queue: RequestQueue, pool: HostPool, telemetry: Telemetry, clock: Clock,
        named: Callable[[str], str] = str,
    ) -> None:  # fmt: skip
        self._cache, self._queue, self._pool, self._telemetry = cache, queue, pool, telemetry
        self._clock, self._named = clock, named
        self._stats: dict[str, Json] = {}
        self._counted_at = float("-inf")

    async def snapshot(self) -> dict[str, Json]:
        """Everything at once. `now` is the server's clock; what else is in seconds or bytes says its key."""
        await self._count()
        now = self._clock.now()
        queue = self._queue.snapshot()
        finished, askers = self._telemetry.snapshot(), self._telemetry.askers()
        return {
            "now": now,
            "cache": self._stats,
            "queue": {
                "limit": queue.limits.waiting, "paused": queue.paused, "draining": queue.draining,
                "waiting": [_waiting(row, now) | self._whose(row, askers) for row in queue.waiting],
                "running": [_running(row, now) | self._whose(row, askers) for row in queue.running],
            },
            "hosts": [_host(host, self._clock.monotonic()) for host in self._pool.statuses()],
            "requests": [_request(trace) for trace in self._telemetry.running()],
            "recent": [_finished(record) for record in finished.recent[:RECENT]],
        }  # fmt: skip

    def _whose(self, row: WaitingRow | RunningRow, askers: Mapping[str, Sequence[Trace]]) -> dict[str, Json]:
        """Who asks as people know it, the request to look at, and how many share its answer."""
        asked = askers.get(row.id, ())
        return {
            "flow": self._named(row.flow), "request": asked[0].id if asked else row.id, "sharing": max(1, len(asked)),
        }  # fmt: skip

    async def watch(self) -> AsyncGenerator[dict[str, Json], None]:
        """A snapshot now, and again whenever something happened, at most twice a second."""
        told: dict[str, Json] = {}
        told_at = float("-inf")
        while True:
            seen = await self.snapshot()
            now = self._clock.monotonic()
            if now - told_at >= REPEAT_SECONDS or {**seen, "now": 0} != {**told, "now": 0}:
                told, told_at = seen, now
                yield seen
            await asyncio.sleep(LOOK_SECONDS)

    async def _count(self) -> None:
        now = self._clock.monotonic()
        if now - self._counted_at < STATS_SECONDS:
            return
        self._counted_at = now
        stats = await self._cache.stats()
        self._stats = {
            "entries": stats.entries, "bytes": stats.bytes, "limit": stats.limit, "hits": stats.hits,
            "misses": stats.misses, "off": stats.off,
        }  # fmt: skip


def _waiting(row: WaitingRow, now: float) -> dict[str, Json]:
    return {
        "id": row.id, "position": row.position, "model": row.model, "priority": str(row.priority),
        "since": round(now - row.waited), "why": row.why,
        "eta": None if row.eta is None else [round(row.eta.low, 1), round(row.eta.high, 1)],
    }  # fmt: skip


def _running(row: RunningRow, now: float) -> dict[str, Json]:
    return {
        "id": row.id, "model": row.model, "priority": str(row.priority), "host": row.host,
        "phase": row.phase, "tokens": row.tokens, "since": round(now - row.since),
    }  # fmt: skip


def _host(host: HostStatus, clock: float) -> Json:
    return {
        "name": host.address.name, "url": host.address.url, "embedded": host.address.embedded,
        "state": str(host.state), "version": host.version, "error": host.error,
        "round_trip": None if host.round_trip is None else round(host.round_trip, 4),
        "slots": host.address.slots, "busy": host.busy_slots, "loaded": list(host.loaded), "breaker": host.breaker,
        "rests": None if host.rests_until is None else round(max(0.0, host.rests_until - clock)),
        "draining": host.draining, "added": host.added,
        "warnings": [{"text": warning.text, "severe": warning.severe} for warning in host.warnings],
    }  # fmt: skip


def _request(trace: Trace) -> Json:
    return {"id": trace.id, "model": trace.model, "phase": trace.phase.name, "cache": trace.cache.outcome}


def _finished(record: FinishedRequest) -> Json:
    return {
        "id": record.id, "model": record.model, "status": record.status, "error": record.error,
        "cache": record.cache.outcome, "why": record.cache.reason, "seconds": round(record.seconds, 3),
        "ended": round(record.started_at + record.seconds, 1),
    }  # fmt: skip
