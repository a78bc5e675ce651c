"""When questions come: constant, Poisson, a ramp, or as they came on a recorded day. Seconds since the start, rising.

All of it is known before the first one is sent. So nothing that a host does can move a later question: an open loop.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from enum import StrEnum


class Arrivals(StrEnum):
    CONSTANT = "constant"
    POISSON = "poisson"
    RAMP = "ramp"
    RECORDED = "recorded"


def constant(rate: float) -> Iterator[float]:
    return (number / rate for number in itertools.count())


def poisson(rate: float, dice: random.Random) -> Iterator[float]:
    """Independent people: the gaps are exponential."""
    return itertools.accumulate(dice.expovariate(rate) for _ in itertools.count())


def ramp(rate: float, last: float, seconds: float, dice: random.Random) -> Iterator[float]:
    """Poisson at a rate that goes evenly from `rate` to `last` within `seconds`.

    The events of a process at rate 1, each put where the integral of the rate reaches it.
    """
    slope = (last - rate) / seconds
    for event in poisson(1.0, dice):
        under_root = rate * rate + 2 * slope * event
        if under_root < 0:
            return  # the rate has fallen to nothing before
        yield event / rate if not slope else (math.sqrt(under_root) - rate) / slope


def replayed(moments: Sequence[float], speed: float) -> Iterator[float]:
    """The moments of a record, so many times as fast."""
    first = min(moments)
    return iter(sorted((moment - first) / speed for moment in moments))
