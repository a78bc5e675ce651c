"""Finished requests on their way to a collector of traces: a bounded queue, and one task that empties it.

Nothing here is on the way of a request but putting its record into the queue. A collector that is slow, away or wrong
costs nobody an answer: what finds no room is dropped, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

import structlog

from app.core.exported_spans import Delivery, ExportedSpan, SpanSender
from app.services.metrics import Metrics
from app.services.otel_spans import spans_of
from app.services.request_trace import FinishedRequest

QUEUE_LIMIT = 2048  # requests that may wait
BATCH = 256  # requests that are sent together
EVERY_SECONDS = 2.0  # a request waits so long for others to go with
FIRST_WAIT, LONGEST_WAIT, TRIES = 1.0, 30.0, 6  # seconds between tries, doubling; then the batch is dropped
LAST_SECONDS = 3.0  # for what is left when the process goes down
log = structlog.get_logger(__name__)


class SpanExport:
    def __init__(self, sender: SpanSender, metrics: Metrics, *, every: float | None = None) -> None:
        self._sender, self._every = sender, EVERY_SECONDS if every is None else every
        self._queue: deque[FinishedRequest] = deque()
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._failing = ""
        self._counts = metrics.counter("trace_export_requests", "Requests told to the trace collector.", "outcome")
        metrics.gauge("trace_export_waiting", "Requests that wait for the trace collector.", lambda: len(self._queue))

    def offer(self, record: FinishedRequest) -> None:
        """Take a request that has ended; where there is no room it is dropped."""
        if len(self._queue) >= QUEUE_LIMIT:
            self._counts.inc("dropped")
            return
        self._queue.append(record)
        self._news.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="trace export")

    async def stop(self) -> None:
        """One last try for what waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while self._queue and (await self._send(self._batch())).taken:
                    pass
        if self._queue:
            self._counts.inc("dropped", by=len(self._queue))
            self._queue.clear()
        await self._sender.close()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            if len(self._queue) < BATCH:
                await asyncio.sleep(self._every)
            self._news.clear()
            while self._queue:
                await self._deliver()

    async def _deliver(self) -> None:
        """One batch, which stays in the queue until it is taken or given up."""
        batch, wait = self._batch(), FIRST_WAIT
        for number in range(1, TRIES + 1):
            delivery = await self._send(batch)
            if not delivery.again or number == TRIES:
                break
            await asyncio.sleep(min(LONGEST_WAIT, wait if delivery.wait is None else delivery.wait))
            wait *= 2
        if not delivery.taken:
            self._forget(batch, "dropped" if delivery.again else "refused")

    def _batch(self) -> list[FinishedRequest]:
        return [self._queue[index] for index in range(min(BATCH, len(self._queue)))]

    async def _send(self, batch: Sequence[FinishedRequest]) -> Delivery:
        try:
            delivery = await self._sender.send(await asyncio.to_thread(_told, batch))
        except Exception as error:  # a bug in here is no reason to stop telling
            log.exception("trace export broke")
            delivery = Delivery(taken=False, why=repr(error))
        if delivery.why and delivery.why != self._failing:
            log.warning("traces are not taken", why=delivery.why, waiting=len(self._queue))
        elif self._failing and not delivery.why:
            log.info("traces are taken again")
        self._failing = delivery.why
        if delivery.taken:
            self._forget(batch, "sent")
        return delivery

    def _forget(self, batch: Sequence[FinishedRequest], outcome: str) -> None:
        for _ in batch:
            self._queue.popleft()
        self._counts.inc(outcome, by=len(batch))


def _told(batch: Sequence[FinishedRequest]) -> list[ExportedSpan]:
    return [span for record in batch for span in spans_of(record)]
