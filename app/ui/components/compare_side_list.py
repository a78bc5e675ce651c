"""The rounds that were asked before: open one, or delete it."""

from __future__ import annotations

import time
from html import escape

import streamlit as st

from app.comparison.rounds import Round
from app.ui import access, bridge, compare_side_actions
from app.ui import compare_side_words as words
from app.ui import view_models as vm
from app.ui.state import open_round

SHOWN = 20


def show() -> None:
    rounds = bridge.call(access.services().side_by_side.rounds(access.principal()))
    if not rounds:
        return
    with st.container(key="side-rounds", gap=None):
        st.html('<h2 class="lp-side-head">Earlier comparisons</h2>')
        for round_ in rounds[:SHOWN]:
            _row(round_)
        if len(rounds) > SHOWN:
            st.html(f'<p class="lp-quiet">and {len(rounds) - SHOWN} older ones.</p>')


def _row(round_: Round) -> None:
    with st.container(
        key=f"side-row-{round_.id}", horizontal=True, gap="small", vertical_alignment="center", wrap=False
    ):
        st.button(
            vm.plain(round_.title), type="tertiary", key=f"side-open-{round_.id}", on_click=open_round,
            args=(round_.id,),
        )  # fmt: skip
        st.html(f'<span class="lp-side-line">{escape(words.round_line(round_, time.time()))}</span>')
        st.button(
            "Delete", icon=":material/delete:", type="tertiary", key=f"side-delete-{round_.id}",
            help="Delete this comparison", on_click=compare_side_actions.delete, args=(round_.id,),
        )  # fmt: skip
