"""What the sliders beside a recommendation offer, and the wish that they make. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from app.comparison.results import Scorecard
from app.core.runtime_setup import PLAIN_KV
from app.models.wishes import FLOORS, Use, Wish

MIB, GIB = 2**20, 2**30
USES = {Use.CHAT: "Chat", Use.CODE: "Code", Use.EXTRACTION: "Extraction"}
LEAST_SPEEDS = (0, 2, 4, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150)


@dataclass(frozen=True, slots=True)
class Choices:
    """What the sliders offer, and where they begin."""

    budgets: tuple[int, ...]
    budget: int
    contexts: tuple[int, ...]
    context: int


def choices_of(card: Scorecard) -> Choices:
    """Budgets from what is too little for the least variant to what the machine has; contexts as predicted."""
    sizes = [variant.size for variant in card.variants if variant.size] or [GIB]
    machine = machine_budget(card)
    most = max(machine or 0, 2 * max(sizes))
    budgets = [step for step in _steps(min(sizes) // 2, most) if step != machine]
    if machine:
        budgets.append(machine)
    measured = next((v.memory.context for v in card.variants if v.memory is not None), 4096)
    points = {point.context for v in card.variants if v.memory is not None for point in v.memory.points}
    contexts = tuple(sorted({measured, *points}))
    return Choices(tuple(sorted(budgets)), machine or max(budgets), contexts, measured)


def machine_budget(card: Scorecard) -> int | None:
    """What a model may take on the machine of this card; None where it did not say."""
    value = card.environment.facts.get("memory_budget")
    return value if isinstance(value, int) and value > 0 else None


def _steps(low: int, high: int) -> list[int]:
    """Round sizes, four to a doubling, from at most `low` to at least `high`."""
    step = 64 * MIB
    found: list[int] = []
    while step * 2 <= low:
        step *= 2
    while not found or found[-1] < high:
        found += [step, step * 5 // 4, step * 3 // 2, step * 7 // 4]
        step *= 2
    return [size for size in found if size < high * 1.3]


def wish_of(card: Scorecard, budget: int, context: int, use: Use, least: float | None) -> Wish:
    """For the host of this card, with its cache kept as it was then."""
    kept = card.environment.facts.get("kv_type")
    kv_type = kept if isinstance(kept, str) else PLAIN_KV
    return Wish(budget, context, use, None if least is None else float(least), kv_type)


def least_speed(use: Use) -> int:
    """Where the slider of the speed stands for a use."""
    return min(LEAST_SPEEDS, key=lambda speed: abs(speed - FLOORS[use]))


def first_wish(card: Scorecard) -> Wish:
    """What the sliders stand at before anybody moves them; for it the card has its recommendation."""
    choices = choices_of(card)
    return wish_of(card, choices.budget, choices.context, Use.CHAT, least_speed(Use.CHAT))
