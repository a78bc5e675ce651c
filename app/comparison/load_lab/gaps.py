"""The gaps between the pieces of many answers: millions in a few hundred numbers, each within a quarter percent."""

from __future__ import annotations

import math
from collections import Counter

_STEP = math.log(1.005)
_LEAST = 1e-6  # seconds


class Gaps:
    """A histogram with steps of half a percent."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.n = 0
        self.sum = self.worst = 0.0

    def add(self, seconds: float) -> None:
        self._counts[round(math.log(max(seconds, _LEAST)) / _STEP)] += 1
        self.n += 1
        self.sum += seconds
        self.worst = max(self.worst, seconds)

    def percentile(self, share: float) -> float | None:
        """The gap that so many are not longer than; None where there is none."""
        if not self.n:
            return None
        left = math.ceil(share * self.n)
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return min(self.worst, math.exp(step * _STEP))
        return self.worst
