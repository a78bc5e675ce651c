"""What clicks do on the models screen and in the tray: pull, make, delete, cancel, go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import streamlit as st

from app.core.errors import LoupeError
from app.services.jobs import JobView
from app.services.model_jobs import Removal
from app.ui import access, bridge, notices
from app.ui.model_words import typed_tag
from app.ui.state import models_state

T = TypeVar("T")
TAG, PULL_HOST, GET = "pull-tag", "pull-host", "get-model"  # widget keys
REMOVE_SECONDS = 60.0  # a host that is loading a model answers late


def told_at(place: str, work: Callable[[], T]) -> T | None:
    """What `work` returns; None where it fails, and its error is told at that place of the page."""
    told = models_state().notices
    told.pop(place, None)
    try:
        return work()
    except LoupeError as error:
        told[place] = notices.notice_for(error)
        return None


def on_loop(work: Callable[[], T]) -> T:
    """Call something that is not a coroutine but belongs to the server's loop."""

    async def run() -> T:
        return work()

    return bridge.call(run())


def pull_typed() -> None:
    """The tag in the box was sent."""
    tag = typed_tag(str(st.session_state.get(TAG) or ""))
    if not tag:
        models_state().notices["pull"] = notices.Notice(
            "Which tag?", "Type one, for example qwen3:0.6b-q4_K_M, or take one of the suggestions.", tone="plain"
        )
        return
    if pull(tag, str(st.session_state.get(PULL_HOST) or "")):
        st.session_state[TAG] = ""
        st.session_state[GET] = False  # close the panel: the tray shows how it goes on


def pull(tag: str, host: str = "", place: str = "pull") -> JobView | None:
    """Begin a pull; what cannot even begin is told at `place`."""
    return told_at(place, lambda: on_loop(lambda: access.services().model_jobs.pull(tag, host)))


def pull_as_told(tag: str, host: str, place: str) -> None:
    """`pull` as a callback."""
    pull(tag, host, place)


def take(tag: str) -> None:
    """Put a suggested tag into the box."""
    st.session_state[TAG] = tag


def job(what: str, job_id: str) -> None:
    """Cancel a job, or go on with one that ended before it was done."""
    jobs = access.services().jobs
    if what == "cancel":
        told_at("tray", lambda: bridge.call(jobs.cancel(job_id)))
    else:
        told_at("tray", lambda: on_loop(lambda: jobs.retry(job_id)))


def make(source: str, levels: Sequence[str], host: str) -> list[JobView] | None:
    """Begin to make these quantizations of `source`, one job each."""
    jobs = access.services().model_jobs
    return told_at("make", lambda: on_loop(lambda: [jobs.make(source, level, host) for level in levels]))


def remove(name: str, host: str) -> Removal | None:
    """Delete a model; what became free."""
    jobs = access.services().model_jobs
    return told_at("delete", lambda: bridge.call(jobs.remove(name, host), seconds=REMOVE_SECONDS, keep=True))


# -- dialogs ----------------------------------------------------------------------------------------------------------


def ask_to_make(source: str) -> None:
    models_state().close()
    models_state().making = source


def ask_to_delete(name: str) -> None:
    models_state().close()
    models_state().deleting = name


def close_dialog() -> None:
    models_state().close()
