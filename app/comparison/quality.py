"""From the rows of two models over the same texts to figures with intervals: quality, order, strip, findings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from app.comparison import intervals
from app.comparison.alignment import Alignment, Pair, align
from app.comparison.divergence import Divergence, compare, estimate, head_to_head
from app.comparison.forcing import RowState, TextRows
from app.comparison.results import Estimate, Finding, ProbeText, Quality, Separation, Severity, TokenRow

MOST_LOST = 0.15  # of the reference's positions, before it is said; one word cut otherwise costs five of them
STRANGER = 0.60  # same-top rate below which two variants of four bits and more are hardly one model
_FLOOR_SHARE = 0.1  # of a variant's divergence that the control may reach
_FOUR_BITS = 4.0
_LEAST_FOR_P99 = 100


@dataclass(frozen=True, slots=True)
class _Compared:
    """One text: the pairs that could be compared, each with its divergence."""

    text: ProbeText
    alignment: Alignment
    pairs: tuple[tuple[Pair, Divergence], ...]

    @property
    def bounds(self) -> list[float]:
        return [found.bound for _, found in self.pairs]


def _compared(
    texts: Sequence[ProbeText], reference: Sequence[TextRows], variant: Sequence[TextRows]
) -> list[_Compared]:
    """Texts that both have rows of, in their order. A text that came out as another one is lost as a whole."""
    theirs, ours = ({rows.text_id: rows for rows in some} for some in (reference, variant))
    found = []
    for text in texts:
        if text.id in theirs and text.id in ours:
            usable = ours[text.id].positions if ours[text.id].state is not RowState.OTHER_TEXT else ()
            alignment = align(theirs[text.id].positions, usable)
            pairs = [(pair, compare(pair.reference, pair.variant)) for pair in alignment.pairs]
            found.append(_Compared(text, alignment, tuple((pair, d) for pair, d in pairs if d is not None)))
    return found


def quality(
    texts: Sequence[ProbeText], reference: Sequence[TextRows], variant: Sequence[TextRows],
    control: Sequence[TextRows],
) -> Quality | None:  # fmt: skip
    """The figures of one variant; None where not one position could be compared. `control` are the rows of the
    reference measured a second time."""
    compared = _compared(texts, reference, variant)
    found = [one for one in compared if one.pairs]
    if not found:
        return None
    bound = intervals.log_t(intervals.mean_of([one.bounds for one in found]))
    guesses = [[estimate(d.bound, d.half) for _, d in one.pairs] for one in found]
    same = [[d.same_top for _, d in one.pairs] for one in found]
    deltas = [
        math.exp(pair.variant_logprob) - math.exp(pair.reference.logprob)
        for one in found
        for pair, _ in one.pairs
        if pair.variant_logprob is not None
    ]
    every = sorted(value for one in found for value in one.bounds)
    return Quality(
        kld=_scaled(bound, intervals.mean_of(guesses).mean),
        kld_bound=bound,
        same_top=intervals.share_of(same),
        ppl_ratio=_perplexity_ratio(found),
        floor=floor(texts, reference, control),
        tokens=len(every),
        texts=len(found),
        lost=sum(one.alignment.lost for one in compared),
        retokenised=sum(one.alignment.retokenised for one in compared),
        rms_delta_p=math.sqrt(math.fsum(d * d for d in deltas) / len(deltas)) if deltas else None,
        first_difference=intervals.first_difference(same),
        kld_p99=every[math.ceil(0.99 * len(every)) - 1] if len(every) >= _LEAST_FOR_P99 else None,
        domains=_domains(found),
    )


def _scaled(bound: Estimate, value: float) -> Estimate:
    """The estimate with the bound's interval, stretched to it: what is uncertain is the mean over texts."""
    if bound.low is None or bound.high is None or not bound.value:
        return Estimate(value, bound.low, bound.high, bound.n)
    return Estimate(value, bound.low * value / bound.value, bound.high * value / bound.value, bound.n)


def _perplexity_ratio(found: Sequence[_Compared]) -> Estimate:
    """exp of the mean loss in log likelihood of the reference's tokens, where the variant's is known."""
    losses = [
        [pair.reference.logprob - pair.variant_logprob for pair, _ in one.pairs if pair.variant_logprob is not None]
        for one in found
    ]
    if not any(losses):
        return Estimate(1.0, n=0)
    return intervals.exponential(intervals.plain_t(intervals.mean_of(losses)))


def _domains(found: Sequence[_Compared]) -> dict[str, Estimate]:
    by_domain: dict[str, list[list[float]]] = {}
    for one in found:
        by_domain.setdefault(one.text.domain, []).append(one.bounds)
    return {name: intervals.log_t(intervals.mean_of(clusters)) for name, clusters in by_domain.items()}


def floor(texts: Sequence[ProbeText], reference: Sequence[TextRows], control: Sequence[TextRows]) -> float:
    """Mean divergence (bound) of the reference from itself; 0 where it was not tried."""
    bounds = [one.bounds for one in _compared(texts, reference, control) if one.pairs]
    return intervals.mean_of(bounds).mean if bounds else 0.0


