"""The scorecard that follows from what has been measured so far. Pure.

The figures are made anew from the raw rows and samples each time, so that what was interrupted and gone on with ends
with the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.comparison import quality as figures
from app.comparison import validity, validity_after
from app.comparison.advice import recommend
from app.comparison.progress import CONTROL, Measured, Progress, Raw
from app.comparison.results import Finding, Memory, Quality, Scorecard, TaskScore, VariantResult
from app.comparison.speed import speed_of
from app.comparison.subjects import Subject
from app.comparison.task_bank import make_tasks
from app.comparison.tasks import task_scores
from app.models.decode_reads import decode_reads
from app.models.tiers import measured_tier
from app.models.wishes import Wish
from app.services.checking.bandwidth import decode_limit


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was found so far. `reference` is its place among the subjects, `server` the host's version."""

    subjects: Sequence[Subject]
    reference: int
    progress: Progress
    raw: Raw
    server: tuple[str, str]

    @property
    def ref(self) -> Subject:
        return self.subjects[self.reference]


def card_of(card: Scorecard, found: Found, wish: Wish) -> Scorecard:
    """The scorecard as far as it is measured. Takes some tenths of a second: off the loop."""
    progress, raw = found.progress, found.raw
    withheld = validity.withheld(found.subjects, found.reference, progress, found.server)
    measured = {one.digest: _quality(one, found) for one in found.subjects if one.digest not in withheld}
    apart = [one for one in found.subjects if validity_after.nothing_in_common(measured.get(one.digest))]
    measured |= {one.digest: None for one in apart}
    shown = {variant.digest: variant for variant in card.variants}
    variants = tuple(
        replace(
            _variant(shown[one.digest], progress.variants.get(one.digest), measured.get(one.digest)),
            decode_limit=_limit(one, progress),
        )
        for one in found.subjects
    )
    there = {one.name: raw.of(one.digest) for one in found.subjects if measured.get(one.digest) is not None}
    separations = figures.separations(progress.texts, raw.of(found.ref.digest), there) if len(there) > 1 else ()
    scores = _task_scores(card, found)
    variants = tuple(replace(variant, tasks=scores.get(variant.name, ())) for variant in variants)
    card = replace(card, variants=variants, separations=separations, seconds=progress.seconds)
    told = (*(validity_after.broken(one.name) for one in apart), *_findings(card, found))
    card = replace(card, findings=tuple(dict.fromkeys(told)))
    return replace(card, recommendation=recommend(card, wish) if there or _all_fast(card) else None)


def _task_scores(card: Scorecard, found: Found) -> dict[str, tuple[TaskScore, ...]]:
    outcomes = found.raw.outcomes
    theirs = {
        one.name: outcomes[one.digest] for one in found.subjects if one is not found.ref and outcomes.get(one.digest)
    }
    if not theirs:
        return {}
    return task_scores(make_tasks(card.seed), outcomes.get(found.ref.digest, []), theirs)


def _all_fast(card: Scorecard) -> bool:
    """Whether the speeds are all there, which is enough for advice where quality cannot be measured."""
    return all(variant.speed and variant.speed.decode_tps for variant in card.variants)


def _quality(subject: Subject, found: Found) -> Quality | None:
    rows = found.raw.of(subject.digest)
    if subject is found.ref or not rows:
        return None
    return figures.quality(found.progress.texts, found.raw.of(found.ref.digest), rows, found.raw.of(CONTROL))


def _variant(shown: VariantResult, measured: Measured | None, quality: Quality | None) -> VariantResult:
    tier = measured_tier(quality.kld, quality.same_top) if quality else None
    if measured is None:
        return replace(shown, quality=quality, tier=tier)
    speed, notes = speed_of(measured.samples) if measured.samples.loads or measured.samples.decodes else (None, ())
    memory = shown.memory or Memory(0)
    if measured.size is not None:
        memory = replace(memory, measured=measured.size, on_gpu=measured.on_gpu)
    return replace(
        shown, memory=memory, speed=speed, quality=quality, tier=tier, depths=measured.depths,
        sustained_ratio=measured.sustained, notes=notes,
    )  # fmt: skip


def _limit(subject: Subject, progress: Progress) -> float | None:
    """Tokens/s that memory allows, for a variant that was loaded into the memory of this machine's processor."""
    measured = progress.variants.get(subject.digest)
    if progress.bandwidth is None or measured is None or measured.size is None or measured.on_gpu:
        return None
    return decode_limit(progress.bandwidth, decode_reads(subject.detail, subject.info.size))


def _findings(card: Scorecard, found: Found) -> tuple[Finding, ...]:
    bits = found.ref.facts.bits_per_weight
    told = [*validity.before(found.subjects, found.reference, found.server)]
    told += validity.loaded(found.subjects, found.reference, found.progress, card.options)
    for subject, variant in zip(found.subjects, card.variants, strict=True):
        rows = found.raw.of(subject.digest)
        told += figures.findings(
            subject.name, rows, variant.quality, bits=subject.facts.bits_per_weight, reference_bits=bits
        )
    told += validity_after.after(card, found.progress)
    return tuple(told)
