"""Where the curve of throughput over slots bends, and how sure that is. Pure.

The knee of a curve is the largest step that, seen from every smaller one, still brings `GAIN` more tokens a second for
each doubling of the slots. Below that, each answer slows down by nearly as much as there are more of them: by Little's
law (requests under way = throughput × time each takes) the time an answer takes grows by a factor of 2/(1 + gain) for
each doubling, 1.74 at the limit.

What was measured is no curve: it has errors, and other programs slow some visits down. So it is held against many
curves: a time of α + βn for n answers at once (what a processor does that reads the weights once for all), the sharp
bend of a machine that is full from some n on, what lies between, curves that fall at the end, and curves that rise anew
from some step on: kernels for several rows at once begin at a number of them (llama.cpp's on a processor brought 60 %
from 6 to 8 answers at once, behind a stretch that was nearly flat). Each counts by how
well it explains all visits, where what it leaves is an error of its own for each visit, of unknown size, and a drift
from visit to visit, of unknown strength (a random walk). The knee is the median of the curves' knees; a single visit,
or a load that comes and goes, moves that little, where it would move the first step that falls short by chance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

GAIN = 0.15
SURE, NEARLY = 0.7, 0.95  # of the curves' weight: for the step itself, and for it or one beside it
BENDS = 110  # places of the bend, from where all curves are flat to where all are straight
_FIRST, _LAST = 0.25, 150.0  # slots: the first and the last bend
_SHARPNESS = ((1, 1.0), (2, 1.0), (4, 0.5), (16, 0.5))  # 1 is α + βn, 16 a corner; with how likely it is beforehand
_FALLING = ((1.0, 1.0), (1.3, 0.3))  # the power of n in the time beyond the bend
_RISES = (0.4, 0.7)  # logarithms of what a curve gains where it rises anew, at once or over a doubling
_RISING = 0.001  # of all curves beforehand: rare, but unmistakable where it is so
_SPARSE = 4  # every so many of the bends is tried with a rise
_DRIFTS = (0.0, 0.1, 0.5, 2.0)  # variance of a step of the drift to that of an error
_ENOUGH, _FAR, _OF_NORMAL = 3, 3.0, 1.4826
_USUAL, _USUAL_COUNT = 0.03, 2  # an error is about so large, which counts like so many visits


@dataclass(frozen=True, slots=True)
class Found:
    """`place` of the knee among the steps measured, the weight of the curves with that knee, and of those with it or
    one beside it."""

    place: int
    confidence: float
    near: float

    @property
    def sure(self) -> bool:
        return self.confidence >= SURE and self.near >= NEARLY


def knee_of(levels: Sequence[int], rates: Sequence[float]) -> int:
    """The place of the knee among the levels, of rates without errors."""
    import numpy as np

    return int(_knees(levels, np.log(np.array([rates], dtype=float)))[0])


def found(ladder: Sequence[int], seen: Sequence[tuple[int, float]]) -> Found:
    """From (slots, tokens a second) of all visits, in their order. `ladder` begins with the steps that were visited,
    in order; a knee beyond them is told as the last one visited, with the weight of all that lies there."""
    shares = likely(tuple(ladder), seen)
    last = max(ladder.index(level) for level, _ in seen)
    inside = [*shares[:last], math.fsum(shares[last:])]
    place = next((at for at in range(last) if math.fsum(inside[: at + 1]) >= 0.5), last)
    near = math.fsum(inside[max(0, place - 1) : place + 2])
    return Found(place, round(inside[place], 4), round(near, 4))


def likely(ladder: tuple[int, ...], seen: Sequence[tuple[int, float]]) -> list[float]:
    """How likely each step is the knee."""
    import numpy as np

    logs, beforehand, knees = _curves(ladder, max(ladder.index(level) for level, _ in seen))
    told = np.array(_tamed(seen))
    curves = logs[:, [ladder.index(level) for level, _ in seen]]
    count, weights = len(seen), []
    for drift in _DRIFTS:
        at = np.arange(count)
        root = np.linalg.cholesky(np.eye(count) + drift * np.minimum.outer(at, at))
        white = np.linalg.solve(root, np.column_stack([np.ones(count), told, curves.T]))
        level, seen_white = white[:, 0], white[:, 1]
        left = seen_white[:, None] - white[:, 2:]
        left -= np.outer(level, level @ left / (level @ level))  # how fast the machine is as a whole
        squares = np.square(left).sum(axis=0) + _USUAL_COUNT * _USUAL**2
        ways = np.log(np.diag(root)).sum() + math.log(level @ level) / 2
        weights.append(beforehand - ways - (count - 1 + _USUAL_COUNT) / 2 * np.log(squares))
    together = np.concatenate(weights)
    shares = np.exp(together - together.max())
    summed = np.bincount(np.tile(knees, len(_DRIFTS)), shares, len(ladder))
    return [float(share) for share in summed / summed.sum()]


def _tamed(seen: Sequence[tuple[int, float]]) -> list[float]:
    """The logarithms; what lies far from the other visits of its step, as of a round that a program spoiled which has
    ended since, is taken as if it lay `_FAR` usual deviations from their median. That takes three visits of a step."""
    by_level: dict[int, list[float]] = {}
    for level, rate in seen:
        by_level.setdefault(level, []).append(math.log(rate))
    middles = {level: statistics.median(logs) for level, logs in by_level.items() if len(logs) >= _ENOUGH}
    apart = [abs(log - middle) for level, middle in middles.items() for log in by_level[level]]
    far = _FAR * max(_USUAL, _OF_NORMAL * statistics.median(apart)) if apart else 0.0
    return [
        min(max(math.log(rate), middles[level] - far), middles[level] + far) if level in middles else math.log(rate)
        for level, rate in seen
    ]


@lru_cache(maxsize=16)
def _curves(ladder: tuple[int, ...], reach: int) -> tuple[Any, Any, Any]:
    """(their logarithms by step, what they weigh beforehand as a logarithm, the places of their knees). They rise anew
    at steps up to `reach`: of those that nobody has visited nothing can be said."""
    import numpy as np

    steps = np.log(np.array(ladder, dtype=float))
    bends = np.linspace(math.log(_FIRST), math.log(_LAST), BENDS)
    logs, beforehand = [], []
    for sharpness, common in _SHARPNESS:
        for power, usual in _FALLING:
            beyond = sharpness * power * (steps[None, :] - bends[:, None])
            logs.append(steps[None, :] - np.logaddexp(0, beyond) / sharpness)
            beforehand.append(np.full(BENDS, common * usual))
    rises = _rises(steps, reach)
    if len(rises):
        sparse = [curves[::_SPARSE] for curves in logs[:: len(_FALLING)]]
        weights = [usual[::_SPARSE] for usual in beforehand[:: len(_FALLING)]]
        rising = (np.concatenate(sparse)[:, None, :] + rises[None, :, :]).reshape(-1, len(steps))
        rare = np.repeat(np.concatenate(weights), len(rises))
        rare *= _RISING / (1 - _RISING) * np.concatenate(beforehand).sum() / rare.sum()
        logs, beforehand = [*logs, rising], [*beforehand, rare]
    curves = np.concatenate(logs)
    return curves, np.log(np.concatenate(beforehand)), _knees(ladder, curves)


def _rises(steps: Any, reach: int) -> Any:
    """What is added to a curve that rises anew, a row for each place, size and manner."""
    import numpy as np

    rows = []
    for place in range(1, reach + 1):
        at_once = (np.arange(len(steps)) >= place).astype(float)
        slowly = np.clip((steps - steps[place - 1]) / math.log(2), 0.0, 1.0)
        rows += [size * manner for size in _RISES for manner in (at_once, slowly)]
    return np.array(rows)


def _knees(levels: Sequence[int], curves: Any) -> Any:
    """The place of each curve's knee."""
    import numpy as np

    least, knees = math.log1p(GAIN), np.zeros(len(curves), dtype=int)
    for place in range(1, len(levels)):
        wanted = [least * math.log2(levels[place] / lower) for lower in levels[:place]]
        knees[(curves[:, place, None] - curves[:, :place] >= wanted).all(axis=1)] = place
    return knees
