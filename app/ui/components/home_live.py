"""Four figures of now with their last quarter of an hour: fed by `/loupe/series/events`, without reruns.

Its three files stand beside this one. It begins with the newest sample, so that nothing is empty at first.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.services.live_series import whole
from app.ui import access


def _part(suffix: str) -> str:
    return Path(__file__).with_suffix(suffix).read_text(encoding="utf-8")


HTML, CSS, JS = _part(".html"), _part(".css"), _part(".js")


def show() -> None:
    now = st.components.v2.component("loupe_home_live", html=HTML, css=CSS, js=JS, isolate_styles=False)
    # What the rest of the page shows has changed: it is drawn anew, and does not look by itself.
    now(key="home-live", on_changed_change=lambda: None, data={"begin": whole(access.services().live.newest)})
