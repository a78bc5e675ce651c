"""What a deep scorecard has besides: tasks with right answers, and speed as the context fills."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.comparison.results import Scorecard
from app.ui import card_deep
from app.ui.card_deep import Table


def show(card: Scorecard) -> None:
    for table in (card_deep.tasks(card), card_deep.depths(card)):
        if table is not None:
            st.html(_html(table))


def _html(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    return (
        f'<h3 class="lp-part">{escape(table.title)}</h3><p class="lp-quiet">{escape(table.told)}</p>'
        f'<div class="lp-times"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
