"""A finished scorecard, in the order in which one decides: what to run, what to beware of, figures, pictures, how."""

from __future__ import annotations

import time
from html import escape

import streamlit as st

from app.comparison.results import Scorecard
from app.ui import card_actions, notices
from app.ui import card_words as words
from app.ui.components import (
    compare_card_advice,
    compare_card_findings,
    compare_card_pictures,
    compare_card_reports,
    compare_card_table,
    compare_card_tasks,
    compare_card_text,
    compare_card_times,
)
from app.ui.state import card_state


def show(card: Scorecard) -> None:
    with st.container(key="card-result", gap="medium"):
        with st.container(key="card-head", horizontal=True, gap="small", vertical_alignment="top"):
            st.html(
                f'<header class="lp-model"><h2>{escape(card.family)}</h2>'
                f"<span>{escape(words.card_line(card, time.time()))}</span></header>"
            )
            compare_card_reports.show(card)
        if card.state != "done":
            st.button("Go on measuring", key="card-go-on", on_click=card_actions.operate, args=("resume", card.id))
            notices.show_at("run", card_state().notices)
        compare_card_advice.show(card)
        compare_card_findings.show(card)
        compare_card_table.show(card)
        compare_card_pictures.show(card)
        compare_card_tasks.show(card)
        compare_card_text.show(card)
        compare_card_times.show(card)
        _method(card)


def _method(card: Scorecard) -> None:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in words.environment_lines(card))
    st.html(
        f'<details class="lp-method"><summary>How this was measured, and on what</summary>'
        f"<p>{escape(words.METHOD)}</p><dl>{rows}</dl></details>"
    )
    st.button("Delete", type="tertiary", icon=":material/delete:", key="card-delete", help="Delete this scorecard",
              on_click=card_actions.ask_to_delete, args=(card.id,))  # fmt: skip
