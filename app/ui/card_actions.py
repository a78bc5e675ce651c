"""What clicks do in the scorecard view. Callbacks: they run before the page is drawn, so it shows their effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import streamlit as st

from app.comparison.plan import Asked
from app.comparison.question_set import read_questions
from app.core.errors import BadRequest
from app.ui import access, bridge, notices
from app.ui import card_run_words as run_words
from app.ui.state import card_state, open_card, open_report

CHATS_LOOKED_AT = 96
BEGIN_SECONDS = 60.0  # every variant is looked at first

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new scorecard was asked for. `source` is one of `card_words.QUESTIONS`."""

    family: str
    variants: tuple[str, ...]
    reference: str
    depth: str
    context: int
    source: str


# widget keys
FAMILY, VARIANTS, REFERENCE, DEPTH, CONTEXT, SOURCE, PROMPTS, FILE = (
    f"card-{name}" for name in ("family", "variants", "reference", "depth", "context", "source", "prompts", "file")
)


def _told_at(place: str, work: Callable[[], T]) -> T | None:
    """What `work` returns; None where it fails, and its error is told at that place of the page."""
    return notices.told_at(card_state().notices, place, work)


def dismiss() -> None:
    """Look again at what could not be shown."""
    card_state().notices.clear()


def show_card(card_id: str) -> None:
    """Go to a card; "" is the list of all."""
    open_card(card_id)


# -- beginning --------------------------------------------------------------------------------------------------------


def begin(wanted: Wanted) -> None:
    """Begin to measure, and go to the card: its address survives a reload."""
    card_id = _told_at("begin", lambda: _begin(wanted))
    if card_id:
        open_card(card_id)


def _begin(wanted: Wanted) -> str:
    questions = _questions(wanted.source)
    models = tuple(dict.fromkeys((wanted.reference, *wanted.variants)))
    asked = Asked(models, wanted.reference, wanted.depth, wanted.context, questions=questions)
    return bridge.call(access.services().comparisons.begin(asked), seconds=BEGIN_SECONDS).id


def _questions(source: str) -> tuple[str, ...]:
    """The user's own, where that was chosen. Raises `BadRequest` where there are too few of them."""
    if source == run_words.SHIPPED:
        return ()
    found = _own() if source == run_words.OWN else bridge.call(_of_chats())
    if len(found) < run_words.LEAST_PROMPTS:
        raise BadRequest(run_words.too_few_prompts(len(found)), field="questions")
    return found


def _own() -> tuple[str, ...]:
    """Those of a file where one was given, else what was typed."""
    file = st.session_state.get(FILE)
    if file is not None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / (Path(file.name).name or "prompts.txt")
            path.write_bytes(file.getvalue())
            return tuple(question.text for question in read_questions(path).questions)
    return run_words.own_prompts(str(st.session_state.get(PROMPTS) or ""))


async def _of_chats() -> tuple[str, ...]:
    """The first question of each of the newest chats."""
    history, principal = access.services().history, access.principal()
    found: list[str] = []
    for row in await history.conversations(principal, limit=CHATS_LOOKED_AT):
        chat = await history.get(row.id, principal)
        found += [each.content for each in chat.messages if each.role == "user" and each.content.strip()][:1]
    return tuple(dict.fromkeys(found))


# -- a card -----------------------------------------------------------------------------------------------------------


def operate(what: str, card_id: str) -> None:
    """pause, resume or cancel."""
    _told_at("run", lambda: bridge.call(_operate(what, card_id), keep=True))


async def _operate(what: str, card_id: str) -> None:
    comparisons = access.services().comparisons
    if what == "cancel":
        await comparisons.cancel(card_id)
    elif what == "pause":
        comparisons.pause(card_id)
    else:
        comparisons.resume(card_id)


def ask_to_delete(card_id: str) -> None:
    card_state().deleting = card_id


def close_dialog() -> None:
    card_state().deleting = ""
    card_state().notices.pop("dialog", None)


def delete(card_id: str) -> bool:
    """Whether it is gone. The page goes to the list where it showed that card."""
    comparisons = access.services().comparisons

    async def work() -> bool:
        await comparisons.delete(card_id)
        return True

    gone = bool(_told_at("dialog", lambda: bridge.call(work())))
    if gone and open_report() == card_id:
        open_card("")
    return gone
