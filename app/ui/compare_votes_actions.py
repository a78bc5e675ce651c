"""What clicks do in the votes view. Callbacks: they run before the page is drawn, so it shows their effect."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import streamlit as st

from app.comparison.ballots import Poll
from app.comparison.rounds import Pane
from app.core.errors import LoupeError
from app.ui import access, bridge, notices
from app.ui import compare_votes_words as words
from app.ui.compare_side_words import Choice, label_of
from app.ui.state import votes_state

MODELS, TASK, OWN = "votes-models", "votes-task", "votes-own"


def models_changed() -> None:
    votes_state().models = list(st.session_state[MODELS])


def task_changed() -> None:
    chosen = st.session_state[TASK]
    votes_state().task = "" if chosen == words.OWN_TASK else chosen


def own_changed() -> None:
    votes_state().own = str(st.session_state[OWN])


def begin(known: dict[str, Choice]) -> None:
    state, services = votes_state(), access.services()
    chosen = [known[name] for name in state.models or () if name in known]
    questions = services.questions().get(state.task, ()) if state.task else tuple(state.own.splitlines())
    label = label_of([choice.name for choice in chosen], known)
    poll = Poll(
        words.family_of(chosen), state.task or words.OWN_TASK,
        tuple(Pane(choice.name, label(choice.name)) for choice in chosen), questions,
    )  # fmt: skip
    _told(lambda: services.ballots.open(poll, access.caller()))


def vote(ballot_id: str, choice: str) -> None:
    _told(lambda: access.services().ballots.vote(access.principal(), ballot_id, choice))


def retry() -> None:
    _told(lambda: access.services().ballots.retry(access.principal()))


def end() -> None:
    _told(lambda: access.services().ballots.end(access.principal()))


def remove(family: str, task: str) -> None:
    _told(lambda: access.services().ballots.remove(family, task, access.principal()))


def _told(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """An error is told above what it is about."""
    told = votes_state().notices
    told.clear()
    try:
        bridge.call(work(), keep=True)
    except LoupeError as error:
        told["votes"] = notices.notice_for(error)
