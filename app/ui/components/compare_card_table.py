"""The scorecard's table: variants as rows on a wide page, a list of them on a narrow one. HTML, selectable text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from app.comparison.results import Scorecard
from app.ui import card_table, theme
from app.ui import card_words as words
from app.ui import view_models as vm
from app.ui.card_table import Cell, Column, Row
from app.ui.components.glossary import explained


def show(card: Scorecard) -> None:
    """The figures, and under them what could not be told apart and what they stand on."""
    called = card_table.labels(card)
    lines = (words.separation_line(card, called), words.quality_line(card))
    notes = "".join(f'<p class="lp-quiet">{escape(line)}</p>' for line in lines if line)
    st.html(f'<div class="lp-card-table">{table_html(card)}{notes}{_reasons(card, called)}</div>')


def table_html(card: Scorecard) -> str:
    """Roles are said, because a narrow page lays the table out as a list, which takes them away."""
    columns = card_table.columns(card)
    head = "".join(_head(column) for column in columns)
    body = "".join(_row(row, columns) for row in card_table.rows(card))
    return (
        f'<table role="table" aria-label="Figures by variant"><thead role="rowgroup"><tr role="row">'
        f'<th role="columnheader" scope="col">Variant</th>{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )


def _head(column: Column) -> str:
    unit = f"<small>{escape(column.unit)}</small>" if column.unit else ""
    return f'<th role="columnheader" scope="col">{explained(column.title, column.term)}{unit}</th>'


def _row(row: Row, columns: Sequence[Column]) -> str:
    variant = row.variant
    colour = theme.bpw_colour(variant.bits_per_weight, reference=variant.reference)
    name = variant.name + (f", also {', '.join(variant.aliases)}" if variant.aliases else "")
    tier = f'<small title="{escape(words.TIER_TOLD, quote=True)}">{escape(row.tier)}</small>' if row.tier else ""
    mark = '<b class="lp-mark" title="See what was found above">!</b>' if row.warned else ""
    cells = "".join(_cell(column, cell, row) for column, cell in zip(columns, row.cells, strict=True))
    return (
        f'<tr role="row"><th role="rowheader" scope="row" title="{escape(name, quote=True)}">'
        f'<i style="background:{colour}"></i><b>{escape(row.label)}</b>{mark}{tier}</th>{cells}</tr>'
    )


def _cell(column: Column, cell: Cell, row: Row) -> str:
    kinds = [f"lp-{cell.tone}"] if cell.tone else []
    if cell.value == vm.UNKNOWN and row.variant.reference:
        kinds.append("lp-none")  # a list has no columns to keep for what the reference cannot have
    tone = f' class="{" ".join(kinds)}"' if kinds else ""
    told = f' title="{escape(cell.told, quote=True)}"' if cell.told else ""
    under = f"<small>{escape(cell.under)}</small>" if cell.under else ""
    if column.key == "kld" and row.tied:
        near = escape(", ".join(row.tied), quote=True)
        under += f'<small class="lp-tied" title="Cannot be told apart from {near}">≈ {near}</small>'
    name = column.title + (f", {column.unit}" if column.unit else "")
    return (
        f'<td role="cell" data-name="{escape(name, quote=True)}"{tone}{told}>'
        f"<span>{escape(cell.value)}</span>{under}</td>"
    )


def _reasons(card: Scorecard, called: dict[str, str]) -> str:
    """Why a figure is missing, also for those who cannot hover."""
    told = words.notes_of(card, called)
    items = "".join(f"<li>{f'<b>{escape(whom)}</b> ' if whom else ''}{escape(note)}</li>" for whom, note in told)
    return f'<ul class="lp-quiet">{items}</ul>' if items else ""
