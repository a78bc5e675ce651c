"""Backups of the conversations: the list, one made now, one fetched, one brought back."""

from __future__ import annotations

import time
from html import escape

import streamlit as st

from app.core.errors import BadRequest, LoupeError
from app.services.history_file import Backup
from app.ui import access, bridge, notices, settings_actions, who
from app.ui import settings_words as words
from app.ui.components.settings_head import why_not
from app.ui.state import settings_state

EMPTY = "There is no backup yet. One is made each day on which there is something to keep."


def show() -> None:
    services = access.services()
    try:
        backups, folder = bridge.call(services.backups.list()), services.backups.folder
    except BadRequest as error:
        st.html(f'<p class="lp-quiet">{escape(error.message[:1].upper() + error.message[1:])}.</p>')
        return
    may = who.visits().admin
    with st.container(key="settings-backups", gap="small"):
        with st.container(key="settings-part-backups", horizontal=True, gap="small", vertical_alignment="center"):
            st.html(
                f'<p class="lp-quiet">One a day; the newest three are kept, in <code>{escape(str(folder))}</code>. '
                "On another machine, <code>python -m app restore FILE</code> takes one in.</p>"
            )
            st.button("Back up now", key="back-up", disabled=not may, on_click=settings_actions.back_up)
        why_not("make, fetch or bring back backups")
        notices.show_at("backups", settings_state().notices)
        with st.container(key="backup-rows", gap=None):
            for backup in backups:
                _row(backup, may=may)
        if not backups:
            st.html(f'<p class="lp-quiet">{EMPTY}</p>')
    _dialog(backups)


def _row(backup: Backup, *, may: bool) -> None:
    with st.container(key=f"line-backup-{backup.name}", horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.html(
            f'<div class="lp-line"><b>{escape(words.backup_when(backup))}</b>'
            f"<small>{escape(words.backup_facts(backup, time.time()))}</small></div>"
        )
        if may:
            st.html(
                f'<a class="lp-button" href="/loupe/history/backups/{escape(backup.name)}" download>Download</a>',
                width="content",
            )
        st.button(
            "Bring back…", type="tertiary", key=f"bring-{backup.name}", disabled=not may,
            on_click=settings_actions.ask, args=("restore", backup.name),
        )  # fmt: skip


def _dialog(backups: tuple[Backup, ...]) -> None:
    """Draws the question that the page's state names, if any."""
    what, name = settings_state().confirming or ("", "")
    found = next((backup for backup in backups if backup.name == name), None)
    if what != "restore" or found is None:
        return
    title = f"Bring back the backup of {words.backup_when(found)}?"
    st.dialog(title, width=520, on_dismiss=settings_actions.close_dialog)(_confirm)(name)


def _confirm(name: str) -> None:
    try:
        missing = bridge.call(access.services().backups.missing(name))
    except LoupeError as error:
        notices.show(notices.notice_for(error), key="missing")
        return
    st.html("".join(f'<p class="lp-told">{escape(line)}</p>' for line in words.restore_words(missing)))
    problem = st.container()
    empty = not (missing.conversations or missing.messages)
    with st.container(key="dialog-foot", horizontal=True, gap="xsmall"):
        if st.button("Bring back", type="primary", key="restore-go", disabled=empty) and settings_actions.restore(name):
            settings_actions.close_dialog()
            st.rerun()
        if st.button("Close" if empty else "Cancel", key="restore-cancel"):
            settings_actions.close_dialog()
            st.rerun()
    with problem:
        notices.show_at("dialog", settings_state().notices)
