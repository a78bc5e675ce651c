"""What clicks do on the chat screen. Callbacks: they run before the page is drawn, so the page shows their effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st

from app.core.errors import LoupeError
from app.core.generation import Json
from app.ui import access, bridge, notices
from app.ui.chat_view import ChatView
from app.ui.state import PAGE_OF_MESSAGES, chat_state, open_chat, open_chat_id

COMPOSER = "composer"


@contextmanager
def _telling() -> Iterator[None]:
    """An error of an action is told above the composer."""
    state = chat_state()
    state.notices.pop("", None)
    try:
        yield
    except LoupeError as error:
        state.notices[""] = notices.notice_for(error)


def dismiss() -> None:
    chat_state().notices.pop("", None)


# -- asking -----------------------------------------------------------------------------------------------------------


def submit(model: str) -> None:
    """The composer was sent. While an answer is running, the text waits for its end."""
    text = str(st.session_state[COMPOSER] or "")
    if not text.strip():
        return
    chat_id = open_chat_id()
    if chat_id and access.services().generations.active(chat_id) is not None:
        chat_state().queued = text
        return
    ask(text, model)


def ask(text: str, model: str) -> None:
    """Send a question in the open conversation, or in a new one with this model. In a callback."""
    with _telling():
        try:
            _send(text, model)
        except LoupeError:
            st.session_state[COMPOSER] = text  # nothing is lost: it is in the composer again
            raise


def _send(text: str, model: str) -> None:
    chat_id = open_chat_id() or _create(model)
    bridge.call(access.services().generations.send(chat_id, text, access.caller()))


def _create(model: str) -> str:
    state = chat_state()
    created = bridge.call(
        access.services().history.create(access.principal(), model=model, system=state.system, options=state.options)
    )
    open_chat(created.id)
    state.model, state.system, state.options = "", "", {}
    return created.id


def send_queued(view: ChatView) -> None:
    """The answer is done: now the text that was sent meanwhile."""
    if not chat_state().queued or view.conversation is None or "" in chat_state().notices:
        return
    with _telling():
        _send(chat_state().queued, view.model)
        chat_state().queued = ""
    st.rerun()


def drop_queued() -> None:
    """Take the waiting text back into the composer."""
    st.session_state[COMPOSER] = chat_state().queued
    chat_state().queued = ""


def _own_chat() -> str:
    """The open conversation, "" for a new one. Raises `ConversationNotFound` where the address names another's."""
    chat_id = open_chat_id()
    if chat_id:
        bridge.call(access.services().history.get(chat_id, access.principal()))
    return chat_id


def stop() -> None:
    """Stop the answer; returns when its slot is free."""
    with _telling():
        generation = access.services().generations.active(_own_chat())
        if generation is not None:
            bridge.call(generation.stop(), keep=True)


def regenerate() -> None:
    with _telling():
        bridge.call(access.services().generations.regenerate(open_chat_id(), access.caller()))


def begin_edit(message_id: str) -> None:
    chat_state().editing = message_id


def finish_edit(message_id: str) -> None:
    """Ask the changed question in place of the old one; an answer that is running is stopped first."""
    stop()
    with _telling():
        text = str(st.session_state["edit_text"])
        bridge.call(access.services().generations.edit(open_chat_id(), message_id, text, access.caller()))
        chat_state().editing = ""


def show_earlier() -> None:
    chat_state().shown += PAGE_OF_MESSAGES


# -- settings of a conversation ---------------------------------------------------------------------------------------


def choose_variant(name: str) -> None:
    with _telling():
        if chat_id := _own_chat():
            bridge.call(access.services().history.set_variant(chat_id, name))
        else:
            chat_state().model = name
    st.session_state["variant"] = False  # close the picker


def set_system(text: str) -> None:
    with _telling():
        if chat_id := _own_chat():
            bridge.call(access.services().history.set_system(chat_id, text))
        else:
            chat_state().system = text


def set_options(options: dict[str, Json]) -> None:
    with _telling():
        if chat_id := _own_chat():
            bridge.call(access.services().history.set_options(chat_id, options))
        else:
            chat_state().options = options


def options_of(view: ChatView) -> dict[str, Json]:
    return dict(view.conversation.options) if view.conversation else dict(chat_state().options)


def system_of(view: ChatView) -> str:
    return view.conversation.system if view.conversation else chat_state().system


# -- the list of conversations ----------------------------------------------------------------------------------------


def rename(conversation_id: str, key: str) -> None:
    title = str(st.session_state[key]).strip()
    chat_state().renaming = ""
    if title:
        with _telling():
            bridge.call(access.services().history.rename(conversation_id, title))


def delete(conversation_id: str, title: str) -> None:
    """Hide it, and offer to bring it back. What it was answering is stopped."""
    services = access.services()
    with _telling():
        running = services.generations.active(conversation_id)
        if running is not None:
            bridge.call(running.stop(), keep=True)
        bridge.call(services.history.delete(conversation_id))
        chat_state().deleted = (conversation_id, title)
        if open_chat_id() == conversation_id:
            open_chat("")


def undo_delete() -> None:
    state = chat_state()
    if state.deleted is not None:
        with _telling():
            bridge.call(access.services().history.restore(state.deleted[0]))
            open_chat(state.deleted[0])
            state.deleted = None


def menu(conversation_id: str, title: str, key: str) -> None:
    """The three dots beside a conversation."""
    doing: dict[str, Callable[[], None]] = {
        "Rename": lambda: setattr(chat_state(), "renaming", conversation_id),
        "Delete": lambda: delete(conversation_id, title),
    }
    chosen = st.session_state[key]
    if chosen in doing:
        doing[chosen]()


def show_all_chats() -> None:
    chat_state().all_chats = True
