"""The two figures of every row: order statistics of a series, and how many failures the trials cannot rule out."""

from __future__ import annotations

import math
from collections.abc import Sequence

CONFIDENCE = 0.95


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed (nearest rank). At least one value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def upper_bound(failures: int, trials: int) -> float:
    """The one-sided 95 % upper bound of the share of failures, exact (Clopper and Pearson).

    Without a failure it is 1 - 0.05^(1/n), which the rule of three rounds to 3/n. 1.0 without trials.
    """
    if failures >= trials:
        return 1.0
    low, high = failures / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(failures, trials, middle) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def _at_most(k: int, n: int, p: float) -> float:
    """The probability of at most `k` successes in `n` trials; in logarithms, so that large n does not overflow."""
    if p in (0.0, 1.0):
        return float(p == 0.0 or k >= n)
    logs = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logs)))
