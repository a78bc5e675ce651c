"""What the advisor weighs, and how each figure is come by: measured here, else as published tables have it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

from app.core.measures import Estimate, MemoryPoint, Tier
from app.models.published_ladders import QUALITIES, QualityRow, decode_ratio, typical_quality, typical_speed
from app.models.published_ladders import typical_same_top as published_same_top
from app.models.tiers import measured_tier, tier_of

PREDICTED_SPREAD = 0.25  # of a speed that follows from another variant's: how far off it may be
_LABEL_LIES = 0.9  # of the published bits: a file with fewer is not what its label says


@dataclass(frozen=True, slots=True)
class Candidate:
    """One variant to choose from. Bytes; nats; tokens a second.

    `margin` is added to what `memory` predicts: its error, or by how much the host took more. `kld`, `same_top` and
    `decode` are None where they were not measured. `partial`: measured with a part of it outside the GPU.
    """

    name: str
    label: str
    size: int
    bits_per_weight: float | None = None
    memory: tuple[MemoryPoint, ...] = ()
    margin: int = 0
    kld: Estimate | None = None
    same_top: Estimate | None = None
    decode: Estimate | None = None
    reference: bool = False
    calibrated: bool = False  # made with an importance matrix
    partial: bool = False
    license: str = ""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A candidate with the figures it is judged by. `typical`: the tier is that of published tables (`kld` too);
    `predicted`: the speed follows from another variant's. `tier` is None where nothing is known."""

    candidate: Candidate
    tier: Tier | None
    kld: Estimate | None
    same_top: Estimate | None
    decode: Estimate | None
    title: str = ""  # what to call it: its quantization where that is enough
    typical: bool = False
    predicted: bool = False

    @property
    def name(self) -> str:
        return self.candidate.name

    @property
    def slowest(self) -> float | None:
        """The lower end of its decode speed."""
        speed = self.decode
        return None if speed is None else (speed.value if speed.low is None else speed.low)


class _Typical(NamedTuple):
    kld: float
    same_top: float | None


def weigh(candidates: Sequence[Candidate]) -> tuple[Weighed, ...]:
    """All candidates with measured figures, or typical ones scaled by how the measured siblings did."""
    scale = _scale(candidates)
    labels = [one.label for one in candidates]
    found = []
    for one in candidates:
        decode, predicted = _decode(one, candidates)
        title = one.label if one.label and labels.count(one.label) == 1 else one.name
        judged = Weighed(one, None, None, None, decode, title=title, predicted=predicted)
        found.append(_judged(judged, scale))
    return tuple(found)


def need(candidate: Candidate, context: int, kv_type: str) -> int | None:
    """Bytes for `context` tokens, the margin included; the size of the file where nothing is predicted for any cache
    type, None where nothing is for this one. Between two predictions, and beyond them, on a straight line."""
    if not candidate.memory:
        return candidate.size + candidate.margin
    points = sorted((point.context, point.predicted) for point in candidate.memory if point.kv_type == kv_type)
    if not points:
        return None
    if len(points) == 1:
        return points[0][1] + candidate.margin if context <= points[0][0] else None
    pair = next(((a, b) for a, b in zip(points, points[1:], strict=False) if context <= b[0]), (points[-2], points[-1]))
    (start, low), (end, high) = pair
    return round(low + (high - low) * (context - start) / (end - start)) + candidate.margin


def _judged(weighed: Weighed, scale: float) -> Weighed:
    """With its tier, and what that stands on."""
    one = weighed.candidate
    if one.reference:
        same, all_ = Estimate(0.0, 0.0, 0.0), Estimate(1.0, 1.0, 1.0)
        return replace(weighed, tier=Tier.NEAR_LOSSLESS, kld=same, same_top=all_)
    if one.kld is not None:
        return replace(weighed, tier=measured_tier(one.kld, one.same_top), kld=one.kld, same_top=one.same_top)
    usual = _typical(one)
    if usual is None:
        return replace(weighed, typical=True)
    kld = usual.kld * scale
    same_top = usual.same_top if scale <= 1 else None
    told = None if same_top is None else Estimate(same_top)
    return replace(weighed, tier=tier_of(kld, same_top), kld=Estimate(kld), same_top=told, typical=True)


def _typical(one: Candidate) -> _Typical | None:
    """The published figures of the label; where the file has fewer bits than its label, or one that is not published,
    those of the next format below its bits."""
    row, bits = typical_quality(one.label, calibrated=one.calibrated), one.bits_per_weight
    speed = typical_speed(one.label)
    short = bits is not None and speed is not None and bits < _LABEL_LIES * speed.bits
    if row is not None and not short:
        return _Typical(row.kld, published_same_top(one.label))
    below = None if bits is None else _below(bits)
    return None if below is None else _Typical(below.kld, published_same_top(below.label))


def _below(bits: float) -> QualityRow | None:
    """The published format with the most bits of those that have at most `bits`; the worst one where none has."""
    rows = [(speed.bits, row) for row in QUALITIES if (speed := typical_speed(row.label)) is not None]
    fitting = [(own, row.kld, row) for own, row in rows if own <= bits]
    if fitting:
        return max(fitting, key=lambda found: found[:2])[2]
    return min(rows, key=lambda found: found[0])[1] if rows else None


def _scale(candidates: Iterable[Candidate]) -> float:
    """How many times more this model loses than the published one, by its measured variants; at least 1."""
    ratios = [
        one.kld.value / usual.kld
        for one in candidates
        if one.kld is not None and not one.reference and (usual := _typical(one)) is not None
    ]
    return max(1.0, median(ratios)) if ratios else 1.0


def _decode(one: Candidate, all_: Sequence[Candidate]) -> tuple[Estimate | None, bool]:
    if one.decode is not None:
        return one.decode, False
    found = [
        other.decode.value * ratio
        for other in all_
        if other.decode is not None
        and not other.partial
        and (ratio := decode_ratio(one.label, one.size, other.label, other.size)) is not None
    ]
    if not found:
        return None, False
    value = median(found)
    return Estimate(value, value * (1 - PREDICTED_SPREAD), value * (1 + PREDICTED_SPREAD), len(found)), True
