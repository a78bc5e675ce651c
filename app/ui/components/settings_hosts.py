"""The model hosts, and the ways to have one more, to spare one, and to be rid of one. All of it without a restart."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.core.hosts import HostStatus
from app.ui import access, notices, service_actions, who
from app.ui import service_words as words
from app.ui.components import add_host
from app.ui.components.settings_head import why_not
from app.ui.state import service_state

HOW = (
    "Requests go to a host that has the model, loaded ones first. A drained host finishes what it is doing and gets "
    "nothing new, also after a restart."
)


def show() -> None:
    services = access.services()
    with st.container(key="settings-hosts", gap="small"):
        with st.container(key="settings-part-hosts", horizontal=True, gap="small", vertical_alignment="center"):
            st.html(f'<p class="lp-quiet">{escape(services.why)} {HOW}</p>')
            add_host.show()
        why_not("change hosts")
        notices.show_at("live", service_state().notices)
        with st.container(key="host-rows", gap=None):
            for host in services.pool.statuses():
                _row(host)


def _row(host: HostStatus) -> None:
    name, may = host.address.name, who.visits().admin
    state, tone = words.host_state(host)
    with st.container(key=f"line-host-{name}", horizontal=True, gap="xsmall", vertical_alignment="center"):
        troubles = [text for text in (host.error, *(one.text for one in host.warnings)) if text]
        told = "".join(f"<em>{escape(text)}</em>" for text in troubles)
        st.html(
            f'<div class="lp-line"><b>{escape(name)}</b><span class="lp-state lp-{tone or "plain"}">{state}</span>'
            f"<small>{escape(words.host_facts(host))}</small>{told}</div>"
        )
        st.button(
            "Take back" if host.draining else "Drain", type="tertiary", key=f"drain-{name}", disabled=not may,
            on_click=service_actions.drain_host, args=(name,), kwargs={"draining": not host.draining},
        )  # fmt: skip
        if host.added:
            st.button(
                "Remove…", type="tertiary", key=f"remove-{name}", disabled=not may,
                on_click=service_actions.ask, args=("remove", name),
            )  # fmt: skip
