"""Blind votes: which of two answers is better, without a name on either. Until then, what comes."""

from __future__ import annotations

import streamlit as st

TOLD = "Two answers without a name on either, and a verdict as soon as your votes tell them apart, will stand here."


def show() -> None:
    st.html(f'<p class="lp-quiet">{TOLD}</p>')
