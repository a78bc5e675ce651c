"""Figures of a report as text, the same in its table and on the Markdown card. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from app.comparison.chart_parts import figure, titles
from app.comparison.results import Estimate, Scorecard, VariantResult
from app.models.advice_words import percent, rate, size

NOT_MEASURED = "–"
COLUMNS = (
    "Variant", "Tier", "KLD", "Same top token, %", "Perplexity ratio", "Decode, tok/s", "Prefill, tok/s", "Memory",
    "File", "Bits",
)  # fmt: skip


def rows_of(card: Scorecard) -> list[tuple[str, ...]]:
    """A row for each variant, in the order of `COLUMNS`."""
    names = titles(card)
    return [_cells(variant, names[variant.name]) for variant in card.variants]


def _cells(variant: VariantResult, title: str) -> tuple[str, ...]:
    quality, speed = variant.quality, variant.speed
    tier = "reference" if variant.reference else NOT_MEASURED if variant.tier is None else variant.tier.value
    return (
        title,
        tier,
        with_interval(None if quality is None else quality.kld, figure),
        with_interval(None if quality is None else quality.same_top, percent),
        with_interval(None if quality is None else quality.ppl_ratio, lambda value: f"{value:.3f}"),
        with_interval(None if speed is None else speed.decode_tps, rate),
        with_interval(None if speed is None else speed.prefill_tps, rate),
        memory(variant),
        size(variant.size),
        NOT_MEASURED if variant.bits_per_weight is None else f"{variant.bits_per_weight:.2f}",
    )


def with_interval(estimate: Estimate | None, text: Callable[[float], str]) -> str:
    if estimate is None:
        return NOT_MEASURED
    if estimate.low is None or estimate.high is None:
        return text(estimate.value)
    return f"{text(estimate.value)} [{text(estimate.low)}, {text(estimate.high)}]"


def memory(variant: VariantResult) -> str:
    """What the host reports, else what is predicted."""
    taken = variant.memory
    if taken is None:
        return NOT_MEASURED
    if taken.measured is not None:
        return size(taken.measured)
    if taken.predicted is None:
        return NOT_MEASURED
    return (
        f"{size(taken.predicted)} ± {size(taken.band)} predicted"
        if taken.band
        else f"{size(taken.predicted)} predicted"
    )


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def markdown_card(card: Scorecard) -> str:
    """A few lines and a table, for a readme or a message."""
    lines = [f"### {_escaped(card.family)}: which quantization", ""]
    if card.recommendation is not None:
        lines += [f"**{_escaped(card.recommendation.sentence)}**", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows_of(card)]
    lines.append("")
    if card.findings:
        lines += [f"* {_escaped(found.text)} {_escaped(found.advice)}".rstrip() for found in card.findings]
        lines.append("")
    environment = card.environment
    lines.append(
        f"{card.depth.capitalize()} run of {moment(card.started_at)} on {_escaped(environment.machine)}, "
        f"{_escaped(environment.server)}, Loupe {_escaped(environment.loupe)}; reference {_escaped(card.reference)}; "
        f"probe set {_escaped(card.probe_set)}; seed {card.seed}. KLD: estimate [95 % interval] on these questions."
    )
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Text that is neither Markdown nor HTML, on one line."""
    flat = " ".join(text.split())
    for mark in "\\`*|":
        flat = flat.replace(mark, f"\\{mark}")
    return flat.replace("<", "&lt;").replace(">", "&gt;").replace("](", "]\\(")
