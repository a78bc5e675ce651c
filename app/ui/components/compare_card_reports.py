"""Saving a scorecard: as a page, as data, as a table, as a few lines. Links to the gateway, which makes the files."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.comparison.results import Scorecard

FILES = (
    ("HTML", "html", "One page with figures, pictures and method. It needs no network."),
    ("JSON", "json", "Everything, with the raw rows. Can be measured again elsewhere."),
    ("CSV", "csv", "The table, for a spreadsheet."),
    ("Markdown", "md", "A few lines and a table, for a readme or a message."),
)


def show(card: Scorecard) -> None:
    with st.popover("Report", icon=":material/download:", key="card-report"):
        st.html(f'<ul class="lp-files">{"".join(_item(card, *file) for file in FILES)}</ul>')


def _item(card: Scorecard, label: str, kind: str, told: str) -> str:
    address = f"/loupe/comparisons/{escape(card.id, quote=True)}/report?format={kind}"
    return f'<li><a class="lp-button" href="{address}" download>{label}</a><span>{escape(told)}</span></li>'
