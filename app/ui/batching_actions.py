"""What clicks do in the batching lab. Callbacks: they run before the page is drawn, so it shows their effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from app.comparison.batching.study import AskedStudy
from app.core.runtime_setup import RuntimeSetup
from app.ui import access, bridge, notices, who
from app.ui.state import STUDY_PARAMETER, service_state

BEGIN_SECONDS = 60.0
T = TypeVar("T")


def _told_at(place: str, what: str, work: Callable[[], T]) -> T | None:
    def run() -> T:
        who.require_admin(what)
        return work()

    return notices.told_at(service_state().notices, place, run)


def begin(asked: AskedStudy) -> None:
    """Begin to measure, and go to the study: its address survives a reload."""
    made = _told_at(
        "study", "measure", lambda: bridge.call(access.services().batching.begin(asked), seconds=BEGIN_SECONDS)
    )
    if made is not None:
        show_study(made.id)


def show_study(study_id: str) -> None:
    """Go to a study; "" is the list of all."""
    if study_id:
        st.query_params[STUDY_PARAMETER] = study_id
    else:
        st.query_params.pop(STUDY_PARAMETER, None)


def operate(what: str, study_id: str) -> None:
    """pause, resume or cancel."""
    _told_at("study", f"{what} a study", lambda: bridge.call(_operate(what, study_id), keep=True))


async def _operate(what: str, study_id: str) -> None:
    batching = access.services().batching
    if what == "cancel":
        await batching.cancel(study_id)
    elif what == "pause":
        batching.pause(study_id)
    else:
        batching.resume(study_id)


def delete(study_id: str) -> bool:
    """Whether it is gone. The page goes to the list."""

    async def work() -> bool:
        await access.services().batching.delete(study_id)
        return True

    gone = bool(_told_at("dialog", "delete a study", lambda: bridge.call(work())))
    if gone:
        show_study("")
    return gone


def apply(setup: RuntimeSetup) -> None:
    """Set the embedded runtime up so; an empty setup takes back what was changed. Told in the tray of jobs."""

    async def work() -> None:
        access.services().tuning.apply(setup)

    _told_at("study", "set the runtime up", lambda: bridge.call(work()))
