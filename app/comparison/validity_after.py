"""What the figures of a finished (or running) comparison say about themselves: drift, noise, caches, too few texts."""

from __future__ import annotations

from statistics import fmean, median, stdev

from app.comparison.progress import Measured, Progress
from app.comparison.results import Finding, Quality, Scorecard, Severity
from app.services.checking.bandwidth import MARGIN

DRIFT = 0.10  # of the decode speed, between the first and the last round
NOISE = 0.15  # of a round's decode speed, as its standard deviation
TOO_FAST = 1.75  # times the reference's bytes a second
REPEATABLE = 1e-3  # nats of the reference against itself
ENOUGH_TEXTS = 24
NOTHING_ALIKE = 0.10  # of positions with the same likeliest word


def after(card: Scorecard, progress: Progress) -> tuple[Finding, ...]:
    noise = _noise(progress)
    drift = _drift(card, progress) if noise is None else None  # what is busy with something else drifts anyway
    found = [noise, drift, _few_texts(card), _not_repeatable(card)]
    for variant in card.variants:
        measured = progress.variants.get(variant.digest)
        if measured is not None and measured.samples.absurd:
            found.append(_cached(variant.name))
    above = above_the_limit(card) if progress.bandwidth_sure else ()
    found += [_above(card, name) for name in above]
    found += [_too_fast(name) for name in faster_than_memory(card) if name not in above]
    return tuple(one for one in found if one is not None)


def nothing_in_common(quality: Quality | None) -> bool:
    """Whether the likeliest words are hardly ever the same. The bound by the 20 likeliest says nothing then: lists that
    share no word have a bound of zero."""
    return quality is not None and quality.same_top.value < NOTHING_ALIKE


def broken(name: str) -> Finding:
    text = f"{name} says something else than the reference at almost every word: it is broken, or another model."
    advice = "Look at its answers side by side; pull or make it again."
    return Finding("nothing-in-common", Severity.REFUSED, text, advice, (name,))


def faster_than_memory(card: Scorecard) -> tuple[str, ...]:
    """Variants whose weights would have gone through memory much faster than the reference's: smaller formats take
    more arithmetic, so they never reach more of the bandwidth."""
    speeds = {one.name: (one.speed.decode_tps, one.size) for one in card.variants if one.speed and one.speed.decode_tps}
    if (reference := speeds.get(card.reference)) is None:
        return ()
    usual, size = reference
    most = TOO_FAST * (usual.value if usual.high is None else usual.high) * size
    return tuple(name for name, (speed, size) in speeds.items() if (speed.low or 0.0) * size > most)


def above_the_limit(card: Scorecard) -> tuple[str, ...]:
    """Variants that wrote faster than this machine's memory can be read, by more than what measuring it may be off."""
    return tuple(
        one.name for one in card.variants
        if one.decode_limit and one.speed and one.speed.decode_tps
        and (one.speed.decode_tps.low or one.speed.decode_tps.value) > MARGIN * one.decode_limit
    )  # fmt: skip


def _drift(card: Scorecard, progress: Progress) -> Finding | None:
    ratios = [ratio for one in progress.variants.values() if (ratio := _round_ratio(one)) is not None]
    if len(ratios) < len(card.variants) or not ratios or median(ratios) > 1 - DRIFT:
        return None
    text = f"The machine was {1 - median(ratios):.0%} slower in the last round than in the first: it slows as it warms."
    advice = "All variants were slowed alike, for they took turns; what it keeps up for hours is the later figure."
    return Finding("thermal-drift", Severity.MISLEADING, text, advice)


def _round_ratio(measured: Measured) -> float | None:
    rounds = [one for one in measured.samples.decodes if len(one) > 1]  # one alone is chance
    return median(rounds[-1]) / median(rounds[0]) if len(rounds) > 1 else None


def _noise(progress: Progress) -> Finding | None:
    rounds = [one for measured in progress.variants.values() for one in measured.samples.decodes if len(one) > 1]
    spreads = [stdev(one) / fmean(one) for one in rounds]
    disturbed = sum(measured.samples.disturbed for measured in progress.variants.values())
    if not disturbed and (not spreads or median(spreads) <= NOISE):
        return None
    why = "other work ran on the host" if disturbed else f"speeds of the same thing differ by {median(spreads):.0%}"
    text = f"The machine was busy with something else while speed was measured: {why}."
    return Finding("busy-machine", Severity.MISLEADING, text, "Close what else is running and measure again.")


def _few_texts(card: Scorecard) -> Finding | None:
    counts = [variant.quality.texts for variant in card.variants if variant.quality]
    if not counts or min(counts) >= ENOUGH_TEXTS:
        return None
    text = f"Quality stands on {min(counts)} texts only; intervals are reliable from {ENOUGH_TEXTS} on."
    return Finding("few-texts", Severity.NOTE, text, "Add questions, or compare with the shipped ones.")


def _not_repeatable(card: Scorecard) -> Finding | None:
    floor = max((variant.quality.floor for variant in card.variants if variant.quality), default=0.0)
    if floor <= REPEATABLE:
        return None
    text = (
        f"The reference measured twice differs from itself by {floor:.4f}: this host does not compute alike each time."
    )
    advice = "Differences near that figure mean nothing; those far above it do."
    return Finding("not-repeatable", Severity.NOTE, text, advice)


def _cached(name: str) -> Finding:
    text = f"The host answered {name} from its prompt cache, so its reading speed was not measured."
    return Finding(
        "cached-prompts", Severity.MISLEADING, text, "Measure again while nobody else uses the host.", (name,)
    )


def _above(card: Scorecard, name: str) -> Finding:
    variant = next(one for one in card.variants if one.name == name)
    speed = variant.speed.decode_tps if variant.speed else None
    text = (
        f"{name} was measured at {speed.value if speed else 0:.0f} tokens/s, and this machine's memory allows "
        f"{variant.decode_limit or 0:.0f}: an error of measuring."
    )
    advice = "It guesses words ahead, answers are cached, or the machine was busy while its memory was measured."
    return Finding("faster-than-memory", Severity.MISLEADING, text, advice, (name,))


def _too_fast(name: str) -> Finding:
    text = (
        f"{name} writes faster than its weights can come out of memory: it guesses words ahead, or answers are cached."
    )
    return Finding("faster-than-memory", Severity.MISLEADING, text, "Do not set its speed beside the others'.", (name,))
