"""What a deep scorecard has besides: tasks with right answers, and speed as the context fills."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.comparison.results import Scorecard
from app.ui import card_deep
from app.ui.card_deep import Table
from app.ui.components import figure_table


def show(card: Scorecard) -> None:
    for table in (card_deep.tasks(card), card_deep.depths(card)):
        if table is not None:
            st.html(_html(table))


def _html(table: Table) -> str:
    return (
        f'<h3 class="lp-part">{escape(table.title)}</h3><p class="lp-quiet">{escape(table.told)}</p>'
        f"{figure_table.html(table.head, table.rows)}"
    )
