"""The line above the Service screen: which part of it is shown, and the way to add a host."""

from __future__ import annotations

import streamlit as st

from app.ui import notices, service_actions
from app.ui.state import service_state

LIVE, CACHE = "Live", "Cache"
HOW = "A machine on which Ollama runs. It joins as soon as it answers, and is remembered until it is removed."


def show() -> str:
    """Draws it; which part is shown."""
    with st.container(key="service-head", horizontal=True, gap="small", vertical_alignment="center"):
        chosen = st.segmented_control(
            "Part", [LIVE, CACHE], default=LIVE, required=True, key="view", label_visibility="collapsed",
            bind="query-params",
        )  # fmt: skip
        with st.popover("Add a host", key=service_actions.ADD, on_change="rerun") as panel:
            if panel.open:
                _add()
    return chosen or LIVE


def _add() -> None:
    with st.form("add-host", border=False):
        st.text_input(
            "Address", key=service_actions.ADDRESS, placeholder="192.168.1.20:11434", autocomplete="off", max_chars=300
        )
        with st.container(horizontal=True, gap="small"):
            st.text_input("Name", key=service_actions.NAME, placeholder="its address", autocomplete="off", max_chars=40)
            st.number_input("Slots", 1, 64, 1, key=service_actions.SLOTS, help="How many answers it writes at once")
        st.text_input(
            "Key", key=service_actions.HOST_KEY, type="password", autocomplete="off", placeholder="none",
            help="Sent as a bearer token, for a host behind a proxy that asks for one",
        )  # fmt: skip
        st.form_submit_button("Add", type="primary", on_click=service_actions.add_host)
    notices.show_at("add", service_state().notices)
    st.html(f'<p class="lp-quiet">{HOW}</p>')
