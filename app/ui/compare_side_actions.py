"""What clicks do in the side-by-side view. Callbacks: they run before the page is drawn, so it shows their effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st

from app.comparison.rounds import Pane, Round, Turn
from app.core.conversations import Conversation
from app.core.errors import BadRequest, LoupeError
from app.core.generation import Json
from app.ui import access, bridge, notices
from app.ui.compare_side_words import Choice
from app.ui.state import open_round, open_round_id, side_state

ASK, FOLLOW = "side-ask", "side-follow"  # keys of the inputs
MODELS, REFERENCE, APART, SYSTEM = "side-models", "side-reference", "side-apart", "side-system"


@contextmanager
def _telling(place: str) -> Iterator[None]:
    """An error of an action is told at that place of the page."""
    told = side_state().notices
    told.pop(place, None)
    try:
        yield
    except LoupeError as error:
        told[place] = notices.notice_for(error)


# -- what is to be asked ----------------------------------------------------------------------------------------------


def models_changed() -> None:
    state = side_state()
    state.models = list(st.session_state[MODELS])
    if state.reference not in state.models:
        state.reference = ""


def reference_changed() -> None:
    side_state().reference = str(st.session_state[REFERENCE] or "")


def apart_changed() -> None:
    side_state().apart = bool(st.session_state[APART])


def system_changed() -> None:
    side_state().system = str(st.session_state[SYSTEM])


def option_changed(name: str, key: str, model: str = "") -> None:
    """Of all panes, or of one; an empty field takes the option away."""
    state = side_state()
    options = state.own.setdefault(model, {}) if model else state.options
    value: Json = st.session_state[key]
    if value is None and model:
        options.pop(name, None)
    else:
        options[name] = value  # None: not even the value that rounds have by themselves


def take_prompt(key: str) -> None:
    """A system prompt of the library into the field, to be filled in there."""
    title = st.session_state[key]
    prompt = next((each for each in access.services().prompts.list() if each.title == title), None)
    side_state().system = st.session_state[SYSTEM] = prompt.text if prompt else ""


def take_question(question: str) -> None:
    """A shipped question into the input."""
    side_state().without_chat()
    st.session_state[ASK] = question
    st.session_state["side-questions"] = False  # close the panel


def take_chat(key: str, *, anew: bool) -> None:
    """A past conversation: its last question with everything before it, or all of its questions anew."""
    chat_id, state = str(st.session_state[key] or ""), side_state()
    if not chat_id:
        return
    with _telling("chat"):
        chat = bridge.call(access.services().history.get(chat_id, access.principal()))
        context, questions = _of_chat(chat, anew=anew)
        state.context, state.questions, state.source = context, questions, chat.title
        state.system = st.session_state[SYSTEM] = chat.system
        st.session_state["side-chat"] = False  # close the panel


def _of_chat(chat: Conversation, *, anew: bool) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
    said = [message for message in chat.messages if message.content]
    asked = [at for at, message in enumerate(said) if message.role == "user"]
    if not asked:
        raise BadRequest("that chat has no question yet")
    if anew:
        return (), tuple(said[at].content for at in asked)
    before = tuple(Turn(message.role, message.content) for message in said[: asked[-1]])
    return before, (said[asked[-1]].content,)


def drop_chat() -> None:
    side_state().without_chat()


# -- asking -----------------------------------------------------------------------------------------------------------


def ask_typed(known: dict[str, Choice]) -> None:
    """The input was sent."""
    text = str(st.session_state[ASK] or "")
    if text.strip() and not start(known, (text,)):
        st.session_state[ASK] = text  # nothing is lost: it is in the input again


def ask_chat(known: dict[str, Choice]) -> None:
    start(known, side_state().questions)


def start(known: dict[str, Choice], questions: tuple[str, ...]) -> bool:
    """Whether a round was begun; it is opened then."""
    state = side_state()
    models = [name for name in state.models or () if name in known]
    panes = tuple(Pane(name, known[name].label, dict(state.own.get(name, {}))) for name in models)
    reference = models.index(state.reference) if state.reference in models else best(models, known)
    wanted = Round(
        questions, panes, reference=reference, system=state.system, context=state.context,
        options=dict(state.options), apart=state.apart,
    )  # fmt: skip
    with _telling("setup"):
        begun = bridge.call(access.services().side_by_side.start(wanted, access.caller()))
        state.without_chat()
        open_round(begun.id)
    return "setup" not in state.notices


def best(models: list[str], known: dict[str, Choice]) -> int:
    """The pane that the others are compared with where nobody chose one: the largest file, which is the most bits of
    one family, and the bigger model of two."""
    return max(range(len(models)), key=lambda index: known[models[index]].variant.size, default=0)


def follow() -> None:
    text = str(st.session_state[FOLLOW] or "")
    if text.strip():
        side = access.services().side_by_side
        _on_round(lambda: bridge.call(side.follow(open_round_id(), text, access.caller())))
        if "round" in side_state().notices:
            st.session_state[FOLLOW] = text


# -- a round ----------------------------------------------------------------------------------------------------------


def stop() -> None:
    _on_round(lambda: bridge.call(access.services().side_by_side.stop(open_round_id()), keep=True))


def go_on() -> None:
    _on_round(lambda: bridge.call(access.services().side_by_side.go_on(open_round_id(), access.caller())))


def measure() -> None:
    _on_round(lambda: bridge.call(access.services().side_by_side.measure(open_round_id(), access.caller())))


def delete(round_id: str) -> None:
    _on_round(lambda: bridge.call(access.services().side_by_side.delete(round_id, access.principal()), keep=True))
    if round_id == open_round_id():
        open_round("")


def keep(index: int) -> str:
    """The conversation that was made of that pane; "" where it could not be."""
    made: list[str] = []
    side = access.services().side_by_side
    _on_round(lambda: made.append(bridge.call(side.keep(open_round_id(), index, access.principal()))))
    return made[0] if made else ""


def _on_round(work: Callable[[], object]) -> None:
    with _telling("round"):
        work()
