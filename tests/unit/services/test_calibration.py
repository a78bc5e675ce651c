"""Ranges are set by the errors that were seen, and never wider than a factor of three."""

from __future__ import annotations

import math
import random

import pytest

from app.services.queueing.calibration import ERRORS_KEPT, WIDEST, Calibration


def test_the_likely_figure_is_the_median_and_the_range_lies_where_most_moments_are():
    likely, middle = Calibration().estimate([1.0, 1.1, 1.2, 1.3, 90.0])
    assert likely == pytest.approx(1.2)
    eta = Calibration().eta(1, likely, middle)
    assert eta.low < 1.0 < 1.3 < eta.high < 90


def test_a_forecast_that_was_always_too_short_is_stretched():
    calibration = Calibration()
    for _ in range(ERRORS_KEPT):
        calibration.learn(2, 1.0, 1.0, 2.0)
    eta = calibration.eta(2, 5.0, 5.0)
    assert 5.0 * 1.5 < eta.likely <= 10.0
    assert eta.low < 10.0 < eta.high


def test_a_few_bad_errors_in_a_row_move_little():
    calibration = Calibration()
    for _ in range(5):
        calibration.learn(2, 1.0, 1.0, 9.0)
    assert calibration.eta(2, 5.0, 5.0).likely == pytest.approx(5.0, rel=0.1)


def test_positions_are_corrected_apart_and_far_ones_together():
    calibration = Calibration()
    for _ in range(ERRORS_KEPT):
        calibration.learn(1, 1.0, 1.0, 2.0)
        calibration.learn(9, 1.0, 1.0, 2.0)
    assert calibration.eta(2, 1.0, 1.0).likely == pytest.approx(1.0)
    assert calibration.eta(16, 1.0, 1.0).likely > 1.5


def test_a_forecast_that_is_always_true_keeps_the_truth_in_its_range():
    calibration = Calibration()
    for _ in range(ERRORS_KEPT):
        calibration.learn(1, 4.0, 4.0, 4.0)
    eta = calibration.eta(1, 4.0, 4.0)
    assert eta.likely == pytest.approx(4.0)
    assert 1.0 < eta.low < 4.0 < eta.high <= WIDEST * eta.low * (1 + 1e-9)


@pytest.mark.parametrize("spread", [0.05, 0.3, 0.4, 1.0, 2.5])
def test_the_range_is_never_wider_than_promised_and_holds_the_likely_figure(spread):
    calibration, dice = Calibration(), random.Random(3)
    held = 0
    for number in range(600):
        actual = math.exp(dice.gauss(0.5, spread))
        eta = calibration.eta(3, 1.0, 1.0)
        assert eta.low <= eta.likely <= eta.high <= WIDEST * eta.low * (1 + 1e-9)
        held += number >= 100 and eta.low <= actual <= eta.high
        calibration.learn(3, 1.0, 1.0, actual)
    if spread <= 0.35:
        assert held >= 0.8 * 500


def test_waits_of_nothing_break_nothing():
    calibration = Calibration()
    for _ in range(ERRORS_KEPT):
        calibration.learn(1, *calibration.estimate([0.0, 0.0]), 0.0)
    assert calibration.eta(1, *calibration.estimate([0.0])).low > 0
