"""One kept answer in a dialog: what was asked, what was answered, and what that took."""

from __future__ import annotations

import time
from html import escape

import streamlit as st

from app.services.cache_views import CachedText
from app.ui import access, bridge, service_actions
from app.ui import service_words as words
from app.ui.components.transcript import draw_block, thinking_html
from app.ui.markdown_blocks import finished, merged

MOST = 20_000  # characters of an answer that are drawn; the export has all of it
GONE = "This answer is not in the cache any more: its model was changed, or it made room for others."


def show(key: str) -> None:
    """Draws the dialog."""
    found = bridge.call(access.services().cache.open(key, access.principal()))
    st.dialog("A kept answer", width=720, on_dismiss=service_actions.close_dialog)(_tell)(found)


def _tell(found: CachedText | None) -> None:
    if found is None:
        st.html(f'<p class="lp-told">{GONE}</p>')
        return
    entry = found.entry
    with st.container(key="kept-answer", gap="small"):
        st.html(f'<div class="lp-ask">{escape(entry.question or "no question")}</div>')
        if found.thinking:
            st.html(thinking_html(found.thinking[:MOST]))
        for block in merged(finished(found.text[:MOST])):
            draw_block(block)
        if len(found.text) > MOST:
            st.html('<p class="lp-quiet">It goes on; the export has all of it.</p>')
        facts = f"{entry.model} · {words.entry_facts(entry, time.time())}"
        st.html(f'<p class="lp-quiet">{escape(facts)}</p>')
