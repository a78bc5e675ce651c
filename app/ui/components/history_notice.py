"""Where the conversations could not be read at the start: what became of the file, and the way to a backup."""

from __future__ import annotations

import time

import streamlit as st

from app.core.errors import LoupeError
from app.ui import access, bridge, notices
from app.ui.state import chat_state


def show() -> None:
    """At the top of the chat, until a backup was brought back or somebody has dismissed it."""
    services = access.services()
    damage = services.backups.damage
    if damage is None or not access.administers():
        return
    backups = bridge.call(services.backups.list())
    kept = (
        f"The file could not be read. It is kept as {damage.kept_as.name} in the data folder, and a new one is in use."
    )
    with st.container(key="history-damage", gap="xsmall"):
        notices.show(notices.Notice("Your conversations were set aside", kept, tone="warn"), key="history")
        with st.container(horizontal=True, gap="xsmall"):
            if backups:
                newest = backups[0]
                when = time.strftime("%d %b, %H:%M", time.localtime(newest.made_at))
                chats = "1 chat" if newest.conversations == 1 else f"{newest.conversations} chats"
                label = f"Bring back {chats} of {when}"
                st.button(label, key="history-restore", on_click=_bring_back, args=(newest.name,))
            st.button("Dismiss", type="tertiary", key="history-dismiss", on_click=services.backups.dismiss)
        if not backups:
            st.html('<p class="lp-told">There is no backup yet; one is made each day.</p>')
        notices.show_at("history", chat_state().notices)


def _bring_back(name: str) -> None:
    try:
        came = bridge.call(access.services().backups.bring_back(name), keep=True)
    except LoupeError as error:
        chat_state().notices["history"] = notices.notice_for(error)
        return
    st.toast(f"{came} conversations are back", duration="long")
