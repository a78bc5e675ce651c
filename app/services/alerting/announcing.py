"""Telling a receiver elsewhere of alerts: in order, again where it does not take them, never on the way of anything.

What has not been taken when the process ends is kept by `Alerts` and told after the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from app.core.alerts import AlertMessage, AlertSender
from app.core.exported_spans import Delivery
from app.core.generation import Json
from app.core.ports import Clock
from app.services.metrics import Metrics

WAITING = 100  # messages; beyond them the oldest is dropped
FIRST_WAIT, LONGEST_WAIT, TRIES = 2.0, 120.0, 12  # seconds between tries, doubling: some 16 minutes in all
LAST_SECONDS = 3.0  # for one more try when the process goes down
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """`place`: where it is. Moments in seconds since the epoch; `failing` is why it does not take what `waiting`
    counts, "" where it does."""

    place: str
    waiting: int
    last_taken: float | None
    failing: str
    dropped: int


class Announcer:
    """Belongs to the event loop. `changed` is called when what waits has changed."""

    def __init__(self, sender: AlertSender, clock: Clock, metrics: Metrics) -> None:
        self._sender, self._clock = sender, clock
        self._waiting: deque[AlertMessage] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing, self._dropped = "", 0
        self._last_taken: float | None = None
        self.changed: Callable[[], None] = lambda: None
        self._counts = metrics.counter("alert_messages", "Alerts told to the webhook.", "outcome")

    @property
    def state(self) -> ReceiverState:
        return ReceiverState(self._sender.place, len(self._waiting), self._last_taken, self._failing, self._dropped)

    @property
    def waiting(self) -> Sequence[AlertMessage]:
        return tuple(self._waiting)

    def tell(self, content: Mapping[str, Json], message_id: str = "") -> None:
        """Put a message behind those that wait."""
        self._waiting.append(AlertMessage(message_id or _new_id(), content))
        while len(self._waiting) > WAITING:
            self._drop(self._waiting.popleft(), "too many wait")
        self._news.set()
        self.changed()

    async def try_out(self, content: Mapping[str, Json]) -> Delivery:
        """Send one message now and say what became of it."""
        return await self._send(AlertMessage(_new_id(), content))

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="alert webhook")

    async def stop(self) -> None:
        """One more try for what waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while self._waiting and (await self._send(self._waiting[0])).taken:
                    self._waiting.popleft()
        await self._sender.close()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            while self._waiting:
                await self._deliver(self._waiting[0])
            await self._news.wait()

    async def _deliver(self, message: AlertMessage) -> None:
        """It stays in the queue until it is taken or given up."""
        wait = FIRST_WAIT
        for number in range(1, TRIES + 1):
            delivery = await self._send(message)
            if not delivery.again or number == TRIES:
                break
            await asyncio.sleep(min(LONGEST_WAIT, wait if delivery.wait is None else delivery.wait))
            wait *= 2
            if self._waiting[0] is not message:
                return  # it was dropped meanwhile
        self._waiting.popleft()
        if not delivery.taken:
            self._drop(message, delivery.why)
        self.changed()

    async def _send(self, message: AlertMessage) -> Delivery:
        try:
            delivery = await self._sender.send(message)
        except Exception as error:  # a bug in here is no reason to stop telling
            log.exception("alert webhook broke")
            delivery = Delivery(taken=False, why=repr(error))
        if delivery.taken:
            self._last_taken = self._clock.now()
            self._counts.inc("taken")
        elif delivery.why != self._failing:
            log.warning("alert not taken", place=self._sender.place, why=delivery.why, again=delivery.again)
        self._failing = delivery.why
        return delivery

    def _drop(self, message: AlertMessage, why: str) -> None:
        self._dropped += 1
        self._counts.inc("dropped")
        log.warning("alert not told", message=message.id, why=why)


def _new_id() -> str:
    return f"msg_{secrets.token_hex(12)}"
