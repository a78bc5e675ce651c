"""The tables of a report's page. Everything that is not ours is escaped in `table`. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from app.comparison.chart_parts import figure, titles
from app.comparison.report_pairs import Beside, Pair
from app.comparison.report_words import NOT_MEASURED, moment, share, with_interval
from app.comparison.results import Scorecard, VariantResult
from app.models.advice_words import rate

_DIGEST = 12  # characters that tell files apart for people; the data has all of them


BESIDE = (
    "Variant", "KLD before", "KLD now", "Quality", "Decode before", "Decode now", "Speed now to before", "File",
)  # fmt: skip


def beside(pairs: Beside, first: Scorecard, second: Scorecard) -> str:
    told = "".join(f"<li>{escape(text)}</li>" for text in pairs.differences)
    when = f"{moment(first.started_at)} and {moment(second.started_at)}"
    lead = f"<p>{when}. Quality agrees where the intervals overlap.</p>"
    return section(
        "Beside the first measurement", f"{lead}<ul>{told}</ul>{table(BESIDE, [paired(one) for one in pairs.pairs])}"
    )


def paired(pair: Pair) -> tuple[str, ...]:
    """One row, in the order of `BESIDE`."""
    quality = [one.quality if one else None for one in (pair.first, pair.second)]
    speed = [one.speed if one else None for one in (pair.first, pair.second)]
    klds = [with_interval(None if one is None else one.kld, figure) for one in quality]
    rates = [with_interval(None if one is None else one.decode_tps, rate) for one in speed]
    verdict = NOT_MEASURED if pair.quality_agrees is None else "agrees" if pair.quality_agrees else "differs"
    ratio = with_interval(pair.speed_ratio, lambda value: f"{value:.2f}")
    file = "in one only" if pair.first is None or pair.second is None else "same" if pair.same_file else "another file"
    return (pair.label, *klds, verdict, *rates, ratio, file)


def ties(card: Scorecard) -> str:
    ties = [pair for pair in card.separations if not pair.separated]
    if not card.separations:
        return ""
    if not ties:
        return section("Told apart", "<p>All variants can be told apart by their divergence (after Holm).</p>")
    names = titles(card)
    told = "".join(
        f"<li>{escape(names.get(pair.a, pair.a))} and {escape(names.get(pair.b, pair.b))} cannot be told apart "
        f"(ln KLD ratio {with_interval(pair.log_ratio, lambda value: f'{value:.2f}')}).</li>"
        for pair in ties
    )
    return section("Told apart", f"<ul>{told}</ul>")


def tasks(card: Scorecard) -> str:
    names = titles(card)
    rows = [
        (
            names[variant.name], task.kind, str(task.items), share(task.passed),
            share(task.reference_passed), with_interval(task.difference, share), share(task.flips),
            f"{task.p_value:.3f}", share(task.detectable), "yes" if task.equivalent else "not shown",
        )
        for variant in card.variants
        for task in variant.tasks
    ]  # fmt: skip
    heads = (
        "Variant", "Task", "Items", "Passed", "Reference", "Difference", "Flips", "p (Holm)", "Could have seen",
        "Equivalent ± 2 %",
    )  # fmt: skip
    return section("Tasks", table(heads, rows)) if rows else ""


def depths(card: Scorecard) -> str:
    names = titles(card)
    rows = [
        (names[variant.name], f"{one.depth:,}", with_interval(one.decode_tps, rate))
        for variant in card.variants
        for one in variant.depths
    ]
    rows += [
        (names[variant.name], "sustained", f"{variant.sustained_ratio:.2f} of its first speed")
        for variant in card.variants
        if variant.sustained_ratio is not None
    ]
    return (
        section("Speed with a full context", table(("Variant", "Tokens before", "Decode, tok/s"), rows)) if rows else ""
    )


def variants(card: Scorecard) -> str:
    names = titles(card)
    heads = ("Variant", "Name", "Digest", "Formats", "Positions", "Licence", "Notes")
    return table(heads, [_identity(variant, names[variant.name]) for variant in card.variants], wrap=(1, 2, 3, 5, 6))


def _identity(variant: VariantResult, title: str) -> tuple[str, ...]:
    quality = variant.quality
    formats = ", ".join(f"{kind} {100 * part:.0f} %" for kind, part in variant.types.items() if part >= 0.005)
    positions = NOT_MEASURED
    if quality is not None:
        positions = (
            f"{quality.tokens} in {quality.texts} texts, {quality.lost} lost, {quality.retokenised} in other tokens"
        )
    names = ", ".join((variant.name, *variant.aliases))
    return (
        title, names, variant.digest[:_DIGEST], formats or NOT_MEASURED, positions,
        variant.license or NOT_MEASURED, " ".join(variant.notes),
    )  # fmt: skip


def environment(card: Scorecard) -> str:
    where = card.environment
    rows = [
        ("Loupe", where.loupe), ("Host", where.host), ("Server", where.server),
        ("Machine", where.machine),
        ("Probe set", card.probe_set), ("Seed", str(card.seed)), ("Options", _told(card.options)),
        *((name, value if isinstance(value, str) else _told(value)) for name, value in where.facts.items()),
    ]  # fmt: skip
    return table(("", ""), rows, wrap=(1,))


def _told(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=dict)


def section(title: str, inside: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inside}</section>" if inside else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], wrap: Sequence[int] = ()) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=wrap' if place in wrap else ''}>{escape(text)}</td>" for place, text in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
