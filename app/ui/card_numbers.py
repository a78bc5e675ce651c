"""Measured figures as text: value, interval and n, with no more digits than the interval allows. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.comparison.results import Estimate
from app.ui import view_models as vm

ASKEW = 1.25  # an interval whose one side is longer than this times the other is told by its ends
BARE_FIGURES = 3  # significant figures of a value that has no interval
MOST_PLACES = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """A value as text, its interval as text ("" where it has none), n, and the whole as one sentence for hover."""

    value: str
    interval: str = ""
    n: int = 1
    told: str = ""


def figure(measured: Estimate | None, *, scale: float = 1.0, unit: str = "", whole: bool = False) -> Figure:
    """`scale` turns the stored unit into the shown one (seconds into ms: 1000). `whole`: a range, never ±."""
    if measured is None or not math.isfinite(measured.value):
        return Figure(vm.UNKNOWN)
    value = measured.value * scale
    low, high = (
        None if end is None or not math.isfinite(end) else end * scale for end in (measured.low, measured.high)
    )
    if low is None or high is None or low == high:
        text = plain_number(value)
        return Figure(text, "", measured.n, _told(text, "", unit, measured.n))
    digits = places((high - low) / 2, value)
    text = _fixed(value, digits)
    interval = _interval(value, low, high, digits, whole=whole)
    return Figure(text, interval, measured.n, _told(text, interval, unit, measured.n))


def _interval(value: float, low: float, high: float, digits: int, *, whole: bool) -> str:
    up, down = high - value, value - low
    if not whole and min(up, down) > 0 and max(up, down) <= ASKEW * min(up, down):
        return f"± {_fixed((high - low) / 2, digits)}"
    between = " to " if low < 0 else "–"
    return f"{_fixed(low, digits)}{between}{_fixed(high, digits)}"


def places(half_width: float, value: float = 0.0) -> int:
    """Decimals such that the half width shows two figures (one from 3 on: 0.8, 0.12, 34)."""
    if half_width <= 0:
        return _bare_places(value)
    first = math.floor(math.log10(half_width))
    leading = half_width / 10**first
    return min(MOST_PLACES, max(0, -first + (1 if leading < 3 else 0)))


def plain_number(value: float) -> str:
    """Three figures, without a trailing point: 0.0645, 41.2, 342."""
    return _fixed(value, _bare_places(value))


def _bare_places(value: float) -> int:
    if value == 0:
        return 0
    return min(MOST_PLACES, max(0, BARE_FIGURES - 1 - math.floor(math.log10(abs(value)))))


def _fixed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    whole, point, rest = text.partition(".")
    sign, whole = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    grouped = vm.grouped(int(whole)) if len(whole) > 4 else whole
    return f"{'−' if sign else ''}{grouped}{point}{rest}"


def _told(value: str, interval: str, unit: str, n: int) -> str:
    """41.2 ± 0.8 tok/s (n 8)."""
    parts = [value, *([interval] if interval.startswith("±") else [f"[{interval}]"] if interval else [])]
    return f"{' '.join(parts)}{' ' + unit if unit else ''} (n {n})"
