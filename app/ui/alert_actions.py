"""What clicks do on the Dashboard's Alerts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import streamlit as st

from app.core.generation import Json
from app.ui import access, bridge, notices, who
from app.ui.state import alerts_state
from app.ui.view_models import sentence

T = TypeVar("T")
CHANGE = "change alert rules"


def told_at(place: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
    """What `work` returns; None where the visitor may not, or it fails: that is told there on the page."""

    def run() -> T:
        who.require_admin(CHANGE)
        return bridge.call(work())

    return notices.told_at(alerts_state().notices, place, run)


def ask(what: str) -> None:
    """Open a dialog: "change" or "add"."""
    alerts_state().notices.clear()
    alerts_state().dialog = what


def close_dialog() -> None:
    alerts_state().notices.pop("dialog", None)
    alerts_state().dialog = ""


def save(name: str, wish: Mapping[str, Json]) -> bool:
    """Whether it was done."""
    return told_at("dialog", lambda: access.services().alerts.change(name, wish)) is not None


def remove(name: str) -> bool:
    async def gone() -> bool:
        await access.services().alerts.remove(name)
        return True

    return bool(told_at("dialog", gone))


def try_webhook() -> None:
    delivery = told_at("webhook", access.services().alerts.try_receiver)
    if delivery is None:
        return
    if delivery.taken:
        st.toast("The webhook took a test message")
    else:
        notice = notices.Notice("The webhook did not take a test message", sentence(delivery.why), tone="warn")
        alerts_state().notices["webhook"] = notice