def separations(
    texts: Sequence[ProbeText], reference: Sequence[TextRows], variants: Mapping[str, Sequence[TextRows]]
) -> tuple[Separation, ...]:
    """Every pair of variants on the tokens that both can be compared at, over the strings that all three lists name.
    `separated` after Holm over all pairs; a pair that differs nowhere from the reference is not separated."""
    compared = {
        name: {one.text.id: {pair.reference.offset: pair for pair, _ in one.pairs} for one in found}
        for name, found in ((name, _compared(texts, reference, rows)) for name, rows in variants.items())
    }
    pairs = list(combinations(variants, 2))
    ratios = [_paired(texts, compared[a], compared[b]) for a, b in pairs]
    adjusted = intervals.holm([1.0 if ratio is None else ratio.p_value for ratio in ratios])
    return tuple(
        Separation(a, b, Estimate(0.0, n=0) if ratio is None else ratio.estimate(), p < 1 - intervals.CONFIDENCE)
        for (a, b), ratio, p in zip(pairs, ratios, adjusted, strict=True)
    )


def _paired(
    texts: Sequence[ProbeText], a: Mapping[str, Mapping[int, Pair]], b: Mapping[str, Mapping[int, Pair]]
) -> intervals.LogRatio | None:
    sums_a, sums_b, counts = [], [], []
    for text in texts:
        ours, theirs = a.get(text.id, {}), b.get(text.id, {})
        found = [
            both
            for offset, pair in ours.items()
            if offset in theirs and (both := head_to_head(pair.reference, pair.variant, theirs[offset].variant))
        ]
        sums_a.append(math.fsum(one for one, _ in found))
        sums_b.append(math.fsum(other for _, other in found))
        counts.append(len(found))
    return intervals.log_ratio(sums_a, sums_b, counts)


def token_rows(
    texts: Sequence[ProbeText], reference: Sequence[TextRows], variant: Sequence[TextRows]
) -> tuple[TokenRow, ...]:
    """The compared positions one by one, for the divergence strip, in the order of the texts. Where the variant does
    not name the reference's token, its logprob is at most that of the last one it names, and that is given."""
    return tuple(
        TokenRow(
            one.text.id, pair.reference.offset, pair.reference.token, found.bound, pair.reference.logprob,
            pair.variant.top[-1].logprob if pair.variant_logprob is None else pair.variant_logprob,
            pair.reference.top, pair.variant.top,
        )
        for one in _compared(texts, reference, variant)
        for pair, found in one.pairs
    )  # fmt: skip


def findings(
    name: str, rows: Sequence[TextRows], measured: Quality | None, *, bits: float | None = None,
    reference_bits: float | None = None,
) -> tuple[Finding, ...]:  # fmt: skip
    """What the rows of one variant say beside their figures. Bits a weight are those of variant and reference."""
    states = [one.state for one in rows]
    found = []
    if states and all(state is RowState.NO_LOGPROBS for state in states):
        found.append(_no_logprobs(name))
    if (broken := states.count(RowState.DEGENERATE)) > 0:
        found.append(_degenerate(name, broken, len(states)))
    if (other := states.count(RowState.OTHER_TEXT)) > 0:
        found.append(_not_forced(name, other, len(states)))
    if measured is not None:
        found += _of_figures(name, measured, bits, reference_bits)
    return tuple(found)


def _of_figures(name: str, measured: Quality, bits: float | None, reference_bits: float | None) -> list[Finding]:
    found = []
    lost = measured.lost / max(1, measured.lost + measured.tokens)
    if lost > MOST_LOST:
        text = f"{lost:.0%} of the reference's tokens could not be compared with {name}, which cuts text differently."
        found.append(Finding("positions-lost", Severity.NOTE, text, "Read its figures as those of the rest.", (name,)))
    if measured.floor > _FLOOR_SHARE * measured.kld_bound.value and measured.floor > 0:
        text = f"{name} differs from the reference hardly more than the reference, measured twice, differs from itself."
        advice = "Take the two as equal: the difference is below what this machine can show."
        found.append(Finding("below-noise-floor", Severity.NOTE, text, advice, (name,)))
    least = min((some for some in (bits, reference_bits) if some is not None), default=0.0)
    if measured.same_top.value < STRANGER and least >= _FOUR_BITS:
        text = (
            f"{name} and the reference agree on the next word in only {measured.same_top.value:.0%} of all places: "
            "they are hardly two quantizations of one model."
        )
        advice = "Check where both come from; take the one that does not belong out of the comparison."
        found.append(Finding("not-the-same-model", Severity.MISLEADING, text, advice, (name,)))
    return found


def _no_logprobs(name: str) -> Finding:
    text = f"The host gives no probabilities of tokens for {name}, so its quality cannot be measured here."
    advice = "Update Ollama to 0.12.11 or newer; speed and side by side work as they are."
    return Finding("no-logprobs", Severity.REFUSED, text, advice, (name,))


def _degenerate(name: str, broken: int, of: int) -> Finding:
    text = f"The host broke {broken} of {of} texts of {name} off, for the same piece came more than 30 times in a row."
    advice = "Look at its answers side by side: a model that repeats itself without end is not fit for use."
    return Finding("degenerate-output", Severity.MISLEADING, text, advice, (name,))


def _not_forced(name: str, other: int, of: int) -> Finding:
    text = f"In {other} of {of} texts the host did not hold {name} to the reference's words; those are left out."
    advice = "If it is many, the host is too old for JSON schemas, or something between changes requests."
    return Finding("text-not-forced", Severity.NOTE, text, advice, (name,))
