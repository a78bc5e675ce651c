"""A picture of results in the page: a Vega-Lite specification for light and for dark, drawn by a bundle we serve.

The same specification makes the picture of a report. `alt` says in words what it shows, for those who do not see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from app.core.generation import Json
from app.ui import assets


def _part(suffix: str) -> str:
    return Path(__file__).with_suffix(suffix).read_text(encoding="utf-8")


HTML, CSS, JS = _part(".html"), _part(".css"), _part(".js")


def show(light: Mapping[str, Json], dark: Mapping[str, Json], *, name: str, alt: str, height: int) -> None:
    """`name` is the file's name when it is saved; `height` in pixels keeps the place while it loads."""
    chart = st.components.v2.component("loupe_vega_chart", html=HTML, css=CSS, js=JS, isolate_styles=False)
    chart(
        key=f"chart-{name}",
        data={
            "specs": {"light": dict(light), "dark": dict(dark)}, "library": assets.chart_library(), "name": name,
            "alt": alt, "height": height,
        },
    )  # fmt: skip
