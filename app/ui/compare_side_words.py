"""What the side-by-side view says of panes and their answers. Pure: values in, words out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.comparison.live_round import PanePhase
from app.comparison.rounds import Figures, Pane, PaneAnswer, Round
from app.comparison.word_diff import Difference
from app.core.conversations import MessageState
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.ui import model_words, theme
from app.ui import view_models as vm

TTFT = "Time to first token: from sending to the loaded model until the first word, without queue and load."
PREFILL = "Prefill: tokens of the prompt read per second."
DECODE = "Decode: tokens written per second, without queue, load and prefill."
LOAD = "What the host needed to bring the model into memory for this answer."
MEMORY = "What the host reports for the model: weights, context and buffers."
JOULES = "Energy for each token of the answer, by the counters of this machine."
OUT_OF_CACHE = "This answer came out of the cache: no model ran for it."
JOINED = "Another pane asked exactly the same at the same time: both show that one answer."
NOT_COLD = "The model was loaded already and may have held the beginning of the prompt. The fair run measures it."
JOULES_UNIT = " J/token"
NOT_SAID = "The host did not say."
NOT_LOADED = "The model was loaded already."


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure of a pane; `why` explains it, or says why there is none."""

    name: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A variant as the picker shows it."""

    family: CatalogFamily
    variant: CatalogVariant

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def label(self) -> str:
        return f"{self.variant.label} · {self.family.title}"


def choices(catalog: CatalogView) -> dict[str, Choice]:
    """Every variant that can be asked, by name, in the catalog's order."""
    return {
        variant.name: Choice(family, variant)
        for family in catalog.families
        for variant in family.variants
        if variant.state == "ready" and not variant.remote and model_words.chats(variant)
    }


def first_choice(known: dict[str, Choice]) -> list[str]:
    """What is picked where nobody picked yet: of the family with the most variants the best, the usual, the least."""
    families: dict[str, list[str]] = {}
    for name, choice in known.items():
        families.setdefault(choice.family.key, []).append(name)
    largest = max(families.values(), key=len, default=[])
    if len(largest) < 2:
        return []
    usual = next((name for name in largest[1:-1] if known[name].variant.label == "Q4_K_M"), "")
    return [name for name in (largest[0], usual, largest[-1]) if name]


def colour(choice: Choice | None) -> str:
    if choice is None:
        return theme.REFERENCE
    return theme.bpw_colour(choice.variant.bpw, reference=choice.variant.reference)


def short(pane: Pane, panes: Sequence[Pane]) -> str:
    """A pane's name beside the others: the quantization alone where all are of one family."""
    label, _, family = pane.label.partition(" · ")
    several = len({each.label.partition(" · ")[2] for each in panes}) > 1
    return f"{label} · {family}" if several and family else label


def label_of(names: Sequence[str], known: Mapping[str, Choice]) -> Callable[[str], str]:
    """What to call these variants: the quantization alone where all are of one family; one that is gone by its name."""
    several = len({known[name].family.key for name in names if name in known}) > 1

    def label(name: str) -> str:
        choice = known.get(name)
        return name if choice is None else choice.label if several else choice.variant.label

    return label


def own_options(pane: Pane) -> str:
    """What this pane asks otherwise than the others."""
    return ", ".join(f"{OPTION_NAMES.get(name, name)} {value}" for name, value in pane.options.items())


OPTION_NAMES = {"temperature": "temperature", "seed": "seed", "num_predict": "at most", "num_ctx": "context"}


def doing(phase: PanePhase, variant: str) -> str:
    """What an unfinished pane waits for."""
    if phase.name == "turn":
        return "waits for its turn"
    if phase.name == "measuring":
        return "measuring its speed…"
    if phase.name in ("", "done"):
        return ""
    eta = (phase.eta.low, phase.eta.high) if phase.eta else None
    return vm.waiting(phase.name, variant, phase.position, eta)


def compared(others: int) -> str:
    """What is said of the pane that so many others are compared with."""
    return "the other is compared with it" if others == 1 else "the others are compared with it"


def ended(answer: PaneAnswer) -> str:
    """How an answer ended that is not simply complete."""
    if answer.state is MessageState.COMPLETE:
        return "Cut at the token limit." if answer.answer.done_reason == "length" else ""
    return {
        MessageState.STOPPED: "Stopped.",
        MessageState.INTERRUPTED: "Interrupted: Loupe was stopped meanwhile.",
    }.get(answer.state, "")


def figures_note(pane: Pane, answer: PaneAnswer) -> str:
    """The line above a pane's figures where they need one."""
    if pane.unfair:
        return f"The fair run failed: {vm.sentence(pane.unfair)}"
    if pane.fair is not None:
        told = f"Measured alone, warmed up, n {pane.fair.n}."
        return told + (" Other work ran meanwhile: not comparable for speed." if pane.fair.disturbed else "")
    if answer.shared:
        return "Not comparable for speed: the machine worked on something else, too."
    return ""


def unfair(pane: Pane, answer: PaneAnswer | None = None) -> bool:
    """Whether its speeds compare with nothing, as far as is known."""
    first = answer or (pane.answers[0] if pane.answers else None)
    return pane.fair.disturbed if pane.fair is not None else first is not None and first.shared


