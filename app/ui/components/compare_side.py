"""Side by side: one question to several variants. Until it can be asked here, what comes and where to begin."""

from __future__ import annotations

import streamlit as st

TOLD = (
    "The answers of several variants to one question will stand beside each other here. Until then, ask in "
    "<b>Chat</b>, choose another variant below the answer, and regenerate."
)


def show() -> None:
    st.html(f'<p class="lp-quiet">{TOLD}</p>')
