"""The report of a scorecard: one HTML file that needs nothing else, or JSON, CSV, a Markdown card."""

from __future__ import annotations

from app.comparison.charts import Look, pictures_of
from app.comparison.pictures import Pictures
from app.comparison.report_html import page
from app.comparison.report_pairs import beside
from app.comparison.report_tables import Rows, csv_table, document, flat, read_document
from app.comparison.report_words import markdown_card
from app.comparison.results import Scorecard

__all__ = ["Rows", "csv_table", "document", "flat", "html_report", "markdown_card", "read_document"]

_WIDTH = 360  # pixels: drawings are read on a telephone, and grow with the page


async def html_report(
    card: Scorecard, pictures: Pictures, *, rows: Rows | None = None, first: Scorecard | None = None,
    budget: int | None = None,
) -> str:  # fmt: skip
    """`rows` are the raw rows by variant, `first` is an earlier scorecard to show beside, `budget` the machine's limit
    in bytes. Raises `StoreError` where the pictures cannot be drawn."""
    light, dark = (pictures_of(card, Look(dark=mode, width=_WIDTH), budget=budget) for mode in (False, True))
    drawn = await pictures.svgs([*light.values(), *dark.values()]) if light else []
    both = dict(zip(light, zip(drawn[: len(light)], drawn[len(light) :], strict=True), strict=True))
    pairs = None if first is None else beside(first, card)
    return page(card, both, document(card, rows), pairs, first)
