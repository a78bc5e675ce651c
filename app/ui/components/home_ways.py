"""Three ways on from Home."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.ui import home_words as words
from app.ui.components import home_now
from app.ui.state import FAMILY_PARAMETER, MODEL_PARAMETER


def show() -> None:
    with st.container(key="home-ways", horizontal=True, gap="medium"):
        for way in words.ways(home_now.look()[0]):
            with st.container(key=f"way-{way.screen}", gap=None):
                st.page_link(f"screens/{way.screen}.py", label=way.label, query_params=_query(way))
                st.html(f'<p class="lp-quiet">{escape(way.told)}</p>')


def _query(way: words.Way) -> dict[str, str]:
    return {name: value for name, value in ((MODEL_PARAMETER, way.model), (FAMILY_PARAMETER, way.family)) if value}
