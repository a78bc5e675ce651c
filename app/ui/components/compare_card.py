"""The scorecard of a family: until it can be drawn here, one sentence of what it measures and how to begin."""

from __future__ import annotations

import streamlit as st

TOLD = (
    "How far each quantization is from the best one, how fast it is and what it needs, each figure with its interval, "
    "will stand here. Until then, ask all of them the same under <b>Side by side</b>."
)


def show() -> None:
    st.html(f'<p class="lp-quiet">{TOLD}</p>')
