"""Machine and service over time: series on one axis with one cursor, fed by `/loupe/series/events`, without reruns.

Its three files stand beside this one. It begins with the newest sample, so that every row is there from the start.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.core.colours import bpw_colour
from app.core.errors import LoupeError
from app.services.live_series import whole
from app.ui import access, bridge
from app.ui.components import dashboard_filters as filters


def _part(suffix: str) -> str:
    return Path(__file__).with_suffix(suffix).read_text(encoding="utf-8")


LONGEST = 3.0  # seconds that colours are waited for
HTML, CSS, JS = _part(".html"), _part(".css"), _part(".js")


def show() -> None:
    with st.container(key="live-filters"):
        _, seconds = filters.within()
    begin = whole(access.services().live.newest)
    series = st.components.v2.component("loupe_live_series", html=HTML, css=CSS, js=JS, isolate_styles=False)
    # A host or a job that comes or goes is told so that the page is drawn anew: it does not look by itself.
    series(
        key="live-series",
        on_changed_change=lambda: None,
        data={"seconds": seconds, "begin": begin, "colours": _colours()},
    )


def _colours() -> dict[str, str]:
    """Of each variant by its true bits per weight; where no host answers that knows it, it has none."""
    try:
        catalog = bridge.call(access.services().catalog.snapshot(stale_ok=True), seconds=LONGEST)
    except LoupeError:
        return {}
    return {
        variant.name: bpw_colour(variant.bpw, reference=variant.reference)
        for family in catalog.families
        for variant in family.variants
    }
