"""Where a curve of throughput bends, from rates whose truth is known."""

from __future__ import annotations

import random

import pytest

from app.comparison.batching.knee import GAIN, knee_of, past, sureness

LEVELS = (1, 2, 3, 4, 6, 8)


def saturating(most: float, levels=LEVELS) -> list[float]:
    """Ten tokens a second for each slot until the machine gives `most`."""
    return [min(10.0 * level, most) for level in levels]


@pytest.mark.parametrize(("most", "knee"), [(10, 1), (20, 2), (30, 3), (40, 4), (60, 6), (1000, 8)])
def test_the_knee_is_where_the_machine_gives_no_more(most, knee):
    assert LEVELS[knee_of(LEVELS, saturating(most))] == knee


@pytest.mark.parametrize(("share", "knee"), [(GAIN - 0.01, 0), (GAIN + 0.01, 1)])
def test_a_gain_is_counted_for_each_doubling(share, knee):
    assert knee_of((1, 2), (10.0, 10 * (1 + share))) == knee
    assert knee_of((1, 4), (10.0, 10 * (1 + share) ** 2)) == knee


def test_two_rounds_of_two_steps_that_disagree_are_no_calamity():
    """One degree of freedom: what is drawn again then has no bounds."""
    place, confidence, near = sureness((1, 2), [[1.0, 3.0], [4.0, 1.5]])
    assert place in (0, 1) and 0 < confidence < 1 and near == 1.0


def test_one_step_that_came_out_low_is_no_end_of_the_curve():
    assert LEVELS[knee_of(LEVELS, [10, 13.0, 12.9, 16.5, 17.0, 17.2])] == 4


def test_a_curve_that_falls_has_its_knee_at_the_top():
    assert LEVELS[knee_of(LEVELS, [10, 14, 12, 9, 8, 7])] == 2


def test_a_sweep_ends_two_steps_beyond_the_knee():
    rates = saturating(20)
    ends = [len(rates[:n]) for n in range(1, 7) if past(LEVELS[:n], rates[:n])]
    assert ends[0] == 4  # 1, 2 and two further ones


def test_exact_figures_are_sure_and_one_round_is_not():
    rates = saturating(30)
    assert sureness(LEVELS, [rates, rates, rates]) == (2, 1.0, 1.0)
    assert sureness(LEVELS, [rates]) == (2, 0.0, 0.0)


def test_a_round_that_was_slower_as_a_whole_takes_no_confidence_away():
    rates = saturating(30)
    place, confidence, _ = sureness(LEVELS, [rates, [rate * 0.6 for rate in rates], [rate * 1.3 for rate in rates]])
    assert (place, confidence) == (2, 1.0)


def test_what_is_said_of_the_sureness_holds():
    """Of many noisy sweeps of one machine, the knee is named at least as often as they say."""
    draw, truth = random.Random(7), saturating(38)
    right, said = 0, 0.0
    for _ in range(60):
        rounds = [[rate * draw.lognormvariate(0, 0.06) for rate in truth] for _ in range(3)]
        place, _, near = sureness(LEVELS, rounds)
        right += abs(LEVELS.index(4) - place) <= 1
        said += near
    assert right / 60 >= 0.95
    assert said / 60 <= right / 60 + 0.05


def test_the_same_figures_give_the_same_confidence():
    rounds = [[10, 14, 15, 19, 20, 21], [11, 13, 16, 18, 21, 20], [10, 14, 16, 18, 20, 22]]
    assert sureness(LEVELS, rounds) == sureness(LEVELS, rounds)
