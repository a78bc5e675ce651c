"""Side by side: one question, or a whole conversation, to several variants. What to ask, or the round that is open."""

from __future__ import annotations

import streamlit as st

from app.comparison.round_store import RoundNotFound
from app.ui import access, bridge
from app.ui import compare_side_words as words
from app.ui.components import compare_side_list, compare_side_round, compare_side_setup, empty_chat
from app.ui.state import open_round, open_round_id


def show() -> None:
    services, round_id = access.services(), open_round_id()
    with st.skeleton(height=240):
        catalog = bridge.call(services.catalog.snapshot(stale_ok=True))
        try:
            view = bridge.call(services.side_by_side.get(round_id, access.principal())) if round_id else None
        except RoundNotFound:
            view = None
            st.html('<p class="lp-quiet">That comparison does not exist: it was deleted, or the link is wrong.</p>')
    known = words.choices(catalog)
    if view is not None:
        compare_side_round.show(view, known)
        return
    if round_id:
        st.button("Begin another one", key="side-other", on_click=open_round, args=("",))
    elif not known:
        empty_chat.no_models(catalog)
    else:
        compare_side_setup.show(known)
    compare_side_list.show()
