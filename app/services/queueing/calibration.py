"""How true forecasts were: the range and the likely figure are set by the errors seen at the same position.

The range is as wide as nine in ten of those errors need, and never wider than a factor of three; where that holds
fewer, it lies where it has held most.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import NormalDist

from app.services.queueing.views import Eta

WIDEST = 3.0  # high over low
SHARE = 0.9  # of the errors that the range is to hold, where it may be wide enough
ERRORS_KEPT = 60
PRIOR = tuple(NormalDist(0.0, 0.4).inv_cdf((number + 0.5) / 40) for number in range(40))
"""Errors that are supposed from the beginning: a few bad ones in a row, which have one cause, move nothing much."""
SOON = 0.02  # seconds; shorter waits are not told apart
FULL = math.log(WIDEST)


class Calibration:
    """Errors are logarithms of actual over foretold: of the likely figure, and of the middle of the range."""

    def __init__(self) -> None:
        self._errors: dict[int, deque[tuple[float, float]]] = {}

    def estimate(self, moments: Sequence[float]) -> tuple[float, float]:
        """(likely seconds, middle of the range) as played, before any correction: the median, and the middle of the
        window of the widest range that holds most of the moments."""
        ordered = sorted(math.log(max(SOON, moment)) for moment in moments)
        low, high = _fullest(ordered, FULL)
        return math.exp(_median(ordered)), math.exp((low + high) / 2)

    def eta(self, position: int, likely: float, middle: float) -> Eta:
        errors = self._errors.get(_bucket(position), ())
        low, high = _tightest(sorted([*PRIOR, *(error for _, error in errors)]))
        shift = _median(sorted([*PRIOR, *(error for error, _ in errors)]))
        first = middle * math.exp(low)
        last = min(middle * math.exp(high), WIDEST * first)
        return Eta(min(max(likely * math.exp(shift), first), last), first, last)

    def learn(self, position: int, likely: float, middle: float, actual: float) -> None:
        """A request that was told so has waited `actual` seconds since."""
        came = math.log(max(SOON, actual))
        kept = self._errors.setdefault(_bucket(position), deque(maxlen=ERRORS_KEPT))
        kept.append((came - math.log(max(SOON, likely)), came - math.log(max(SOON, middle))))


def _bucket(position: int) -> int:
    """Positions that share their errors: each of the first four alone, then by powers of two."""
    return position if position <= 4 else 1 << (position - 1).bit_length()


def _median(ordered: Sequence[float]) -> float:
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _tightest(errors: Sequence[float]) -> tuple[float, float]:
    """The narrowest window that holds `SHARE` of the sorted errors, with some room; else the fullest of the widest."""
    count = math.ceil(SHARE * len(errors))
    width, first = min((errors[first + count - 1] - errors[first], first) for first in range(len(errors) - count + 1))
    room = min(width * 0.1 + 0.05, FULL / 2)
    if width + 2 * room <= FULL:
        return errors[first] - room, errors[first] + width + room
    return _fullest(errors, FULL)


def _fullest(ordered: Sequence[float], width: float) -> tuple[float, float]:
    """The window of that width that holds most of the sorted values, with equal room on both sides."""
    best, held, last = 0, 0, 0
    for first in range(len(ordered)):
        while last < len(ordered) and ordered[last] <= ordered[first] + width:
            last += 1
        if last - first > held:
            best, held = first, last - first
    low = (ordered[best] + ordered[best + held - 1] - width) / 2
    return low, low + width
