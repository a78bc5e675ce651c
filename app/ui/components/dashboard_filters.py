"""What the views of the Dashboard are kept to: a time range, a variant, a user. Each stands in the address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import streamlit as st

RANGES: Mapping[str, float] = {"15 min": 900.0, "2 h": 7200.0, "24 h": 86_400.0, "30 days": 30 * 86_400.0}
"""Seconds back from now."""
FIRST = next(iter(RANGES))


def within() -> tuple[str, float]:
    """Draws the choice of a range; its name and its seconds."""
    chosen = st.segmented_control(
        "Time range", list(RANGES), default=FIRST, required=True, key="range", label_visibility="collapsed",
        bind="query-params",
    )  # fmt: skip
    return (name := chosen or FIRST), RANGES[name]


def one_of(
    label: str, everything: str, there: Iterable[str], *, key: str, names: Mapping[str, str] | None = None
) -> str:
    """Draws a choice of one or all (""). What the address names is offered, also where nothing of it is there now."""
    named = st.query_params.get(key, "")
    options = ["", *sorted({*there, *([named] if named else [])} - {""})]
    told = names or {}
    chosen = st.selectbox(
        label, options, key=key, label_visibility="collapsed", bind="query-params",
        format_func=lambda word: told.get(word, word) or everything,
    )  # fmt: skip
    return chosen or ""
