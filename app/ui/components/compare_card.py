"""The scorecard view: choose and measure, a run in progress, a finished card, what was measured before.

The address says which: `?report=ID` is one card, so that it survives a reload and can be sent to somebody.
"""

from __future__ import annotations

import streamlit as st

from app.ui import access, card_actions, notices
from app.ui import card_words as words
from app.ui.components import compare_card_choose, compare_card_list, compare_card_result, compare_card_run
from app.ui.state import card_state, open_report


def show() -> None:
    with st.container(key="scorecard", gap="small"):
        report = open_report()
        notices.show_at("card", card_state().notices)
        if report:
            _card(report)
        else:
            if compare_card_choose.show() or access.services().comparisons.list():
                compare_card_list.show()
    compare_card_list.dialog()


def _card(report: str) -> None:
    st.button("All scorecards", type="tertiary", icon=":material/arrow_back:", key="all-cards",
              on_click=card_actions.show_card, args=("",))  # fmt: skip
    with notices.showing_errors("report", on_retry=card_actions.dismiss):
        card = access.services().comparisons.get(report)
        if card.state in words.LIVE:
            compare_card_run.show(card)
        else:
            compare_card_result.show(card)
