"""What the scorecard says before and while it is measured: choices, how long, what happens now. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.comparison.results import Scorecard
from app.models.catalog import CatalogFamily, CatalogVariant
from app.services.jobs import JobView
from app.ui import view_models as vm
from app.ui.card_words import DEEP, QUICK, listed

SHIPPED, OWN, CHATS = "Loupe's questions", "My own prompts", "My chats"
QUESTIONS = (SHIPPED, OWN, CHATS)
QUESTIONS_TOLD = {
    SHIPPED: "Short questions in eight domains, written for this and answered by the reference.",
    OWN: "The most relevant figure of all: one prompt a paragraph, at least eight. They go to your model "
    "host, are kept with the result and stand in its report; nowhere else.",
    CHATS: "The first question of each of your newest chats. They go to your model host, are kept with the result and "
    "stand in its report; nowhere else.",
}
DEPTH_TOLD = {
    QUICK: "Memory, speed and divergence.",
    DEEP: "Also tasks with right answers, speed with a full context and over minutes, and figures by domain that are "
    "narrow enough to compare.",
}
NOTHING_TO_COMPARE = (
    "A scorecard compares quantizations of one model, and no model here has two. Make a second one from a 16-bit "
    "variant in seconds, or get one, on the Models screen."
)

# -- choosing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """A family that can be compared, and those of its variants that are ready."""

    family: CatalogFamily
    variants: tuple[CatalogVariant, ...]


def choices(families: Sequence[CatalogFamily]) -> tuple[Choice, ...]:
    """Families with at least two quantizations at hand."""
    found = []
    for family in families:
        ready = tuple(variant for variant in family.variants if variant.state == "ready" and not variant.remote)
        if len(ready) > 1:
            found.append(Choice(family, ready))
    return tuple(found)


def best_reference(variants: Sequence[CatalogVariant]) -> CatalogVariant:
    """The one with the most bits, which the others are measured against."""
    return max(variants, key=lambda variant: (variant.bpw or 0.0, variant.size))


def variant_line(variant: CatalogVariant) -> str:
    """Q4_K_M · 98 MiB · 5.97 bpw."""
    return " · ".join((variant.label, vm.size(variant.size or None), vm.bits(variant.bpw)))


def own_prompts(text: str) -> tuple[str, ...]:
    """One prompt a paragraph; where there are no blank lines, one a line."""
    blocks = [block.strip() for block in text.replace("\r\n", "\n").split("\n\n")]
    found = [block for block in blocks if block]
    return tuple(line.strip() for line in text.splitlines() if line.strip()) if len(found) == 1 else tuple(found)


LEAST_PROMPTS = 8
OWN_PLACEHOLDER = "Summarise this letter in two sentences: …\n\nWrite a SQL query that …"
_SECONDS, _SECONDS_A_GIB = {QUICK: 22.0, DEEP: 330.0}, {QUICK: 16.0, DEEP: 180.0}  # a variant, seen on two cores


def measure_label(number: int) -> str:
    return f"Measure {vm.count(number, 'variant')}"


def cannot_begin(number: int) -> str:
    """What is missing for a scorecard of so many variants, the reference counted."""
    return "Choose at least one variant beside the reference." if number < 2 else ""


def how_long(depth: str, seconds: float) -> str:
    """What it does and how long that takes."""
    time_told = vm.about(seconds).capitalize()
    return f"{DEPTH_TOLD[depth]} {time_told}; it goes on when you leave, and lets chats go first."


def seconds_for(depth: str, sizes: Sequence[int], before: Sequence[Scorecard]) -> float:
    """How long variants of these sizes (bytes) will take: as the newest finished card of them did here, a variant, else
    by their sizes. `before` are cards of the same family, the newest first."""
    for card in before:
        if card.depth == depth and card.state == "done" and card.seconds and card.variants:
            return len(sizes) * card.seconds / len(card.variants)
    return sum(_SECONDS[depth] + _SECONDS_A_GIB[depth] * size / 2**30 for size in sizes)


def too_few_prompts(number: int) -> str:
    return (
        f"{vm.count(number, 'prompt')} given; at least {LEAST_PROMPTS} are needed for an interval that says something."
    )


# -- on its way -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One variant on the way: `state` is done, now or left."""

    label: str
    state: str
    told: str


def steps(card: Scorecard, job: JobView | None = None) -> tuple[Step, ...]:
    """How far each variant is, by what it has and by what the job is at."""
    found = []
    for variant in card.variants:
        has = [
            name
            for name, there in (
                ("memory", variant.memory is not None and variant.memory.measured is not None),
                ("speed", variant.speed is not None and variant.speed.decode_tps is not None),
                ("divergence", variant.quality is not None),
            )
            if there
        ]
        wanted = 2 if variant.reference else 3
        here = job is not None and job.detail.startswith(f"{variant.name}:")
        state = "done" if len(has) >= wanted and not here else "now" if has or here else "left"
        told = "measured" if state == "done" else listed(has) if has else "begun" if here else "to be measured"
        found.append(Step(variant.quantization or variant.name, state, told))
    return tuple(found)


def progress_told(card: Scorecard, job: JobView | None) -> str:
    """What is measured now, or why nothing is."""
    if card.state == "paused":
        return "Paused. It goes on where it was."
    if job is None:
        return "Waiting for its turn."
    if not job.detail:
        return "Beginning."
    told = job.detail
    for variant in sorted(card.variants, key=lambda each: -len(each.name)):  # no name within another one
        told = told.replace(variant.name, variant.quantization or variant.name)
    return told[:1].upper() + told[1:] if told == job.detail else told


def time_left(job: JobView) -> str:
    if job.eta is None or not job.active:
        return ""
    return f"{vm.about(job.eta)} left"
