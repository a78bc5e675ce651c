"""Rests a host whose health check passes while its answers fail. Decisions only: nothing here waits or sends."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from app.core.errors import HostError
from app.core.ports import Clock
from app.services.retry_policy import counts_against

IN_A_ROW = 5  # failures that open it (Envoy)
WINDOW_SECONDS, WINDOW_LEAST, WINDOW_SHARE = 60.0, 5, 0.5  # … or more than half of at least five (LiteLLM)
FIRST_REST, LONGEST_REST = 5.0, 60.0  # seconds; doubled from one to the other
SPREAD = 0.25  # so that hosts that failed together are not tried together


def _spread() -> float:
    return random.uniform(1 - SPREAD, 1 + SPREAD)


class Breaker:
    """Five failures in a row, or more than half of five or more within a minute, open it for 5 s ± a quarter.

    Each further opening doubles the rest, up to 60 s. After the rest one request may try; its outcome decides. Every
    request that is sent takes a number, and its outcome brings the number back: what was sent before the breaker
    opened neither opens it further nor closes it. Errors that say nothing against the host count for nothing.
    """

    def __init__(self, clock: Clock, spread: Callable[[], float] = _spread) -> None:
        self._clock, self._spread = clock, spread
        self._outcomes: deque[tuple[float, bool]] = deque()  # (when, whether it failed), of the last minute
        self._row = self._sent = self._sent_when_opened = 0
        self._rest = 0.0
        self._probe: int | None = None
        self.open_until: float | None = None
        """Until when (monotonic) it rests; None while it is closed."""

    @property
    def state(self) -> str:
        """closed, open, or half-open (the rest is over and one request may try)."""
        if self.open_until is None:
            return "closed"
        return "open" if self._probe is not None or self._clock.monotonic() < self.open_until else "half-open"

    def begin(self) -> int:
        """A request goes to the host now. Its number is for `succeeded`, `failed` or `abandoned`."""
        self._sent += 1
        if self.state == "half-open":
            self._probe = self._sent
        return self._sent

    def succeeded(self, number: int) -> None:
        if self.open_until is None:
            self._row = 0
            self._count(failed=False)
        elif number > self._sent_when_opened:
            self.open_until, self._probe = None, None
            self._row, self._rest = 0, 0.0

    def abandoned(self, number: int) -> None:
        """The caller left: that says nothing about the host, but another may probe now."""
        if number == self._probe:
            self._probe = None

    def failed(self, error: HostError, number: int = 0) -> None:
        """`number` 0: a request that took none, such as a list; it never is the one that probes."""
        if not counts_against(error):
            self.abandoned(number)
        elif self.open_until is None:
            self._row += 1
            self._count(failed=True)
            failures = sum(failed for _, failed in self._outcomes)
            many = len(self._outcomes) >= WINDOW_LEAST and failures > WINDOW_SHARE * len(self._outcomes)
            if self._row >= IN_A_ROW or many:
                self._open()
        elif number == self._probe:
            self._open()

    def _open(self) -> None:
        self._rest = min(max(self._rest * 2, FIRST_REST), LONGEST_REST)
        self.open_until = self._clock.monotonic() + self._rest * self._spread()
        self._sent_when_opened, self._probe = self._sent, None
        self._outcomes.clear()

    def _count(self, *, failed: bool) -> None:
        now = self._clock.monotonic()
        self._outcomes.append((now, failed))
        while self._outcomes[0][0] < now - WINDOW_SECONDS:
            self._outcomes.popleft()
