"""What the batching lab says: choices, how long, tables, lines of a list. Pure: values in, words out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.comparison.batching.study import OPTIONS, SLOTS, ArmResult, Point, Shape, Study
from app.comparison.results import Estimate
from app.core.runtime_setup import RuntimeSetup
from app.services.jobs import JobView
from app.ui import view_models as vm
from app.ui.card_numbers import figure

KINDS = {SLOTS: "Slots", OPTIONS: "Runtime options"}
KINDS_TOLD = {
    SLOTS: "How many answers at once this machine is good for: more of them at the same moment, step by step, until "
    "the throughput gains little and each answer only gets slower.",
    OPTIONS: "Other settings of the runtime against those in force, to and fro: which are faster beyond doubt, and "
    "what they cost in quality where they change what is computed.",
}
METHODS = {
    SLOTS: "So many requests begin at the same moment, each with words of its own that no host has read before, and "
    "are of one length; the first round goes up, the others visit small and large steps in turn. The knee is the last "
    "step that brings 15 % more tokens a second for each doubling, seen from every smaller one, in the median of the "
    "curves that explain all visits, each by how well it does; how sure it is comes from how far these differ.",
    OPTIONS: "Each round measures every setup once, to and fro, with the model loaded anew; ratios are paired by "
    "round, with 95 % intervals, and called faster or slower only where that holds after Holm over all setups. Quality "
    "is the divergence of the next token's probabilities on answers of what is in force.",
}
SHAPES: Mapping[str, Shape] = {
    "Short question": Shape(64, 48), "Long prompt": Shape(512, 32), "Long answer": Shape(64, 192),
}  # fmt: skip
USUAL_SHAPES = ("Short question", "Long prompt")
MOSTS = (4, 8, 16, 32)
BATCHES = (64, 128, 256, 512)
NONE_YET = "Nothing was measured yet."
UNTOUCHED = "People who chat go first, and nothing of what they use is changed meanwhile."
SLOT_COLUMNS = ("At once", "Together", "First token", "Each token", "Whole answer", "Longest pause")
ARM_COLUMNS = ("Setup", "Decode", "Against now", "Prefill", "First token", "Quality", "Verdict")
BATCH_COLUMNS = ("Batch", "Together", "Against now", "Longest pause")
STATES = {
    "running": "measuring", "paused": "paused", "done": "", "cancelled": "cancelled", "failed": "failed",
    "interrupted": "cut off when Loupe ended",
}  # fmt: skip
LIVE = ("running", "paused")


def arms_of(threads: int) -> dict[str, RuntimeSetup]:
    """What can be set against what is in force, by its label; `threads` are those of this machine."""
    counts = sorted({1, max(1, threads // 2), threads, 2 * threads})
    found = [
        *(RuntimeSetup(threads=count) for count in counts),
        RuntimeSetup(flash=True), RuntimeSetup(flash=False),
        *(RuntimeSetup(kv_type=kind) for kind in ("q8_0", "q4_0")),
        *(RuntimeSetup(batch=batch) for batch in BATCHES),
    ]  # fmt: skip
    return {_label(setup): setup for setup in found}


def _label(setup: RuntimeSetup) -> str:
    return setup.told[:1].upper() + setup.told[1:]


def in_force_line(in_force: RuntimeSetup, kept: RuntimeSetup) -> str:
    changed = f" Changed here: {kept.told}." if kept.changes else ""
    return f"The built-in runtime has {in_force.told}.{changed}"


def study_line(study: Study, now: float) -> str:
    """Slots · 3 min ago · host."""
    state = STATES.get(study.state, study.state)
    told = (KINDS[study.asked.kind], vm.ago(now - study.started_at), study.asked.host, state)
    return " · ".join(part for part in told if part)


def headline(study: Study) -> str:
    if study.advice is not None:
        return study.advice.sentence
    return "Being measured." if study.state in LIVE else "It ended before there was a result."


def progress_told(study: Study, job: JobView | None) -> str:
    if study.state == "paused":
        return "Paused. It goes on where it was."
    if job is None or not job.detail:
        return "Beginning."
    return vm.sentence(job.detail).removesuffix(".")


def slot_rows(study: Study, shape: Shape) -> list[list[str]]:
    """The rows of one shape; that of its knee says so."""
    knee = next((one.slots for one in study.knees if one.shape == shape), None)
    return [_slot_row(point, knee == point.slots) for point in study.points if point.shape == shape]


def _slot_row(point: Point, is_knee: bool) -> list[str]:
    return [
        f"{point.slots}, the knee" if is_knee else str(point.slots),
        f"{told(point.rate)} tok/s", vm.ttft(point.ttft.value), vm.duration(point.token.value),
        vm.duration(point.whole.value), vm.duration(point.pause),
    ]  # fmt: skip


def batch_rows(study: Study) -> list[list[str]]:
    return [
        [str(one.batch), f"{told(one.rate)} tok/s", _ratio(one.ratio), vm.duration(one.pause)] for one in study.batches
    ]


def arm_rows(study: Study) -> list[list[str]]:
    return [_arm_row(arm, first=place == 0) for place, arm in enumerate(study.arms)]


def _arm_row(arm: ArmResult, *, first: bool) -> list[str]:
    return [
        "In force" if first else _label(arm.setup), f"{told(arm.decode)} tok/s",
        "–" if first else _ratio(arm.decode_ratio),
        f"{told(arm.prefill)} tok/s" if arm.prefill else vm.UNKNOWN, vm.ttft(arm.ttft.value), _quality(arm),
        "" if first else arm.verdict,
    ]  # fmt: skip


def _quality(arm: ArmResult) -> str:
    if arm.quality is None:
        return "the same" if not (arm.setup.kv_type or arm.setup.flash is not None) else vm.UNKNOWN
    return f"{arm.tier}, KLD {arm.quality.kld.value:.4f}, same-top {vm.percent(arm.quality.same_top.value)}"


def told(measured: Estimate) -> str:
    """61.2 ± 1.4, or 20 (13–32) where the interval is askew."""
    shown = figure(measured)
    askew = shown.interval and not shown.interval.startswith("±")
    return f"{shown.value} {f'({shown.interval})' if askew else shown.interval}".strip()


def _ratio(measured: Estimate | None) -> str:
    return f"{told(measured)} ×" if measured is not None else "–"


def what_to_set(lines: Sequence[str]) -> str:
    return "\n".join(lines)
