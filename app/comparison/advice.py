"""The advisor asked about a scorecard: what was measured goes in, and what was refused does not."""

from __future__ import annotations

from app.comparison.results import Recommendation, Scorecard, Severity, VariantResult
from app.models.advisor import Candidate, Wish, advise
from app.models.catalog import CatalogVariant, CatalogView
from app.models.naming import canonical_label

_LEAST_MARGIN, _MARGIN_SHARE = 64 << 20, 0.5  # of a model that is known by its file alone: cache and buffers
_DIFFERENT = 0.9  # of the weights: a family with more is not a smaller one


def recommend(card: Scorecard, wish: Wish) -> Recommendation:
    """Which variant of the scorecard to run."""
    apart = {frozenset((pair.a, pair.b)) for pair in card.separations if pair.separated}
    return advise(candidates(card), wish, apart=apart if card.separations else None)


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


def smaller_models(view: CatalogView, card: Scorecard) -> tuple[Candidate, ...]:
    """The variants of families at hand that have fewer weights than the scorecard's, and chat as its own do."""
    ours = {name for variant in card.variants for name in (variant.name, *variant.aliases)}
    weights = max((_weights(one.size, one.bits_per_weight) for one in card.variants), default=0.0)
    found = []
    for family in view.families:
        if family.kind or any(one.name in ours for one in family.variants):
            continue
        for one in family.variants:
            usable = one.state == "ready" and not one.remote and "completion" in one.capabilities
            if usable and 0 < _weights(one.size, one.bpw) < _DIFFERENT * weights:
                found.append(_at_hand(one, family.license))
    return tuple(found)


def _at_hand(variant: CatalogVariant, license_text: str) -> Candidate:
    margin = max(_LEAST_MARGIN, _MARGIN_SHARE * variant.size)
    return Candidate(
        name=variant.name, label=canonical_label(variant.label), size=variant.size, bits_per_weight=variant.bpw,
        margin=round(margin), license=license_text,
    )  # fmt: skip


def _weights(size: int, bits: float | None) -> float:
    return 8 * size / bits if bits else 0.0
