"""The way to one more model host: a panel behind a button."""

from __future__ import annotations

import streamlit as st

from app.ui import notices, service_actions, who
from app.ui.state import service_state

HOW = "A machine on which Ollama runs. It joins as soon as it answers, and is remembered until it is removed."


def show() -> None:
    with st.popover("Add a host", key=service_actions.ADD, on_change="rerun", disabled=not who.visits().admin) as panel:
        if panel.open:
            _form()


def _form() -> None:
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
