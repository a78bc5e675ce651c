"""Two scorecards of one family beside each other: measured again, on another machine, or later. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from app.comparison.chart_parts import ends
from app.comparison.results import Estimate, Scorecard, VariantResult


@dataclass(frozen=True, slots=True)
class Pair:
    """One variant in both; None where it is only in the other. `same_file`: both digests are one.

    `quality_agrees` says whether the intervals of the divergence overlap, `speed_ratio` is the second decode speed to
    the first, with the interval that both intervals allow. None where one of them was not measured.
    """

    label: str
    first: VariantResult | None
    second: VariantResult | None
    same_file: bool = False
    quality_agrees: bool | None = None
    speed_ratio: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """`differences` are sentences about what was not the same, so that nobody compares what cannot be."""

    pairs: tuple[Pair, ...]
    differences: tuple[str, ...]


def beside(first: Scorecard, second: Scorecard) -> Beside:
    """Variants are matched by digest, else by name, else by a quantization that is there once in both."""
    left = list(second.variants)
    pairs = []
    for one in first.variants:
        other = _match(one, left, first)
        if other is not None:
            left.remove(other)
        pairs.append(_pair(one, other))
    pairs += [_pair(None, one) for one in left]
    return Beside(tuple(pairs), tuple(_differences(first, second, pairs)))


def _match(one: VariantResult, others: list[VariantResult], card: Scorecard) -> VariantResult | None:
    for same in (
        [other for other in others if other.digest == one.digest],
        [other for other in others if other.name == one.name],
        [other for other in others if other.quantization == one.quantization],
    ):
        if len(same) == 1:
            return same[0]
    return None


def _pair(one: VariantResult | None, other: VariantResult | None) -> Pair:
    there = one or other
    label = "" if there is None else there.quantization or there.name
    if one is None or other is None:
        return Pair(label, one, other)
    agrees = None
    if one.quality is not None and other.quality is not None:
        (low, high), (least, most) = ends(one.quality.kld), ends(other.quality.kld)
        agrees = low <= most and least <= high
    return Pair(label, one, other, one.digest == other.digest, agrees, _ratio(one, other))


def _ratio(one: VariantResult, other: VariantResult) -> Estimate | None:
    before = None if one.speed is None else one.speed.decode_tps
    after = None if other.speed is None else other.speed.decode_tps
    if before is None or after is None or min(ends(before)) <= 0:
        return None
    (low, high), (least, most) = ends(before), ends(after)
    return Estimate(after.value / before.value, least / high, most / low, min(before.n, after.n))


def _differences(first: Scorecard, second: Scorecard, pairs: list[Pair]) -> list[str]:
    found = []
    if first.probe_set != second.probe_set:
        found.append("The questions were not the same: divergences of different texts cannot be compared.")
    if first.depth != second.depth:
        found.append(f"The first is a {first.depth} run, the second a {second.depth} one.")
    if dict(first.options) != dict(second.options):
        found.append("The options of the requests were not the same.")
    if first.environment.server != second.environment.server:
        found.append(f"The server was {first.environment.server}, then {second.environment.server}.")
    if first.environment.machine != second.environment.machine:
        found.append(f"The machine was {first.environment.machine}, then {second.environment.machine}.")
    reference = next((pair for pair in pairs if pair.first is not None and pair.first.reference), None)
    if reference is None or reference.second is None or not reference.second.reference or not reference.same_file:
        found.append("The reference was not the same file: the divergences have different origins.")
    changed = [pair.label for pair in pairs if pair.first and pair.second and not pair.same_file]
    if changed:
        found.append(f"Not the same files: {', '.join(changed)}.")
    return found
