"""The tables of a deep scorecard: generated tasks, and speed with a full context. Pure: a card in, words out."""

from __future__ import annotations

from dataclasses import dataclass

from app.comparison.results import Scorecard, TaskScore
from app.ui import card_table
from app.ui import view_models as vm
from app.ui.card_numbers import figure


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    told: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tasks(card: Scorecard) -> Table | None:
    """None where no tasks were asked."""
    called = card_table.labels(card)
    rows = [(called[variant.name], *_task(score)) for variant in card_table.ordered(card) for score in variant.tasks]
    if not rows:
        return None
    return Table(
        "Tasks with right answers",
        "The same items for all. A difference smaller than the one that could have been seen means nothing either way.",
        ("Variant", "Task", "Right", "Reference", "Difference, points", "Answers that flipped", "Verdict"),
        tuple(rows),
    )


def _task(score: TaskScore) -> tuple[str, ...]:
    difference = figure(score.difference, scale=100.0)
    return (
        f"{score.kind} ({score.items})",
        _share(score.passed),
        _share(score.reference_passed),
        f"{difference.value} {difference.interval}".strip(),
        _share(score.flips),
        verdict(score),
    )


def _share(part: float) -> str:
    return f"{100 * part:.1f} %"


def verdict(score: TaskScore) -> str:
    """What the paired test says, with what it could have seen."""
    if score.equivalent:
        return "as good, within 2 points"
    if score.p_value < 0.05:
        return f"{'worse' if score.difference.value < 0 else 'better'} (p {score.p_value:.2g}, corrected)"
    return f"no difference shown; {100 * score.detectable:.0f} points would have been seen"


def depths(card: Scorecard) -> Table | None:
    """Decode speed with a full context and after minutes; None where it was not measured."""
    called = card_table.labels(card)
    measured = sorted({each.depth for variant in card.variants for each in variant.depths})
    if not measured:
        return None
    rows = []
    for variant in card_table.ordered(card):
        at = {each.depth: figure(each.decode_tps) for each in variant.depths}
        cells = [f"{at[d].value} {at[d].interval}".strip() if d in at else vm.UNKNOWN for d in measured]
        lasting = vm.UNKNOWN if variant.sustained_ratio is None else f"× {variant.sustained_ratio:.2f}"
        rows.append((called[variant.name], *cells, lasting))
    return Table(
        "Speed as the context fills",
        "Decode speed in tok/s with so many tokens in the context, and how much of it is left after minutes at work.",
        ("Variant", *(vm.count(depth, "token") for depth in measured), "After minutes"),
        tuple(rows),
    )
