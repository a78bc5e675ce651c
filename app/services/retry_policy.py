"""Whether to try again, and when a host deserves a rest. Decisions only: nothing here waits or sends.

One retry, only before the first piece of the answer was passed on, only for errors that say "this host, this time",
and within a budget, so that a total outage is not answered with twice the load. "Busy" is not "broken". Where the
second host is lost as well, a third one is asked: two that die say nothing against the request.
"""

from __future__ import annotations

from collections import deque

from app.core.errors import (
    HostProtocolError,
    HostRefused,
    HostTimeout,
    HostUnreachable,
    LoupeError,
)
from app.core.ports import Clock

RETRY_SHARE = 0.2  # Envoy's and Finagle's budget
FLOOR_SECONDS = 10.0
FLOOR_SAVED = 3  # Envoy's smallest number of retries
WINDOW_SECONDS = 60.0


def may_go_elsewhere(error: LoupeError) -> bool:
    """Whether another host may do better. Never for the caller's own mistakes, nor once it has taken long."""
    match error:
        case HostTimeout():
            return error.phase == "connect"
        case HostRefused():
            return error.status in (502, 503, 504)
        case HostUnreachable() | HostProtocolError():
            return True
        case _:
            return False


def may_go_back(error: LoupeError) -> bool:
    """Whether the same host may do better at once: a connection that broke, not one that was refused."""
    return isinstance(error, HostProtocolError)


def most_attempts(error: LoupeError) -> int:
    """How many there may be in all, the last of which has just failed so."""
    return 3 if isinstance(error, HostUnreachable) else 2


def costs_nothing(error: LoupeError) -> bool:
    """Whether trying elsewhere takes nothing out of the budget: the host was not even reached, and that takes it out at
    once, so that such retries are at most as many as it has slots, each time that it dies."""
    return isinstance(error, HostUnreachable) and not error.sent


def counts_against(error: LoupeError) -> bool:
    """Whether the error says something against the host's health."""
    match error:
        case HostRefused():
            return error.status in (502, 504)
        case HostUnreachable() | HostProtocolError() | HostTimeout():
            return True
        case _:
            return False


class RetryBudget:
    """Retries are at most a fifth of the requests of the last minute, and beside that one in ten seconds.

    Up to three of the latter can be saved up: a quiet service has no fifth to spend when a host of its dies. Requests
    that their host refused to take (`costs_nothing`) need none.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._requests: deque[float] = deque()
        self._retries: deque[float] = deque()
        self._saved, self._counted_at = float(FLOOR_SAVED), clock.monotonic()

    def count_request(self) -> None:
        now, requests = self._clock.monotonic(), self._requests
        requests.append(now)
        while requests[0] < now - WINDOW_SECONDS:
            requests.popleft()

    def spend(self) -> bool:
        """Take one retry out of the budget; False if there is none."""
        now = self._clock.monotonic()
        self._forget()
        self._saved = min(FLOOR_SAVED, self._saved + (now - self._counted_at) / FLOOR_SECONDS)
        self._counted_at = now
        if len(self._retries) + 1 > RETRY_SHARE * len(self._requests):
            if self._saved < 1 - 1e-9:  # ten additions of a tenth are not quite one
                return False
            self._saved -= 1
        self._retries.append(now)
        return True

    def _forget(self) -> None:
        oldest = self._clock.monotonic() - WINDOW_SECONDS
        for moments in (self._requests, self._retries):
            while moments and moments[0] < oldest:
                moments.popleft()
