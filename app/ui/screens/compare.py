"""Compare: which quantization is better, and how sure? Its three parts, one shown at a time."""

from __future__ import annotations

import streamlit as st

from app.ui import notices
from app.ui.components import compare_card, compare_side, compare_votes, host_strip, job_tray

VIEWS = {"Scorecard": compare_card.show, "Side by side": compare_side.show, "Votes": compare_votes.show}
FIRST = next(iter(VIEWS))

host_strip.show()
job_tray.show()
with st.container(key="compare-head", horizontal=True, gap="small", vertical_alignment="center"):
    chosen = st.segmented_control(
        "Part", list(VIEWS), default=FIRST, required=True, key="view", label_visibility="collapsed",
        bind="query-params",
    )  # fmt: skip
with notices.showing_errors("compare"):
    VIEWS[chosen or FIRST]()
