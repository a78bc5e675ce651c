"""What pages, routes and operators are shown of the queue: plain values of one moment, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from app.core.generation import Priority


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds until the request gets its slot: the likely figure, and a range that is to hold four times in five.

    `high` is never more than three times `low`.
    """

    likely: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """A request that waits. `position` counts from 1, `eta` is None until something was measured, `why` a sentence."""

    id: str
    flow: str
    principal: str
    model: str
    priority: Priority
    position: int
    waited: float
    eta: Eta | None
    why: str


@dataclass(frozen=True, slots=True)
class RunningRow:
    """A request that holds a slot since `since` seconds. `phase` as in `telemetry.Phase`; `tokens` answered so far."""

    id: str
    flow: str
    principal: str
    model: str
    priority: Priority
    host: str
    phase: str
    since: float
    tokens: int


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The bounds in force. `wait_*`: predicted seconds beyond which a request of that class is refused.

    `prompt_tokens` is what may wait to be read, None while no prefill was measured.
    """

    waiting: int = 64
    per_page: int = 4
    per_client: int = 16
    wait_interactive: float = 30.0
    wait_batch: float = 120.0
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The queue at one moment. `paused`: nobody is given a slot; `draining`: nobody new is admitted."""

    waiting: tuple[WaitingRow, ...] = ()
    running: tuple[RunningRow, ...] = ()
    limits: QueueLimits = QueueLimits()
    paused: bool = False
    draining: bool = False


class Meter(Protocol):
    """Who counts what the queue does."""

    def waited(self, priority: Priority, seconds: float) -> None: ...

    def refused(self, reason: str) -> None: ...

    def loaded(self, *, swap: bool) -> None: ...

    def foretold(self, position: int, eta: Eta, actual: float) -> None:
        """A request that was told so at that position got its slot after `actual` seconds."""
        ...
