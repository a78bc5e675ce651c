"""The list of conversations in the sidebar: by day, open, rename, delete with undo."""

from __future__ import annotations

from datetime import datetime
from html import escape

import streamlit as st

from app.core.conversations import ConversationRow
from app.ui import actions
from app.ui import view_models as vm
from app.ui.chat_view import ChatView
from app.ui.state import chat_state, open_chat, open_chat_id

SHOWN = 40  # rows before "Show all": each costs two widgets


def show(view: ChatView) -> None:
    state = chat_state()
    with st.sidebar, st.container(key="chats", gap=None):
        st.button(
            "New chat", icon=":material/add:", key="new_chat", width="stretch", shortcut="Ctrl+Shift+O",
            on_click=open_chat, args=("",),
        )  # fmt: skip
        if state.deleted is not None:
            _undo(state.deleted[1])
        if not view.rows:
            st.html('<p class="lp-quiet">Your chats are listed here. They stay on this machine.</p>')
        rows = view.rows if state.all_chats else view.rows[:SHOWN]
        for day in vm.by_day(rows, datetime.now().astimezone()):
            st.html(f'<h2 class="lp-day">{escape(day.title)}</h2>')
            for row in day.rows:
                _row(row)
        if len(rows) < len(view.rows):
            st.button(f"Show all {len(view.rows)}", type="tertiary", key="all_chats", on_click=actions.show_all_chats)


def _row(row: ConversationRow) -> None:
    if chat_state().renaming == row.id:
        key = f"title-{row.id}"
        st.text_input(
            "Title", row.title, key=key, label_visibility="collapsed", max_chars=200,
            on_change=actions.rename, args=(row.id, key),
        )  # fmt: skip
        return
    here = "open" if row.id == open_chat_id() else "row"
    with st.container(key=f"chat-{here}-{row.id}", horizontal=True, gap=None, vertical_alignment="center", wrap=False):
        st.button(
            vm.plain(row.title) + (" :gray[…]" if row.answering else ""), type="tertiary", key=f"open-{row.id}",
            width="stretch", on_click=open_chat, args=(row.id,),
        )  # fmt: skip
        menu = f"menu-{row.id}"
        st.menu_button(
            "More", ["Rename", "Delete"], type="tertiary", icon=":material/more_horiz:", key=menu,
            on_click=actions.menu, args=(row.id, row.title, menu),
        )  # fmt: skip


def _undo(title: str) -> None:
    with st.container(key="undo", horizontal=True, gap="xsmall", vertical_alignment="center", wrap=False):
        st.html(f'<div class="lp-undo" role="status">Deleted <em>{escape(title)}</em></div>')
        st.button("Undo", type="tertiary", key="undo_delete", on_click=actions.undo_delete)
