"""Alerts as values: the rules, what became of one, and what a receiver elsewhere is told. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from app.core.exported_spans import Delivery
from app.core.generation import Json

Figures = Mapping[str, Mapping[str, float]]
"""What rules look at: the newest figures, by series and in it by subject (a host, a GPU; "" where there is but one)."""


class Severity(StrEnum):
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Rule:
    """A figure of `series` that is beyond `limit` for `hold` seconds raises an alert; one that is back at `clear` for
    `rest` seconds ends it. Between the two nothing changes, so that a figure that trembles at its limit is one alert.

    `above`: too much is bad, else too little. `unit` says how figures are told: s, share, bytes, °C, W, or a word.
    `what` and `advice` are sentences; `{value}`, `{limit}` and `{subject}` in the first stand for what was seen.
    """

    name: str
    title: str
    series: str
    limit: float
    clear: float
    hold: float
    rest: float
    severity: Severity
    unit: str
    what: str
    advice: str
    above: bool = True
    on: bool = True
    own: bool = False

    def beyond(self, value: float) -> bool:
        return value > self.limit if self.above else value < self.limit

    def back(self, value: float) -> bool:
        return value <= self.clear if self.above else value >= self.clear


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert about one subject. Moments in seconds since the epoch: `since` when the figure went beyond its limit,
    `raised` when that had held long enough, `ended` None while it is open.

    `seen` says what was seen when it was raised, `worst` is the figure farthest beyond. `times`: how often it was
    raised, for a cause that comes back soon is the same alert. `why_ended` is "" where the figure is back.
    """

    id: str
    rule: str
    subject: str
    title: str
    severity: Severity
    unit: str
    seen: str
    advice: str
    since: float
    raised: float
    limit: float
    value: float
    worst: float
    times: int = 1
    ended: float | None = None
    why_ended: str = ""

    @property
    def open(self) -> bool:
        return self.ended is None


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """What a receiver is told: the same `id` with every try, so that it can drop what it has."""

    id: str
    content: Mapping[str, Json] = field(default_factory=dict)


class AlertSender(Protocol):
    """Takes a message to where alerts are wanted; raises nothing."""

    @property
    def place(self) -> str:
        """Where that is, without anything secret."""
        ...

    async def send(self, message: AlertMessage) -> Delivery: ...

    async def close(self) -> None: ...
