"""Two scorecards of one family beside each other: what changed, and whether the change is more than noise. Pure.

The two were measured at different times, so their errors are taken as independent: half widths add by their squares,
of speeds and divergences on the log scale. Where both forced the same texts this is too wide, never too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from app.comparison.report_pairs import beside
from app.comparison.results import Estimate, Scorecard, VariantResult
from app.ui import card_table
from app.ui.card_numbers import figure


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one variant, then and now. `ratio` is now ÷ then; `told` says it in words; `shown` is whether the
    interval of the change leaves out "no change"."""

    label: str
    name: str
    before: str
    now: str
    told: str
    shown: bool


Take = Callable[[VariantResult], Estimate | None]
_FIGURES: tuple[tuple[str, str, Take], ...] = (
    ("Decode", "tok/s", lambda v: v.speed.decode_tps if v.speed else None),
    ("Prefill", "tok/s", lambda v: v.speed.prefill_tps if v.speed else None),
    ("KLD", "nats", lambda v: v.quality.kld if v.quality else None),
)


def changes(before: Scorecard, now: Scorecard) -> tuple[Change, ...]:
    """For each variant that both have, in the order of the later card."""
    found = []
    called = card_table.labels(now)
    place = {variant.name: number for number, variant in enumerate(card_table.ordered(now))}
    pairs = [(pair.first, pair.second) for pair in beside(before, now).pairs if pair.first and pair.second]
    for earlier, variant in sorted(pairs, key=lambda pair: place[pair[1].name]):
        for name, unit, take in _FIGURES:
            then, later = take(earlier), take(variant)
            if then is not None and later is not None:
                found.append(_change(called[variant.name], name, unit, then, later))
    return tuple(found)


def _change(label: str, name: str, unit: str, then: Estimate, later: Estimate) -> Change:
    ratio = ratio_of(then, later)
    words = "unknown" if ratio is None else _words(ratio)
    outside = ratio is not None and ratio.low is not None and ratio.high is not None
    shown = outside and not (ratio.low <= 1 <= ratio.high)  # type: ignore[union-attr,operator]
    return Change(label, f"{name}, {unit}", _plain(then), _plain(later), words, shown)


def _plain(estimate: Estimate) -> str:
    shown = figure(estimate)
    return f"{shown.value} {shown.interval}".strip()


def ratio_of(then: Estimate, later: Estimate) -> Estimate | None:
    """Now ÷ then with a 95 % interval, where both are positive."""
    if then.value <= 0 or later.value <= 0:
        return None
    ratio = later.value / then.value
    halves = [_log_half(each) for each in (then, later)]
    if any(half is None for half in halves):
        return Estimate(ratio)
    half = math.hypot(*(each for each in halves if each is not None))
    return Estimate(ratio, ratio * math.exp(-half), ratio * math.exp(half), min(then.n, later.n))


def _log_half(estimate: Estimate) -> float | None:
    if estimate.low is None or estimate.high is None or estimate.low <= 0:
        return None
    return math.log(estimate.high / estimate.low) / 2


def _words(ratio: Estimate) -> str:
    shown = figure(ratio)
    told = f"× {shown.value}" + (f" [{figure(ratio, whole=True).interval}]" if ratio.low is not None else "")
    if ratio.low is not None and ratio.high is not None and ratio.low <= 1 <= ratio.high:
        return f"{told}, no change shown"
    return told
