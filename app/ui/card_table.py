"""The scorecard's table as values: a row for each variant, a cell for each figure. Pure: a card in, words out.

An unknown figure is a dash and says why. The reference comes first, then by the guaranteed divergence, the least first:
labels promise an order that the weights of a small model do not keep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from app.comparison.results import Estimate, Memory, Scorecard, Severity, VariantResult
from app.ui import card_words as words
from app.ui import view_models as vm
from app.ui.card_numbers import Figure, figure, plain_number


@dataclass(frozen=True, slots=True)
class Cell:
    """`value` is what is read first, `under` the quiet line below it, `told` the sentence on hover. `tone`: predicted,
    weak (beside the point) or ""."""

    value: str
    under: str = ""
    told: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """`term` is the glossary's word for it, where the title is one."""

    key: str
    title: str
    unit: str
    term: str


@dataclass(frozen=True, slots=True)
class Row:
    """One variant. `tied` names the labels that cannot be told apart from it; `warned` says that a finding names it."""

    variant: VariantResult
    label: str
    cells: tuple[Cell, ...]
    tier: str
    tied: tuple[str, ...] = ()
    warned: bool = False


COLUMNS = (
    Column("size", "Size", "", "bpw"),
    Column("memory", "Memory", "", "memory"),
    Column("load", "Load", "", "warm load"),
    Column("ttft", "TTFT", "", "TTFT"),
    Column("prefill", "Prefill", "tok/s", "prefill speed"),
    Column("decode", "Decode", "tok/s", "decode speed"),
    Column("energy", "Energy", "J/token", "energy"),
    Column("kld", "KLD", "nats", "KLD"),
    Column("bound", "KLD at least", "nats", "KLD bound"),
    Column("same_top", "Same top", "%", "same-top"),
    Column("ppl", "PPL ratio", "", "PPL ratio"),
    Column("first", "First difference", "tokens", "first difference"),
)


def columns(card: Scorecard) -> tuple[Column, ...]:
    """Energy only where a meter could be read: a column of dashes tells nothing."""
    metered = any(variant.speed is not None and variant.speed.joules_per_token for variant in card.variants)
    return tuple(column for column in COLUMNS if metered or column.key != "energy")


def rows(card: Scorecard) -> tuple[Row, ...]:
    """All variants of the card, those without a measured quality last."""
    return tuple(_row(card, variant) for variant in ordered(card))


def ordered(card: Scorecard) -> tuple[VariantResult, ...]:
    def place(variant: VariantResult) -> tuple[int, float, float]:
        bound = variant.quality.kld_bound.value if variant.quality else 0.0
        return (0 if variant.reference else 1 if variant.quality else 2, bound, -(variant.bits_per_weight or 0.0))

    return tuple(sorted(card.variants, key=place))


def labels(card: Scorecard) -> dict[str, str]:
    """Name → what it is called on this page: the quantization, with the name where two have the same one."""
    seen = [variant.quantization for variant in card.variants]
    return {
        variant.name: variant.quantization
        if variant.quantization and seen.count(variant.quantization) == 1
        else f"{variant.quantization} ({variant.name})".strip()
        for variant in card.variants
    }


def tied_with(card: Scorecard, name: str) -> tuple[str, ...]:
    """Labels of the variants whose divergence could not be told from this one's."""
    called = labels(card)
    others = [
        pair.b if pair.a == name else pair.a
        for pair in card.separations
        if not pair.separated and name in (pair.a, pair.b)
    ]
    return tuple(called.get(other, other) for other in others)


def _row(card: Scorecard, variant: VariantResult) -> Row:
    warned = any(
        variant.name in finding.variants and finding.severity is not Severity.NOTE for finding in card.findings
    )
    cells = tuple(_CELLS[column.key](card, variant) for column in columns(card))
    tier = "reference" if variant.reference else str(variant.tier or "")
    return Row(variant, labels(card)[variant.name], cells, tier, tied_with(card, variant.name), warned)


def _size(_: Scorecard, variant: VariantResult) -> Cell:
    types = ", ".join(f"{kind} {vm.percent(share)}" for kind, share in _most(variant))
    told = f"Share of the weights by format: {types}" if types else ""
    return Cell(vm.size(variant.size or None), vm.bits(variant.bits_per_weight), told)


