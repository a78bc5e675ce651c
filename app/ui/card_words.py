"""What a scorecard says: recommendation, findings, reasons, method, environment, texts. Pure: values in, words out."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence

from app.comparison.results import (
    Finding,
    Memory,
    ProbeText,
    Recommendation,
    Scorecard,
    Severity,
    TokenRow,
    VariantResult,
)
from app.core.generation import Json
from app.ui import view_models as vm
from app.ui.card_numbers import plain_number

QUICK, DEEP = "quick", "deep"
DEPTHS = {QUICK: "Quick", DEEP: "Deep"}
STATES = {
    "running": "being measured",
    "paused": "paused",
    "done": "done",
    "cancelled": "cancelled",
    "failed": "did not end",
}
LIVE = ("running", "paused")  # there is still something to come
UNDER_THE_FLOOR = (
    "Beside the point: the reference measured against itself differs by more than a tenth of this, so it is below what "
    "this machine can tell"
)
TYPICAL = "typical"
TYPICAL_TOLD = "From published measurements of another model, not from this machine."
TIER_TOLD = "A convention, calibrated on published tables; it depends on the model."
SEVERITIES = {
    Severity.REFUSED: "Not compared",
    Severity.MISLEADING: "Would mislead",
    Severity.NOTE: "Worth knowing",
}
METHOD = (
    "Divergence: the reference's own greedy answers are forced on every variant, token by token, and the probabilities "
    "of the 20 likeliest tokens compared. Intervals are 95 %, with whole texts as the unit; "
    "speed comes from requests of its own, in turns, each with a new beginning so that no cache helps."
)

_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")  # of 4,096, which pages write with a narrow space


def why_unknown(card: Scorecard, variant: VariantResult, what: str) -> str:
    """Why a figure is a dash; `what` is memory, speed, energy or quality."""
    if variant.reference and what == "quality":
        return "This is the reference: the others are measured against it."
    if card.state in LIVE:
        return "Not measured yet."
    reasons = [note for note in variant.notes if note.startswith("energy") == (what == "energy")]
    if reasons:
        return " ".join(vm.sentence(note) for note in reasons)
    if card.state == "cancelled":
        return "Cancelled before this was measured."
    return "Not measured here."


def memory_told(memory: Memory) -> str:
    """Predicted 310 MiB ± 20 MiB with 4096 tokens of context; the host reports 327 MiB, 100 % on the GPU."""
    told = []
    if memory.predicted is not None:
        band = f" ± {vm.size(memory.band)}" if memory.band else ""
        told.append(f"Predicted {vm.size(memory.predicted)}{band} with {vm.count(memory.context, 'token')} of context")
    if memory.measured is not None:
        share = f", {vm.percent((memory.on_gpu or 0) / memory.measured)} of it on a GPU" if memory.measured else ""
        told.append(f"the host reports {vm.size(memory.measured)}{share}")
    return vm.sentence("; ".join(told))


# -- a card and its recommendation ------------------------------------------------------------------------------------


def when(moment: float, now: float) -> str:
    """14:32 today, 3 Nov 14:32 before."""
    then, today = time.localtime(moment), time.localtime(now)
    clock = time.strftime("%H:%M", then)
    if then[:3] == today[:3]:
        return clock
    year = "" if then.tm_year == today.tm_year else f" {then.tm_year}"
    return f"{then.tm_mday} {vm.MONTHS[then.tm_mon - 1][:3]}{year} {clock}"


def card_line(card: Scorecard, now: float) -> str:
    """Quick · 14:32 · 4 variants · 1 min 52 s."""
    facts = [DEPTHS.get(card.depth, card.depth), when(card.started_at, now), vm.count(len(card.variants), "variant")]
    facts.append(vm.duration(card.seconds) if card.state == "done" else STATES.get(card.state, card.state))
    return " · ".join(facts)


def headline(advice: Recommendation | None, card: Scorecard) -> str:
    """The first sentence of a card."""
    if advice is not None and advice.sentence:
        return _COMMA.sub(vm.NARROW, advice.sentence)
    if card.state in LIVE:
        return "The recommendation comes when there is something to tell apart."
    if card.state in ("cancelled", "failed"):
        return "It ended before there was enough for a recommendation. What was measured is below."
    return "These figures are not enough for a recommendation."


def partial_line(card: Scorecard) -> str:
    """Said before a recommendation that rests on a part of what was to be measured."""
    ended = {"failed": "It did not come to its end", "cancelled": "It was cancelled"}.get(card.state)
    return f"{ended}; what follows rests on what was measured until then." if ended else ""


def advice_lines(advice: Recommendation, called: dict[str, str]) -> tuple[str, ...]:
    """What stands under the sentence: ties, the runner-up, what would change the answer."""
    told = []
    tied = [called.get(name, name) for name in advice.tied]
    if any(label not in advice.sentence for label in tied):  # as a rule the sentence says it
        told.append(f"Cannot be told apart from it in quality: {listed(tied)}.")
    if advice.runner_up and advice.runner_up not in advice.tied:
        told.append(f"Runner-up: {called.get(advice.runner_up, advice.runner_up)}.")
    told += [vm.sentence(_COMMA.sub(vm.NARROW, line)) for line in advice.change]
    return tuple(told)


def notes_of(card: Scorecard, called: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """(whom, what) of all notes; one that holds for all variants comes last, once, of nobody."""
    whose: dict[str, list[str]] = {}
    for variant in card.variants:
        for note in dict.fromkeys(variant.notes):
            whose.setdefault(note, []).append(called[variant.name])
    shared = len(card.variants) if len(card.variants) > 1 else math.inf
    found = [("" if len(names) == shared else listed(names), vm.sentence(note)) for note, names in whose.items()]
    return tuple(sorted(found, key=lambda item: not item[0]))


def listed(names: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def finding_line(finding: Finding, called: dict[str, str]) -> tuple[str, str]:
    """(whom it is about and what, what to do)."""
    about = listed([called.get(name, name) for name in finding.variants])
    return (f"{about}: {finding.text}" if about and about not in finding.text else finding.text), finding.advice


def separation_line(card: Scorecard, called: dict[str, str]) -> str:
    """Which pairs the measurement could not tell apart; "" where it told all of them."""
    pairs = [pair for pair in card.separations if not pair.separated]
    if not card.separations:
        return ""
    if not pairs:
        return "Every two of these variants can be told apart by their divergence."
    told = "; ".join(f"{called.get(pair.a, pair.a)} and {called.get(pair.b, pair.b)}" for pair in pairs)
    return f"Cannot be told apart by their divergence: {told}."


def quality_line(card: Scorecard) -> str:
    """How much the divergence stands on: texts, tokens, the control, what was lost."""
    measured = [variant.quality for variant in card.variants if variant.quality is not None]
    if not measured:
        return ""
    most = max(measured, key=lambda quality: quality.tokens)
    told = f"{vm.count(most.texts, 'text')}, {vm.count(most.tokens, 'token')} a variant"
    floor = max(quality.floor for quality in measured)
    control = "exactly 0" if floor == 0 else f"{floor:.2g} nats"
    lost = sum(quality.lost for quality in measured)
    parts = [told, f"the reference against itself: {control}"]
    if lost:
        parts.append(f"{vm.count(lost, 'position')} could not be aligned and {'is' if lost == 1 else 'are'} left out")
    recut = max(quality.retokenised for quality in measured)
    if recut:
        parts.append(f"in up to {vm.count(recut, 'text')} a variant cut words otherwise, and was aligned by letters")
    return vm.sentence("; ".join(parts))


def _fact(name: str, value: Json) -> tuple[str, str]:
    told = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    if name == "memory_budget" and isinstance(value, int):
        return "Memory for a model", f"{vm.size(value)} at the beginning"
    return name.replace("_", " ").capitalize(), told


def environment_lines(card: Scorecard) -> tuple[tuple[str, str], ...]:
    """What it was measured on and with, name and value."""
    place = card.environment
    options = ", ".join(f"{name} {value}" for name, value in card.options.items())
    lines = [
        ("Machine", place.machine),
        ("Host", f"{place.host}, {place.server}" if place.server else place.host),
        ("Loupe", place.loupe),
        ("Questions", card.probe_set),
        ("Options", options),
        ("Seed", str(card.seed)),
        ("Reference", card.reference),
    ]
    facts = [_fact(name, value) for name, value in place.facts.items() if str(value) not in place.machine]
    return tuple((name, value) for name, value in [*lines, *facts] if value)


# -- the text, token by token -----------------------------------------------------------------------------------------

STRIP_TOLD = (
    "An answer of the reference, forced on the variant. The darker a token, the further the variant's expectation was "
    "from the reference's there. Choose a token for what each of them would have said."
)


def by_text(rows: Sequence[TokenRow]) -> dict[str, Sequence[TokenRow]]:
    """The rows of each text in their order, the text with the largest divergence first."""
    found: dict[str, list[TokenRow]] = {}
    for row in rows:
        found.setdefault(row.text_id, []).append(row)
    return {
        text: sorted(members, key=lambda row: row.offset)
        for text, members in sorted(found.items(), key=lambda item: -mean_kld(item[1]))
    }


def mean_kld(rows: Sequence[TokenRow]) -> float:
    return sum(row.kld for row in rows) / len(rows) if rows else 0.0


def text_line(asked: ProbeText | None, rows: Sequence[TokenRow]) -> str:
    """0.31 nats · Why does the sky look blue? (facts)"""
    beginning = " ".join((asked.question if asked else "".join(row.token for row in rows)).split())
    short = beginning if len(beginning) <= 60 else f"{beginning[:59].rstrip()}…"
    return f"{plain_number(mean_kld(rows))} nats · {short}" + (f" ({asked.domain})" if asked else "")


# -- what was measured before -----------------------------------------------------------------------------------------

NO_CARDS = "Nothing was measured yet. A quick scorecard takes about a minute for four small variants."


def deleting_lines(card: Scorecard, now: float) -> tuple[str, ...]:
    return (
        f"{card_line(card, now)}.",
        "Its figures and the rows they stand on are deleted for good. The models stay, and so do reports you saved.",
    )
