"""What was measured before: one row a scorecard, with its recommendation; and the dialog that deletes one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

import streamlit as st

from app.comparison.results import Scorecard
from app.ui import access, card_actions, notices
from app.ui import card_words as words
from app.ui import view_models as vm
from app.ui.fragments import fragment
from app.ui.state import card_state

LOOK_SECONDS = 2.0


def show() -> None:
    cards = access.services().comparisons.list()
    live = any(card.state in words.LIVE for card in cards)
    fragment(run_every=LOOK_SECONDS if live else None)(_list)()


def _list() -> None:
    cards = access.services().comparisons.list()
    if not cards:
        st.html(f'<p class="lp-quiet">{escape(words.NO_CARDS)}</p>')
        return
    with st.container(key="card-list", gap=None):
        st.html('<h3 class="lp-part">Scorecards</h3>')
        for card in cards:
            _row(card, cards)


def _row(card: Scorecard, cards: Sequence[Scorecard]) -> None:
    with st.container(
        key=f"card-row-{card.id}", horizontal=True, gap="xsmall", vertical_alignment="center", wrap=False
    ):
        st.html(
            f'<div class="lp-card-row"><b>{escape(card.family)}</b>'
            f"<small>{escape(words.card_line(card, time.time()))}</small>"
            f"<span>{escape(words.headline(card.recommendation, card))}</span></div>"
        )
        if st.button(
            "Open", key=f"card-open-{card.id}", help=f"Open the scorecard of {vm.plain(card.family)}",
            on_click=card_actions.show_card, args=(card.id,),
        ):  # fmt: skip
            st.rerun()  # the whole page, of which this list is a part
        if card.state not in words.LIVE and st.button(
            "Delete", type="tertiary", key=f"card-drop-{card.id}", icon=":material/delete:",
            help="Delete this scorecard", on_click=card_actions.ask_to_delete, args=(card.id,),
        ):  # fmt: skip
            st.rerun()  # the dialog belongs to the page, not to this list


def dialog() -> None:
    """Draws the dialog where the page's state names a card."""
    card_id = card_state().deleting
    if not card_id:
        return
    card = next((card for card in access.services().comparisons.list() if card.id == card_id), None)
    if card is None:
        card_state().deleting = ""
        return
    title = f"Delete the scorecard of {vm.plain(card.family)}?"
    st.dialog(title, width=480, on_dismiss=card_actions.close_dialog)(_confirm)(card)


def _confirm(card: Scorecard) -> None:
    lines = words.deleting_lines(card, time.time())
    st.html("".join(f'<p class="lp-told">{escape(line)}</p>' for line in lines))
    problem = st.container()
    with st.container(key="dialog-foot", horizontal=True, gap="xsmall"):
        if st.button("Delete scorecard", type="primary", key="card-delete-go") and card_actions.delete(card.id):
            card_actions.close_dialog()
            st.rerun()
        if st.button("Cancel", key="card-delete-cancel"):
            card_actions.close_dialog()
            st.rerun()
    with problem:
        notices.show_at("dialog", card_state().notices)
