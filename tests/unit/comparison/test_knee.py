"""Where a curve of throughput bends, from rates whose truth is known.

`KNEE_TRIALS` sets how many times three sweeps are simulated of each kind (400: some minutes).
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable

import pytest

from app.comparison.batching.knee import GAIN, found, knee_of
from app.comparison.batching.slots_run import round_order

LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24)
LEVELS = LADDER[:6]
TRIALS = int(os.environ.get("KNEE_TRIALS", "12"))


def saturating(most: float, levels=LEVELS) -> list[float]:
    """Ten tokens a second for each slot until the machine gives `most`."""
    return [min(10.0 * level, most) for level in levels]


def swept(truth: Callable[[int], float], noise: Callable[[int], float], rounds: int) -> list[tuple[int, float]]:
    """Up first, then to and fro, as the lab does; `noise` is the logarithm's error of the nth visit."""
    order = [*LEVELS, *(level for number in range(1, rounds) for level in round_order(LEVELS, number))]
    return [(level, truth(level) * math.exp(noise(at))) for at, level in enumerate(order)]


@pytest.mark.parametrize(("most", "knee"), [(10, 1), (20, 2), (30, 3), (40, 4), (60, 6), (1000, 8)])
def test_the_knee_is_where_the_machine_gives_no_more(most, knee):
    assert LEVELS[knee_of(LEVELS, saturating(most))] == knee


@pytest.mark.parametrize(("share", "knee"), [(GAIN - 0.01, 0), (GAIN + 0.01, 1)])
def test_a_gain_is_counted_for_each_doubling(share, knee):
    assert knee_of((1, 2), (10.0, 10 * (1 + share))) == knee
    assert knee_of((1, 4), (10.0, 10 * (1 + share) ** 2)) == knee


@pytest.mark.parametrize(("most", "knee"), [(10, 1), (20, 2), (30, 3), (40, 4), (1000, 8)])
def test_exact_figures_give_the_knee_that_they_have(most, knee):
    told = found(LADDER, swept(lambda level: min(10.0 * level, most), lambda _: 0.0, 3))
    assert LEVELS[told.place] == knee and told.sure


def test_a_curve_that_falls_has_its_knee_at_the_top():
    falls = dict(zip(LEVELS, [10, 14, 12, 9, 8, 7], strict=True))
    assert LEVELS[found(LADDER, swept(falls.__getitem__, lambda _: 0.0, 3)).place] == 2


RISES = dict(zip((*LEVELS, 12, 16), (39, 48, 55, 59, 66, 95, 118, 122), strict=True))
"""As measured on two cores: nearly flat from 3 to 6 at once, then kernels for several rows begin."""


@pytest.mark.parametrize(("last", "knee"), [(8, 8), (12, 12), (16, 12)])
def test_a_curve_that_rises_anew_behind_a_flat_part_has_its_knee_behind_the_rise(last, knee):
    levels = [level for level in RISES if level <= last]
    for trial in range(TRIALS):
        draw = random.Random(trial)
        seen = [(level, RISES[level] * math.exp(draw.gauss(0, 0.08))) for _ in range(4) for level in levels]
        told = found((*levels, 2 * last, 4 * last), seen)
        assert abs(told.place - levels.index(knee)) <= 1
        assert levels[told.place] > 6


def test_one_visit_that_something_disturbed_moves_the_knee_by_one_step_at_most():
    for spoiled in range(18):
        told = found(LADDER, swept(lambda level: level / (1 + level), lambda at, bad=spoiled: -0.5 * (at == bad), 3))
        assert abs(told.place - 3) <= 1


def test_two_rounds_of_two_steps_that_disagree_are_no_calamity():
    told = found((1, 2, 3, 4), [(1, 1.0), (2, 3.0), (2, 1.5), (1, 4.0)])
    assert told.place in (0, 1) and 0 < told.confidence < 1 and told.near == 1.0


def test_a_machine_that_slows_down_from_visit_to_visit_keeps_its_knee():
    """By half in the end, which by itself bends the first round as if nothing were gained after the third step."""
    told = found(LADDER, swept(lambda level: level / (1 + level), lambda at: -0.7 * at / 24, 4))
    assert abs(told.place - 3) <= 1


def test_small_and_large_steps_stand_next_to_each_other():
    assert round_order(LEVELS, 1) == [1, 8, 2, 6, 3, 4]
    assert round_order(reversed(LEVELS), 2) == [4, 3, 6, 2, 8, 1]
    assert round_order((1, 2, 3), 1) == [1, 3, 2]


def white(size: float) -> Callable[[random.Random], Callable[[int], float]]:
    return lambda draw: lambda at: draw.gauss(0, size)


def drifting(draw: random.Random) -> Callable[[int], float]:
    """Up to half as fast or twice as fast at the end, and 5 % at each visit."""
    whole = draw.uniform(-0.7, 0.7)
    return lambda at: whole * at / 36 + draw.gauss(0, 0.05)


def wandering(draw: random.Random) -> Callable[[int], float]:
    """Other programs come and go: a random walk of 8 % a visit beside 5 %."""
    path = [0.0]
    for _ in range(60):
        path.append(path[-1] + draw.gauss(0, 0.08))
    return lambda at: path[at] + draw.gauss(0, 0.05)


@pytest.mark.parametrize(
    "noise", [white(0.1), white(0.2), white(0.3), drifting, wandering], ids=["10%", "20%", "30%", "drift", "walk"]
)
@pytest.mark.parametrize("bend", [0.5, 1.0, 1.5])
def test_three_sweeps_name_the_same_knee_give_or_take_a_step(bend, noise):
    """It is near the truth as often as they say, within a fifth: at 30 % they say too much."""
    truth = LEVELS[knee_of(LADDER, [level / (bend + level) for level in LADDER])]
    agree, right, said = 0, 0, 0.0
    for trial in range(TRIALS):
        draw = random.Random(1000 * trial + 7)
        three = [
            found(LADDER, swept(lambda level: level / (bend + level), noise(draw), 6)) for _ in range(3)
        ]  # fmt: skip
        middle = sorted(one.place for one in three)[1]
        agree += all(abs(one.place - middle) <= 1 for one in three)
        right += sum(abs(one.place - LEVELS.index(truth)) <= 1 for one in three)
        said += sum(one.near for one in three)
    print(f"bend {bend}: agree {agree / TRIALS:.3f}, right {right / TRIALS / 3:.3f}, said {said / TRIALS / 3:.3f}")
    assert agree >= 0.7 * TRIALS
    assert right / TRIALS / 3 >= said / TRIALS / 3 - 0.2


def test_the_same_figures_give_the_same_confidence():
    seen = swept(lambda level: level / (1 + level), lambda at: 0.05 * (at % 3), 3)
    assert found(LADDER, seen) == found(LADDER, seen)
