"""The way of a request, live: cache, queue, hosts. One component, fed by `/loupe/service/events`, without reruns.

Its three files stand beside this one. It begins with what the service sees now, so that nothing is empty at first.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.ui import access, bridge, notices, service_actions
from app.ui.state import service_state


def _part(suffix: str) -> str:
    return Path(__file__).with_suffix(suffix).read_text(encoding="utf-8")


HTML, CSS, JS = _part(".html"), _part(".css"), _part(".js")


def show() -> None:
    notices.show_at("live", service_state().notices)
    view = bridge.call(access.services().overview.snapshot())
    live = st.components.v2.component("loupe_service_live", html=HTML, css=CSS, js=JS, isolate_styles=False)
    live(key=service_actions.LIVE, data={"view": view}, on_act_change=service_actions.acted)
