"""The conversation as it stands: questions, answers, what each answer cost. The live answer is `live_answer`."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.core.conversations import MessageState, StoredMessage
from app.ui import actions, notices
from app.ui.chat_view import ChatView
from app.ui.components import answer_footer
from app.ui.markdown_blocks import Block, finished, merged
from app.ui.safe_markdown import neutralise
from app.ui.state import PAGE_OF_MESSAGES, chat_state

ANEW = "Answer the question once more, with the variant chosen below"
AGAIN = "This answer came out of the cache; let the model answer anew, with the variant chosen below"


def draw_block(block: Block) -> None:
    """One block into the place where it is called; also what the live answer draws with, so that nothing jumps."""
    if block.is_code:
        st.code(block.text, language=block.language or None, wrap_lines=False)
    else:
        st.markdown(neutralise(block.text), anchors=False)


def thinking_html(text: str, *, running: bool = False) -> str:
    label = "Thinking…" if running else "Thoughts"
    return f'<details class="lp-think"><summary>{label}</summary><div>{escape(text)}</div></details>'


def show(view: ChatView) -> None:
    """All messages but the one that is being written."""
    state = chat_state()
    messages = [message for message in view.messages if not view.is_live(message)]
    hidden = max(0, len(messages) - state.shown)
    if hidden:
        st.button(
            f"Show {min(hidden, PAGE_OF_MESSAGES)} earlier messages", type="tertiary", key="earlier",
            on_click=actions.show_earlier,
        )  # fmt: skip
    for message in messages[hidden:]:
        if message.role == "user":
            _question(view, message)
        else:
            _answer(view, message)


def _question(view: ChatView, message: StoredMessage) -> None:
    state = chat_state()
    if state.editing == message.id:
        _edit(message)
        return
    with st.container(key=f"ask-{message.id}", horizontal=True, horizontal_alignment="right", gap="xsmall"):
        # A place that is always there: what stands after it must not move while an answer is written, because
        # the page keeps an element that has lost its place until the run has ended.
        place = st.empty()
        if message.id == view.last_question:
            place.button(
                "Edit", icon=":material/edit:", type="tertiary", key=f"edit-{message.id}",
                help="Change this question and ask again", on_click=actions.begin_edit, args=(message.id,),
            )  # fmt: skip
        st.html(f'<div class="lp-ask">{escape(message.content)}</div>', width="content")


def _edit(message: StoredMessage) -> None:
    with st.container(key="editing", gap="xsmall"):
        st.text_area("Question", message.content, key="edit_text", label_visibility="collapsed", height="content")
        with st.container(horizontal=True, horizontal_alignment="right", gap="xsmall"):
            st.button("Cancel", type="tertiary", key="edit_cancel", on_click=actions.begin_edit, args=("",))
            st.button("Ask again", type="primary", key="edit_send", on_click=actions.finish_edit, args=(message.id,))


def _answer(view: ChatView, message: StoredMessage) -> None:
    last = message.id == view.last_answer
    with st.container(key=f"answer-{message.id}", gap="small"):
        thoughts = st.empty()  # the same places as the live answer has, so that the page does not redraw them
        if message.thinking:
            thoughts.html(thinking_html(message.thinking))
        blocks = finished(message.content)
        with st.container(gap="small"):
            for block in blocks if message.id == view.last_finished else merged(blocks):
                draw_block(block)
        if message.state is MessageState.ERROR:
            told = notices.stored(message.answer.error_code, message.error, began=bool(message.content))
            notice = chat_state().notices.get(message.id) or told
            notices.show(notice, key=message.id, on_retry=actions.regenerate if last else None)
        _foot(view, message, last)


def _foot(view: ChatView, message: StoredMessage, last: bool) -> None:
    with st.container(key=f"foot-{message.id}", horizontal=True, gap="xsmall", vertical_alignment="top", wrap=False):
        answer_footer.show(message, view.label(message.model))
        place = st.empty()
        if last and not view.live and message.state is not MessageState.ERROR:
            label, told = ("Ask again", AGAIN) if message.cached else ("Regenerate", ANEW)
            place.button(
                label, icon=":material/refresh:", type="tertiary", key=f"again-{message.id}", help=told,
                on_click=actions.regenerate,
            )  # fmt: skip
