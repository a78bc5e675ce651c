"""The line above the Service screen: which part of it is shown, and the way to add a host."""

from __future__ import annotations

import streamlit as st

from app.ui.components import add_host

LIVE, CACHE = "Live", "Cache"


def show() -> str:
    """Draws it; which part is shown."""
    with st.container(key="service-head", horizontal=True, gap="small", vertical_alignment="center"):
        chosen = st.segmented_control(
            "Part", [LIVE, CACHE], default=LIVE, required=True, key="view", label_visibility="collapsed",
            bind="query-params",
        )  # fmt: skip
        add_host.show()
    return chosen or LIVE
