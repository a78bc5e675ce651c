"""Whose time it was: a machine's seconds divided among the answers that it was making."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)


class Stretch(NamedTuple):
    """Something that ran from `start` to `end`, in seconds of one clock."""

    start: float
    end: float
    whose: Hashable


def shares(stretches: Iterable[tuple[float, float, K]], start: float, end: float) -> tuple[dict[K, float], float]:
    """(seconds by owner, seconds in which nothing ran) between `start` and `end`.

    At each moment what runs shares it equally. Instead of cutting time into pieces, one clock runs at 1/n of the speed
    while n run (as in fair queueing): what it gained between somebody's start and end is theirs.
    """
    clipped = [(max(a, start), min(b, end), whose) for a, b, whose in stretches]
    moments = sorted(
        (moment, change, at) for at, (a, b, _) in enumerate(clipped) if b > a for moment, change in ((a, 1), (b, -1))
    )
    gained: dict[K, float] = {}
    begun: dict[int, float] = {}
    fair, idle, running, last = 0.0, 0.0, 0, start
    for moment, change, at in moments:
        if running:
            fair += (moment - last) / running
        else:
            idle += moment - last
        last, running = moment, running + change
        if change > 0:
            begun[at] = fair
        else:
            whose = clipped[at][2]
            gained[whose] = gained.get(whose, 0.0) + fair - begun[at]
    return gained, idle + max(0.0, end - last)
