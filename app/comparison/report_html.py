"""The report as one HTML file: no script, no request to anywhere, everything in it as text. Pure.

Its own policy forbids all that: even a browser that is fooled by a name could load and run nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

from app.comparison import report_sections as sections
from app.comparison.report_pairs import Beside
from app.comparison.report_tables import DATA_ID
from app.comparison.report_words import COLUMNS, moment, rows_of
from app.comparison.results import Recommendation, Scorecard, Severity
from app.core.colours import DARK, LIGHT
from app.core.generation import Json

_STYLE = Path(__file__).with_name("report.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"
_SEVERITIES = {Severity.REFUSED: "Not compared", Severity.MISLEADING: "Mind this", Severity.NOTE: "Note"}
_AGAIN = (
    "This file carries all figures, and the raw rows they were made of, as JSON. To measure the same again on another "
    "machine and show both beside each other: <code>python -m app compare --rerun FILE --html BOTH.html</code>"
)
_METHOD = (
    "Quality: the reference answers each question greedily; that answer is forced on every variant, token by token, "
    "and the probabilities of the 20 likeliest tokens are compared at each of its tokens. KLD is an estimate from them "
    "(nats a token; 0 is identical), the lower bound is guaranteed. Intervals are 95 %, over questions and not over "
    "tokens. The noise floor is the reference measured against itself.",
    "Speed: requests made for it, after a warm-up, interleaved between variants, with a prompt that no cache knows. "
    "Prefill is the slope between two lengths of prompt.",
    "Memory: predicted from the file's metadata, beside what the host reports.",
    "It covers these questions, short contexts, and this machine. It does not cover long contexts, other languages "
    "than those of the questions, or what a difference means for a task of yours.",
)


def page(
    card: Scorecard, pictures: Mapping[str, tuple[str, str]], data: Mapping[str, Json], pairs: Beside | None = None,
    first: Scorecard | None = None,
) -> str:  # fmt: skip
    """`pictures` are drawings by name, for light and for dark; `data` is the document that the page carries; `pairs`
    and `first` are an earlier scorecard beside this one."""
    parts = [
        _head(card),
        _advice(card.recommendation),
        _findings(card),
        sections.beside(pairs, first, card) if pairs is not None and first is not None else "",
        sections.section("Figures", sections.table(COLUMNS, rows_of(card))),
        sections.section("Pictures", _pictures(pictures)),
        sections.ties(card),
        sections.tasks(card),
        sections.depths(card),
        sections.section("Variants", sections.variants(card)),
        sections.section("Method", "".join(f"<p>{escape(text)}</p>" for text in _METHOD)),
        sections.section("Measured on", f"{sections.environment(card)}<p>{_AGAIN}</p>"),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(card.family)}: which quantization</title><style>{style()}</style></head><body>"
        f"{''.join(parts)}{_data(data)}</body></html>\n"
    )


def style() -> str:
    """The style sheet with both palettes."""
    css = _STYLE.read_text(encoding="utf-8")
    for mode, palette in (("light", LIGHT), ("dark", DARK)):
        for name, value in palette._asdict().items():
            css = css.replace(f"${mode}.{name}", value)
    return css


def _head(card: Scorecard) -> str:
    took = "" if card.seconds is None else f", {card.seconds:.0f} s of measuring"
    state = "" if card.state == "done" else f" ({escape(card.state)}: what was measured so far)"
    return (
        f"<h1>{escape(card.family)}: which quantization?</h1>"
        f'<p class="muted">{escape(card.depth.capitalize())} run of {moment(card.started_at)}{took}{state}. '
        f"Reference: {escape(card.reference)}. {escape(card.environment.machine)}.</p>"
    )


def _advice(advice: Recommendation | None) -> str:
    if advice is None:
        return ""
    more = [*advice.change, *([f"Second choice: {advice.runner_up}."] if advice.runner_up else [])]
    text = f'<p class="sentence">{escape(advice.sentence)}</p>' + "".join(f"<p>{escape(one)}</p>" for one in more)
    return f'<div class="advice">{text}{f"<p>{escape(advice.license)}</p>" if advice.license else ""}</div>'


def _findings(card: Scorecard) -> str:
    if not card.findings:
        return ""
    order = list(Severity)
    told = "".join(
        f'<div class="finding {found.severity.value}"><strong>{_SEVERITIES[found.severity]}.</strong> '
        f"{escape(found.text)} {escape(found.advice)}"
        f"{' <span class=muted>' + escape(', '.join(found.variants)) + '</span>' if found.variants else ''}</div>"
        for found in sorted(card.findings, key=lambda found: order.index(found.severity))
    )
    return sections.section("Worth knowing before you decide", told)


def _pictures(pictures: Mapping[str, tuple[str, str]]) -> str:
    figures = [
        f'<figure><div class="light-only">{own_ids(light, f"{name}-l")}</div>'
        f'<div class="dark-only">{own_ids(dark, f"{name}-d")}</div></figure>'
        for name, (light, dark) in pictures.items()
    ]
    return f'<div class="pictures">{"".join(figures)}</div>' if figures else ""


def own_ids(svg: str, prefix: str) -> str:
    """A drawing whose names of parts (clip paths, gradients) are its own: several stand on one page."""
    svg = re.sub(r'\bid="([\w-]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([\w-]+)\)", rf"url(#{prefix}-\1)", svg)
    return re.sub(r'href="#([\w-]+)"', rf'href="#{prefix}-\1"', svg)


def _data(data: Mapping[str, Json]) -> str:
    """The document as data in the page. No text in it can end the element that holds it."""
    told = (
        json.dumps(data, ensure_ascii=False)
        .replace("<", "\\u003c")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )
    return f'<script type="application/json" id="{DATA_ID}">{told}</script>'