def facts(pane: Pane, answer: PaneAnswer) -> tuple[Fact, ...]:
    """The figures under a finished answer. A fair run's speeds take the place of the answer's own."""
    usage, fair = answer.answer.usage, pane.fair
    missing = OUT_OF_CACHE if answer.answer.cached else JOINED if answer.joined else NOT_SAID
    speeds = _fair(fair) if fair is not None else _own(answer, missing)
    tokens = vm.grouped(usage.output_tokens) if usage and usage.output_tokens else vm.UNKNOWN
    return (*speeds, Fact("tokens", tokens, "Tokens of the answer."), _load(answer, missing), _memory(answer, missing),
            _energy(pane, answer, missing))  # fmt: skip


def _own(answer: PaneAnswer, missing: str) -> tuple[Fact, ...]:
    usage = answer.answer.usage
    if not answer.measured or usage is None:
        return tuple(Fact(name, vm.UNKNOWN, missing) for name in ("TTFT", "prefill", "decode"))
    prefill = answer.prefill_tps
    return (
        Fact("TTFT", vm.ttft(answer.ttft), TTFT),
        Fact("prefill", vm.rate(prefill), PREFILL if prefill is not None else NOT_COLD),
        Fact("decode", vm.rate(usage.decode_tps), DECODE),
    )


def _fair(figures: Figures) -> tuple[Fact, ...]:
    return (
        Fact("TTFT", span(figures.ttft, vm.ttft, " s"), TTFT),
        Fact("prefill", span(figures.prefill_tps, vm.rate, " tok/s"), PREFILL),
        Fact("decode", span(figures.decode_tps, vm.rate, " tok/s"), DECODE),
    )


def span(values: tuple[float, float] | None, told: Callable[[float], str], unit: str) -> str:
    """Lowest to highest: 41.2–42.0 tok/s; one value where both say the same."""
    if values is None:
        return vm.UNKNOWN
    low, high = (told(value) for value in values)
    return low if low == high else f"{low.removesuffix(unit)}–{high}"


def _load(answer: PaneAnswer, missing: str) -> Fact:
    usage = answer.answer.usage
    if not answer.measured or usage is None:
        return Fact("load", vm.UNKNOWN, missing)
    if not answer.cold:
        return Fact("load", vm.UNKNOWN, NOT_LOADED)
    return Fact("load", vm.duration(usage.load_ns / 1e9), LOAD)


def _memory(answer: PaneAnswer, missing: str) -> Fact:
    if answer.memory is None:
        return Fact("memory", vm.UNKNOWN, missing)
    where = f", {vm.size(answer.vram)} of it on the GPU" if answer.vram else ""
    context = f" Context {vm.count(answer.context, 'token')}." if answer.context else ""
    return Fact("memory", vm.size(answer.memory), f"{MEMORY}{context}{where}")


def _energy(pane: Pane, answer: PaneAnswer, missing: str) -> Fact:
    fair = pane.fair.joules_per_token if pane.fair is not None else None
    if fair is not None:
        return Fact("energy", span(fair, joules, JOULES_UNIT), JOULES)
    own = answer.joules_per_token
    if own is None:
        return Fact("energy", vm.UNKNOWN, vm.sentence(answer.no_joules) or missing)
    return Fact("energy", joules(own), JOULES)


def joules(value: float) -> str:
    return f"{value:.2g}{JOULES_UNIT}"


def given(round_: Round) -> str:
    """What all panes were given before the first question; "" for nothing."""
    told = [f"System prompt: {' '.join(round_.system.split())[:120]}"] if round_.system.strip() else []
    told += [f"After {vm.count(len(round_.context), 'message')} of a past chat"] if round_.context else []
    return " · ".join(told)


def where(round_: Round, question: int, answer: PaneAnswer) -> str:
    """Which host answered, where not all panes had the same one."""
    told = [pane.answers[question].answer for pane in round_.panes if question < len(pane.answers)]
    hosts = {one.host for one in told if one.host and not one.cached}
    if len(hosts) < 2 or not answer.answer.host or answer.answer.cached:
        return ""
    return f"Answered by {answer.answer.host}: speeds of different hosts tell of the hosts, too."


def cached(answer: PaneAnswer) -> str:
    if answer.joined:
        return "Shared with another pane."
    if not answer.answer.cached:
        return ""
    age = answer.answer.cached_age
    return "From the cache" + (f", {vm.ago(age)}." if age is not None else ".")


def differs(difference: Difference, reference: str) -> str:
    """How an answer stands to the reference pane's."""
    if difference.same:
        return f"The same words as {reference}."
    shared = vm.percent(difference.shared)
    cut = " Only the beginning was compared." if difference.cut else ""
    return f"Differs from {reference} from word {difference.first} on; {shared} of the words are shared.{cut}"


def round_line(round_: Round, now: float) -> str:
    """Variants and age of a stored round."""
    names = ", ".join(short(pane, round_.panes) for pane in round_.panes)
    more = f" · {len(round_.questions)} questions" if len(round_.questions) > 1 else ""
    state = "" if round_.complete else " · not finished"
    return f"{names}{more}{state} · {vm.ago(now - round_.created_at)}"
