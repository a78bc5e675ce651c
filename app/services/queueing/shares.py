"""Who has had how much: virtual counters, the fair share of which is that all who want work advance alike.

After the Virtual Token Counter (arXiv 2401.00588): what one receives is added to its counter, divided by its weight;
the one with the smallest counter is next. A counter that was idle is lifted to the smallest of those that were not, so
that nobody saves up for later. Between two that always want work the difference stays within one unit of work of each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
REMEMBERED = 4096  # idle counters that are kept


class Shares(Generic[Key]):
    """Counters by key. `floor` is the smallest one of those that wanted work when some was given last."""

    def __init__(self, weights: Mapping[Key, float] | None = None) -> None:
        self._weights = weights or {}
        self._counters: dict[Key, float] = {}
        self.floor = 0.0

    def clone(self) -> Shares[Key]:
        """A copy to try things out with."""
        copy: Shares[Key] = Shares(self._weights)
        copy._counters, copy.floor = dict(self._counters), self.floor
        return copy

    def arrive(self, key: Key) -> None:
        """It wants work again, or for the first time."""
        if self._counters.setdefault(key, self.floor) < self.floor:
            self._counters[key] = self.floor

    def knows(self, key: Key) -> bool:
        """Whether it has had something that is not forgotten."""
        return key in self._counters

    def of(self, key: Key) -> float:
        return self._counters.get(key, self.floor)

    def after(self, key: Key, cost: float) -> float:
        """What its counter would be after so much work."""
        return self._counters.get(key, self.floor) + cost / self._weights.get(key, 1.0)

    def charge(self, key: Key, cost: float) -> None:
        """It has had `cost` more (less, where an estimate was too high)."""
        self._counters[key] = self._counters.get(key, self.floor) + cost / self._weights.get(key, 1.0)

    def advance(self, wanting: Iterable[Key]) -> None:
        """Work is given away now, and these want some."""
        self.floor = max(self.floor, min([self._counters.get(key, self.floor) for key in wanting], default=self.floor))

    def forget(self, key: Key) -> None:
        """It wants nothing more. A counter above the floor is a debt and is remembered, within bounds."""
        if self._counters.get(key, self.floor) <= self.floor:
            self._counters.pop(key, None)
        elif len(self._counters) > REMEMBERED:
            paid = [old for old, counter in self._counters.items() if counter <= self.floor]
            for old in paid or [min(self._counters, key=self._counters.__getitem__)]:
                del self._counters[old]
