"""Where the curve of throughput over slots bends, and how sure that is. Pure.

The knee is the largest step that, seen from every smaller one, still brings `GAIN` more tokens a second for each
doubling of the slots. Below that, each answer slows down by nearly as much as there are more of them: by Little's law
(requests under way = throughput × time each takes) the time an answer takes grows by a factor of 2/(1 + gain) for each
doubling, 1.74 at the limit. Looking from every smaller step makes one that came out low by chance no end of the curve.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

GAIN = 0.15
DRAWS = 2000
SURE, NEARLY = 0.7, 0.95  # of the draws: for the step itself, and for it or one beside it
_SEED = 20261127  # the same figures always give the same confidence


def knee_of(levels: Sequence[int], rates: Sequence[float], gain: float = GAIN) -> int:
    """The place of the knee among the levels."""
    return _knee(levels, [math.log(rate) for rate in rates], gain)


def _knee(levels: Sequence[int], logs: Sequence[float], gain: float) -> int:
    least = math.log1p(gain)
    for place in range(len(levels) - 1, 0, -1):
        if all(logs[place] - logs[lower] >= least * math.log2(levels[place] / levels[lower]) for lower in range(place)):
            return place
    return 0


def past(levels: Sequence[int], rates: Sequence[float], gain: float = GAIN) -> bool:
    """Whether the curve has been followed two steps beyond its knee."""
    return knee_of(levels, rates, gain) <= len(levels) - 3


def sureness(levels: Sequence[int], rounds: Sequence[Sequence[float]], gain: float = GAIN) -> tuple[int, float, float]:
    """(place of the knee, how often it comes out, how often it or one beside it does), from rates by round and level.

    What a round as a whole was slower is taken out, for it bends no curve; what is left is the measuring error, taken
    as alike (in proportion) at all levels, and drawn again from Student's t. With one round nothing is known of it.
    """
    logs = [[math.log(rate) for rate in one] for one in rounds]
    size, width = len(logs), len(levels)
    means = [math.fsum(one[at] for one in logs) / size for at in range(width)]
    place = _knee(levels, means, gain)
    degrees = (size - 1) * (width - 1)
    if not degrees:
        return place, 0.0, 0.0
    of_rounds = [math.fsum(one) / width - math.fsum(means) / width for one in logs]
    squares = math.fsum(
        (one[at] - means[at] - whole) ** 2 for one, whole in zip(logs, of_rounds, strict=True) for at in range(width)
    )
    error = math.sqrt(squares / degrees / size)
    draw = random.Random(_SEED)  # noqa: S311 — no secret
    found = Counter(
        _knee(levels, [mean + error * _student(draw, degrees) for mean in means], gain) for _ in range(DRAWS)
    )
    near = sum(found[other] for other in (place - 1, place, place + 1))
    return place, found[place] / DRAWS, near / DRAWS


def _student(draw: random.Random, degrees: int) -> float:
    return draw.gauss(0, 1) / math.sqrt(max(draw.gammavariate(degrees / 2, 2), 1e-300) / degrees)