def _most(variant: VariantResult) -> list[tuple[str, float]]:
    return sorted(variant.types.items(), key=lambda item: -item[1])[:4]


def _memory(card: Scorecard, variant: VariantResult) -> Cell:
    memory = variant.memory
    if memory is None or (memory.predicted is None and memory.measured is None):
        return Cell(vm.UNKNOWN, told=words.why_unknown(card, variant, "memory"))
    if memory.measured is None:
        return Cell(vm.size(memory.predicted), "predicted", words.memory_told(memory), "predicted")
    predicted = f"predicted {vm.size(memory.predicted)}" if memory.predicted is not None else ""
    return Cell(vm.size(memory.measured), predicted, words.memory_told(memory))


def memory_of(memory: Memory | None) -> int | None:
    """What a variant takes: as the host reports it, else as predicted."""
    if memory is None:
        return None
    return memory.measured if memory.measured is not None else memory.predicted


def _seconds(estimate: Estimate | None, reason: str) -> Cell:
    if estimate is None:
        return Cell(vm.UNKNOWN, told=reason)
    scale, unit = (1000.0, "ms") if estimate.value < 0.9995 else (1.0, "s")
    shown = figure(estimate, scale=scale, unit=unit, whole=True)
    return Cell(f"{shown.value} {unit}", _under(shown), shown.told)


def _under(shown: Figure) -> str:
    return f"{shown.interval} (n {shown.n})" if shown.interval else ""


def _plain(estimate: Estimate | None, reason: str, *, unit: str = "", scale: float = 1.0) -> Cell:
    if estimate is None:
        return Cell(vm.UNKNOWN, told=reason)
    shown = figure(estimate, unit=unit, scale=scale)
    return Cell(shown.value, shown.interval, shown.told)


def _speed(name: str, unit: str = "tok/s") -> Callable[[Scorecard, VariantResult], Cell]:
    def cell(card: Scorecard, variant: VariantResult) -> Cell:
        estimate: Estimate | None = getattr(variant.speed, name, None)
        reason = words.why_unknown(card, variant, "energy" if name == "joules_per_token" else "speed")
        if unit == "s":
            return _seconds(estimate, reason)
        shown = _plain(estimate, reason, unit=unit)
        return Cell(shown.value, f"{shown.under} (n {estimate.n})".strip() if estimate else "", shown.told)

    return cell


def _decode(card: Scorecard, variant: VariantResult) -> Cell:
    cell = _speed("decode_tps")(card, variant)
    if variant.decode_limit is None:
        return cell
    limit = f"This machine's memory allows at most {plain_number(variant.decode_limit)} tok/s."
    return replace(cell, told=f"{vm.sentence(cell.told)} {limit}")


def _quality(name: str, unit: str = "", scale: float = 1.0) -> Callable[[Scorecard, VariantResult], Cell]:
    def cell(card: Scorecard, variant: VariantResult) -> Cell:
        estimate: Estimate | None = getattr(variant.quality, name, None)
        return _plain(estimate, words.why_unknown(card, variant, "quality"), unit=unit, scale=scale)

    return cell


def _kld(card: Scorecard, variant: VariantResult) -> Cell:
    if variant.reference:
        return Cell(vm.UNKNOWN, told=words.why_unknown(card, variant, "quality"))
    quality = variant.quality
    cell = _quality("kld", "nats")(card, variant)
    if quality is not None and quality.kld_p99 is not None:
        worst = f"{cell.told}. One token in a hundred is above {plain_number(quality.kld_p99)} nats."
        cell = replace(cell, told=worst)
    if quality is not None and quality.floor > 0.1 * quality.kld_bound.value:
        return Cell(cell.value, cell.under, f"{vm.sentence(cell.told)} {words.UNDER_THE_FLOOR}", "weak")
    return cell


_CELLS: dict[str, Callable[[Scorecard, VariantResult], Cell]] = {
    "size": _size,
    "memory": _memory,
    "load": _speed("load", "s"),
    "ttft": _speed("ttft", "s"),
    "prefill": _speed("prefill_tps"),
    "decode": _decode,
    "energy": _speed("joules_per_token", "J/token"),
    "kld": _kld,
    "bound": _quality("kld_bound", "nats"),
    "same_top": _quality("same_top", "%", 100.0),
    "ppl": _quality("ppl_ratio"),
    "first": _quality("first_difference", "tokens"),
}
