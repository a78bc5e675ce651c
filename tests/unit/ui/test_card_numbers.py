"""Measured figures: no more digits than the interval allows."""

from __future__ import annotations

import pytest

from app.comparison.results import Estimate
from app.ui.card_numbers import figure, places


@pytest.mark.parametrize(
    ("measured", "words", "value", "interval"),
    [
        (Estimate(41.23, 40.4, 42.1, 8), {}, "41.2", "± 0.9"),
        (Estimate(0.0645, 0.0512, 0.0811, 24), {}, "0.065", "± 0.015"),
        (Estimate(0.0645, 0.05, 0.12, 24), {}, "0.06", "0.05–0.12"),
        (Estimate(0.957, 0.938, 0.976, 24), {"scale": 100.0}, "95.7", "± 1.9"),
        (Estimate(0.38, 0.34, 0.47, 5), {"scale": 1000.0, "whole": True}, "380", "340–470"),
        (Estimate(12_345.6, 12_000, 12_700), {}, "12\u202f346", "± 350"),
        (Estimate(-0.07, -0.15, 0.03, 60), {"scale": 100.0}, "−7", "−15 to 3"),
        (Estimate(0.0, 0.0, 0.0, 24), {}, "0", ""),
        (Estimate(0.00447), {}, "0.00447", ""),
        (None, {}, "–", ""),
        (Estimate(float("nan")), {}, "–", ""),
    ],
)
def test_a_figure_shows_the_digits_that_its_interval_allows(
    measured: Estimate | None, words: dict[str, float], value: str, interval: str
) -> None:
    shown = figure(measured, **words)  # type: ignore[arg-type]
    assert (shown.value, shown.interval) == (value, interval)


def test_the_whole_figure_is_one_sentence_with_unit_and_n() -> None:
    assert figure(Estimate(41.23, 40.4, 42.1, 8), unit="tok/s").told == "41.2 ± 0.9 tok/s (n 8)"
    assert figure(Estimate(0.0645, 0.05, 0.12, 24), unit="nats").told == "0.06 [0.05–0.12] nats (n 24)"


@pytest.mark.parametrize(("half", "digits"), [(34, 0), (3.4, 0), (2.4, 1), (0.8, 1), (0.12, 2), (0.0009, 4)])
def test_a_half_width_keeps_one_or_two_figures(half: float, digits: int) -> None:
    assert places(half) == digits
