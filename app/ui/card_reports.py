"""The files that a scorecard can be saved as. They are made when asked for: pictures take seconds to draw."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.comparison.report import Rows, csv_table, document, html_report, markdown_card
from app.comparison.result_json import to_json
from app.comparison.results import Scorecard, TokenRow
from app.core.generation import Json
from app.ui import access, bridge, card_advice

DRAW_SECONDS = 120.0  # a machine that measures draws slowly


@dataclass(frozen=True, slots=True)
class ReportFile:
    """`told` says what is in it and what it is for."""

    label: str
    told: str
    name: str
    mime: str
    make: Callable[[], str]


def files_of(card: Scorecard) -> tuple[ReportFile, ...]:
    """HTML, JSON, CSV and Markdown of one card."""
    stem = f"{re.sub(r'[^A-Za-z0-9]+', '-', card.family).strip('-').lower() or 'scorecard'}-{card.id}"
    kinds = (
        ("HTML", "One page with figures, pictures and method. It needs no network.", "html", "text/html", _html),
        (
            "JSON",
            "Everything, with the raw rows. Can be measured again elsewhere.",
            "json",
            "application/json",
            _json,
        ),
        ("CSV", "The table, for a spreadsheet.", "csv", "text/csv", _csv),
        ("Markdown", "A few lines and a table, for a readme or a message.", "md", "text/markdown", markdown_card),
    )
    return tuple(
        ReportFile(label, told, f"{stem}.{ending}", mime, partial(make, card))
        for label, told, ending, mime, make in kinds
    )


def _html(card: Scorecard) -> str:
    services = access.services()

    async def drawn() -> str:
        rows = await _rows(card, _short)
        return await html_report(card, services.pictures, rows=rows, budget=card_advice.machine_budget(card))

    return bridge.call(drawn(), seconds=DRAW_SECONDS)


def _json(card: Scorecard) -> str:
    rows = bridge.call(_rows(card, to_json), seconds=DRAW_SECONDS)
    return json.dumps(document(card, rows), ensure_ascii=False)


def _csv(card: Scorecard) -> str:
    return "\ufeff" + csv_table(card)  # by which spreadsheets know UTF-8


async def _rows(card: Scorecard, told: Callable[[TokenRow], Json]) -> Rows:
    """Every compared position, by variant."""
    measured = [variant.name for variant in card.variants if variant.quality is not None]
    comparisons = access.services().comparisons
    return {name: [told(row) for row in await comparisons.rows(card.id, name)] for name in measured}


def _short(row: TokenRow) -> Json:
    """Without both lists of likeliest tokens, which are a megabyte a variant: the JSON file has them."""
    return {
        "text": row.text_id, "offset": row.offset, "token": row.token, "kld": round(row.kld, 6),
        "reference": round(row.reference_logprob, 5), "variant": round(row.variant_logprob, 5),
    }  # fmt: skip
