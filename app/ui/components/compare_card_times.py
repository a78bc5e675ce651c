"""This scorecard beside an earlier one of the same family: each figure then and now, and its change."""

from __future__ import annotations

import time
from html import escape

import streamlit as st

from app.comparison.report_pairs import beside
from app.comparison.results import Scorecard
from app.ui import access, card_times
from app.ui import card_words as words
from app.ui.components import figure_table
from app.ui.fragments import fragment

NONE = ""


@fragment()
def show(card: Scorecard) -> None:
    others = {
        other.id: other
        for other in access.services().comparisons.list()
        if other.id != card.id and other.family == card.family and other.state not in words.LIVE
    }
    if not others:
        return
    now = time.time()
    with st.container(key="card-times", gap="xsmall"):
        st.html('<h3 class="lp-part">Over time</h3>')
        chosen = st.selectbox(
            "Beside", [NONE, *others], key=f"beside-{card.id}",
            format_func=lambda key: words.card_line(others[key], now) if key else "Choose another scorecard",
        )  # fmt: skip
        if chosen:
            st.html(_html(*sorted((card, others[chosen]), key=lambda each: each.started_at), now=now))


def _html(before: Scorecard, later: Scorecard, *, now: float) -> str:
    found = card_times.changes(before, later)
    if not found:
        return '<p class="lp-quiet">The two have no variant in common with figures in both.</p>'
    told = "".join(f'<p class="lp-quiet">{escape(line)}</p>' for line in beside(before, later).differences)
    head = ("Variant", "Figure", words.when(before.started_at, now), words.when(later.started_at, now), "Change")
    rows = [(change.label, change.name, change.before, change.now, change.told) for change in found]
    shown = [place for place, change in enumerate(found) if change.shown]
    return told + figure_table.html(head, rows, strong=shown)
