"""The advisor asked about a scorecard: what was measured goes in, and what was refused does not."""

from __future__ import annotations

from collections.abc import Sequence

from app.comparison.results import Recommendation, Scorecard, Severity, VariantResult
from app.models.advisor import Candidate, Wish, advise
from app.models.naming import canonical_label


def recommend(card: Scorecard, wish: Wish, *, smaller: Sequence[Candidate] = ()) -> Recommendation:
    """Which variant of the scorecard to run. `smaller` are variants of families with fewer parameters."""
    apart = {frozenset((pair.a, pair.b)) for pair in card.separations if pair.separated}
    return advise(candidates(card), wish, apart=apart if card.separations else None, smaller=smaller)


def candidates(card: Scorecard) -> tuple[Candidate, ...]:
    """The variants of a scorecard without those that the validity guard refused."""
    refused = {name for found in card.findings if found.severity is Severity.REFUSED for name in found.variants}
    return tuple(candidate(one) for one in card.variants if one.name not in refused)


def candidate(variant: VariantResult) -> Candidate:
    memory, quality, speed = variant.memory, variant.quality, variant.speed
    return Candidate(
        name=variant.name,
        label=canonical_label(variant.quantization),
        size=variant.size,
        bits_per_weight=variant.bits_per_weight,
        memory=() if memory is None else memory.points,
        margin=_margin(variant),
        kld=None if quality is None else quality.kld,
        same_top=None if quality is None else quality.same_top,
        decode=None if speed is None else speed.decode_tps,
        reference=variant.reference,
        partial=bool(memory and memory.measured and memory.on_gpu and memory.on_gpu < memory.measured),
        license=variant.license,
    )


def _margin(variant: VariantResult) -> int:
    """What the host took more than was predicted; where it was not measured, what the prediction may be off."""
    memory = variant.memory
    if memory is None:
        return 0
    if memory.measured is None or memory.predicted is None:
        return memory.band or 0
    return max(0, memory.measured - memory.predicted)
