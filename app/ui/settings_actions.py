"""What clicks do on the Settings screen. Hosts have their own in `service_actions`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import streamlit as st

from app.ui import access, bridge, notices, who
from app.ui import settings_words as words
from app.ui.state import settings_state

T = TypeVar("T")
BACKUP_SECONDS = 120.0  # a large history is written and read back


def told_at(place: str, what: str, work: Callable[[], Coroutine[Any, Any, T]], *, seconds: float = 15.0) -> T | None:
    """What `work` returns; None where the visitor may not do `what` or it fails: that is told there on the page."""

    def run() -> T:
        who.require_admin(what)
        return bridge.call(work(), seconds=seconds, keep=True)

    return notices.told_at(settings_state().notices, place, run)


def ask(what: str, name: str) -> None:
    """Open the dialog that asks whether this is meant."""
    settings_state().notices.pop("dialog", None)
    settings_state().confirming = (what, name)


def close_dialog() -> None:
    settings_state().confirming = None
    settings_state().notices.pop("dialog", None)


def back_up() -> None:
    backups = access.services().backups
    if made := told_at("backups", "back the conversations up", backups.make, seconds=BACKUP_SECONDS):
        st.toast(f"{words.backup_facts(made, made.made_at).partition(' · ')[0]} backed up")


def restore(name: str) -> bool:
    """Whether it was done."""
    backups = access.services().backups
    work = lambda: backups.bring_back(name)  # noqa: E731
    came = told_at("dialog", "bring conversations back", work, seconds=BACKUP_SECONDS)
    if came is None:
        return False
    st.toast(words.came_back(came), duration="long")
    return True
