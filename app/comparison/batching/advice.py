"""What follows from a study, in words and as a setting. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from app.comparison.batching.knee import GAIN, NEARLY
from app.comparison.batching.options_run import EVEN, FASTER
from app.comparison.batching.slots_run import WORTH, best_batch
from app.comparison.batching.study import Advice, ArmResult, BatchTried, Knee, Point, Study
from app.comparison.results import Estimate, Tier
from app.core.measures import Memory
from app.core.runtime_setup import VARIABLES, RuntimeSetup

OLLAMA_KNOWS = ("slots", "flash", "kv_type")  # of `VARIABLES`: what an Ollama reads from its environment
GOOD_ENOUGH = (Tier.NEAR_LOSSLESS, Tier.VERY_CLOSE)
_GIB = 1 << 30


def of_slots(study: Study, memory: Memory | None, free: int | None) -> Advice | None:
    """From the knees and batches. `memory` is what the model would take with so many slots at its usual context,
    `free` what there is on the machine (None: not known)."""
    if not study.knees:
        return None
    knee = min(study.knees, key=lambda one: one.slots)
    now = study.asked.base
    wanted = RuntimeSetup(slots=knee.slots, batch=best_batch(study.batches))
    setup = wanted.without(now)
    sentence = f"{_slots(knee.slots)}: {_why(study, knee)}"
    if not setup.changes:
        sentence += " That is what is set already."
    notes = [_sureness(knee), *_other_shapes(study, knee), *_of_batches(study.batches, now.batch)]
    if memory is not None and memory.predicted is not None:
        notes.append(_memory(memory, knee.slots, free))
    return Advice(sentence, setup, lines_of(setup, own=study.own), tuple(note for note in notes if note))


def of_options(study: Study) -> Advice | None:
    """From the arms. A setup that is faster and as good as what is in force; else what is in force stays."""
    if len(study.arms) < 2:
        return None
    fit = [arm for arm in study.arms[1:] if arm.verdict == FASTER and (arm.tier is None or arm.tier in GOOD_ENOUGH)]
    notes = tuple(note for arm in study.arms[1:] if (note := _of_arm(arm)))
    if not fit:
        return Advice("Leave it as it is: no setup is faster beyond doubt and as good.", notes=notes)
    best = max(fit, key=lambda arm: arm.decode_ratio.value if arm.decode_ratio else 0.0)
    sentence = f"{_capital(best.setup.told)}: {_times(best.decode_ratio)} the decode speed of what is in force"
    sentence += f", and {best.tier} to it." if best.tier is not None else "."
    setup = best.setup.without(study.asked.base)
    return Advice(sentence, setup, lines_of(setup, own=study.own), notes)


def lines_of(setup: RuntimeSetup, *, own: bool) -> tuple[str, ...]:
    """What to set: for our runtime, or for an Ollama, which takes threads and batches with each request or model."""
    told = [
        f"{VARIABLES[name]}={setup.environment[VARIABLES[name]]}"
        for name in setup.changes if own or name in OLLAMA_KNOWS
    ]  # fmt: skip
    if not own:
        told += [f"PARAMETER {name} {value}" for name, value in setup.options.items()]
    return tuple(told)


def _why(study: Study, knee: Knee) -> str:
    there = _point(study, knee)
    first = next(one for one in study.points if one.shape == knee.shape and one.slots == min(_levels(study, knee)))
    told = f"{there.rate.value:.3g} tokens a second together"
    if knee.slots > 1:
        told += (
            f", {there.rate.value / first.rate.value:.2f} times one alone, while each answer comes "
            f"{there.token.value / first.token.value:.1f} times as slowly"
        )
    if knee.bound == "most":
        return f"{told}. The curve still rises there: measure with more to find where it bends."
    if knee.bound == "host":
        return f"{told}. The host answers no more at once: raise OLLAMA_NUM_PARALLEL there to measure further."
    return f"{told}. More slots add less than {_percent(GAIN)} for each doubling{_measured_beyond(study, there)}."


def _measured_beyond(study: Study, there: Point) -> str:
    """What the last step brought over the knee, as it was measured: whoever reads the curve can compare."""
    last = max((one for one in study.points if one.shape == there.shape), key=lambda one: one.slots)
    if last.slots == there.slots:
        return ""
    gain = (last.rate.value / there.rate.value) ** (1 / math.log2(last.slots / there.slots)) - 1
    return f"; measured up to {last.slots}: {_percent(gain)}"


def _sureness(knee: Knee) -> str:
    told = (
        f"Of the curves that explain what was measured, by their weight {_percent(knee.confidence)} bend at this step "
    )
    told += f"and {_percent(knee.near)} at it or a step beside it"
    return f"{told}." if knee.near >= NEARLY else f"{told}: not sure, measure in more rounds."


def _other_shapes(study: Study, knee: Knee) -> list[str]:
    return [
        f"With {one.shape.told} the knee is at {_slots(one.slots)}." for one in study.knees if one.shape != knee.shape
    ]


def _of_batches(tried: Sequence[BatchTried], usual: int | None) -> list[str]:
    if not tried:
        return []
    chosen = best_batch(tried)
    if chosen is None:
        return (
            [f"The batch stays at {usual}: no other one is {_percent(WORTH - 1)} faster beyond doubt."] if usual else []
        )
    pauses = {one.batch: one.pause for one in tried}
    told = f"Batch {chosen} reads long prompts faster"
    if usual in pauses:
        told += (
            f"; the longest pause in an answer goes from {pauses[usual]:.2f} to {pauses[chosen]:.2f} s, and Stop may "
            "take as long"
        )
    return [f"{told}."]


def _memory(memory: Memory, slots: int, free: int | None) -> str:
    told = f"With a context of {memory.context} tokens for each of {_slots(slots)} it takes about "
    told += f"{(memory.predicted or 0) / _GIB:.1f} GiB"
    if free is None:
        return f"{told}."
    if (memory.predicted or 0) > free:
        return f"{told}, and {free / _GIB:.1f} GiB are free: take fewer slots or a shorter context."
    return f"{told}; {free / _GIB:.1f} GiB are free."


def _of_arm(arm: ArmResult) -> str:
    if arm.verdict == EVEN and arm.decode_ratio is not None and arm.decode_ratio.low and arm.decode_ratio.high:
        span = f"{arm.decode_ratio.low:.2f} to {arm.decode_ratio.high:.2f} times"
        return f"{_capital(arm.setup.told)}: no difference shown; it may be {span} as fast."
    if arm.verdict == FASTER and arm.tier is not None and arm.tier not in GOOD_ENOUGH:
        return f"{_capital(arm.setup.told)} is faster and costs quality: {arm.tier}."
    return ""


def _point(study: Study, knee: Knee) -> Point:
    return next(one for one in study.points if (one.shape, one.slots) == (knee.shape, knee.slots))


def _levels(study: Study, knee: Knee) -> list[int]:
    return [one.slots for one in study.points if one.shape == knee.shape]


def _times(ratio: Estimate | None) -> str:
    if ratio is None:
        return "more than"
    span = f" ({ratio.low:.2f} to {ratio.high:.2f})" if ratio.low is not None and ratio.high is not None else ""
    return f"{ratio.value:.2f} times{span}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _slots(number: int) -> str:
    return "1 slot" if number == 1 else f"{number} slots"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
