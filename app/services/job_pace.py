"""How fast a job goes: a rate over the last seconds, measured from what it tells."""

from __future__ import annotations

from collections import deque

from app.core.ports import Clock

WINDOW = 8.0  # seconds that the rate is taken over
SHORTEST = 0.5  # seconds that must lie between two tellings before there is a rate


class Pace:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._total = -1
        self._told: deque[tuple[float, int]] = deque()

    def tell(self, completed: int, total: int) -> float | None:
        """The rate a second, None while it is unknown. A new or falling count begins a new measurement.

        A total that only grows is the same thing with another part found (the layers of a model).
        """
        now = self._clock.monotonic()
        if total < self._total or (self._told and completed < self._told[-1][1]):
            self.forget()
        self._total = total
        self._told.append((now, completed))
        while len(self._told) > 2 and now - self._told[1][0] > WINDOW:
            self._told.popleft()
        began, first = self._told[0]
        return (completed - first) / (now - began) if now - began >= SHORTEST else None

    def forget(self) -> None:
        self._told.clear()
