"""A dialog that asks whether something is meant: it names what is lost, and its button says the verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

import streamlit as st

from app.ui import notices


def show(
    title: str, lines: Sequence[str], verb: str, work: Callable[[], bool], close: Callable[[], None],
    told: Mapping[str, notices.Notice],
) -> None:  # fmt: skip
    """`work` says whether it was done; where not, `told` has why, at "dialog". `close` forgets what was asked."""
    st.dialog(title, width=480, on_dismiss=close)(_confirm)(lines, verb, work, close, told)


def _confirm(
    lines: Sequence[str], verb: str, work: Callable[[], bool], close: Callable[[], None],
    told: Mapping[str, notices.Notice],
) -> None:  # fmt: skip
    st.html("".join(f'<p class="lp-told">{escape(line)}</p>' for line in lines))
    problem = st.container()
    with st.container(key="dialog-foot", horizontal=True, gap="xsmall"):
        if st.button(verb, type="primary", key="confirm-go") and work():
            close()
            st.rerun()
        if st.button("Cancel", key="confirm-cancel"):
            close()
            st.rerun()
    with problem:
        notices.show_at("dialog", told)
