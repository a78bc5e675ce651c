"""The line above the Settings screen: which part of it is shown, and who one is here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from app.ui import who

SIGN_OUT = (
    '<form method="post" action="/loupe/sign-out"><button type="submit" class="lp-button">Sign out</button></form>'
)
MAY = "May change everything that is shared: models, hosts, keys, aliases, backups."
MAY_NOT = "May chat, compare and look. What is shared, an administrator changes."


def show(parts: Sequence[str]) -> str:
    """Draws it; which part is shown."""
    with st.container(key="settings-head", horizontal=True, gap="small", vertical_alignment="center"):
        chosen = st.segmented_control(
            "Part", parts, default=parts[0], required=True, key="view", label_visibility="collapsed",
            bind="query-params",
        )  # fmt: skip
        _who()
    return chosen or parts[0]


def _who() -> None:
    visitor = who.visits()
    with st.popover(visitor.name, key="who"):
        role = "Administrator" if visitor.admin else "Member"
        st.html(
            f'<div class="lp-who"><strong>{escape(role)}</strong><p>{escape(visitor.how)}</p>'
            f"<p>{MAY if visitor.admin else MAY_NOT}</p>{SIGN_OUT if visitor.signed_in else ''}</div>"
        )


def why_not(what: str) -> None:
    """Says why the buttons below are grey, to those who may not use them."""
    if not who.visits().admin:
        st.html(f'<p class="lp-quiet">Only an administrator may {escape(what)}; you are not one here.</p>')
