"""The line above the Service screen: which part of it is shown, and beside the hosts the way to add one."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.ui.components import add_host


def show(parts: Sequence[str]) -> str:
    """Draws it; which part is shown."""
    with st.container(key="service-head", horizontal=True, gap="small", vertical_alignment="center"):
        chosen = st.segmented_control(
            "Part", parts, default=parts[0], required=True, key="view", label_visibility="collapsed",
            bind="query-params",
        )  # fmt: skip
        shown = chosen or parts[0]
        if shown == parts[0]:
            add_host.show()
    return shown
