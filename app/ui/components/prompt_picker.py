"""The system prompt of a conversation: one from the library, filled in, or one's own words."""

from __future__ import annotations

import streamlit as st

from app.core.errors import PromptVariablesMissing
from app.services.prompt_library import Prompt
from app.ui import access, actions
from app.ui.chat_view import ChatView


def show(view: ChatView) -> None:
    system = actions.system_of(view)
    with st.popover("Prompt", key="prompt", on_change="rerun", type="tertiary") as panel:
        if not panel.open:
            return
        chat = view.conversation.id if view.conversation else "new"
        library = access.services().prompts
        prompts = {prompt.title: prompt for prompt in library.list()}
        text_key = f"system-{chat}"
        st.session_state.setdefault(text_key, system)
        with st.container(key="prompt-panel", gap="small"):
            chosen = st.pills(
                "From the library", list(prompts), key=f"library-{chat}", label_visibility="collapsed",
                on_change=_take, args=(f"library-{chat}", text_key, chat),
            )  # fmt: skip
            if chosen and prompts[chosen].variables:
                _blanks(prompts[chosen], text_key, chat)
            st.text_area(
                "System prompt", key=text_key, height=190, placeholder="How the model should answer. Empty: nothing.",
                on_change=_changed, args=(text_key,),
            )  # fmt: skip
            for problem in library.problems:
                st.caption(f"Left out: {problem}")


def _blanks(prompt: Prompt, text_key: str, chat: str) -> None:
    with st.container(horizontal=True, gap="small"):
        for variable in prompt.variables:
            key = f"blank-{chat}-{prompt.name}-{variable.name}"
            st.text_input(
                variable.label, key=key, placeholder=variable.default or "needed",
                on_change=_fill, args=(prompt, text_key, chat),
            )  # fmt: skip


def _take(library_key: str, text_key: str, chat: str) -> None:
    title = st.session_state[library_key]
    prompt = next((p for p in access.services().prompts.list() if p.title == title), None)
    if prompt is None:
        st.session_state[text_key] = ""
        actions.set_system("")
    else:
        _fill(prompt, text_key, chat)


def _fill(prompt: Prompt, text_key: str, chat: str) -> None:
    values = {
        variable.name: str(st.session_state.get(f"blank-{chat}-{prompt.name}-{variable.name}") or "")
        for variable in prompt.variables
    }
    try:
        text = prompt.render(values)
    except PromptVariablesMissing:
        text = prompt.text  # shown with its blanks until they are filled in
    st.session_state[text_key] = text
    actions.set_system(text)


def _changed(text_key: str) -> None:
    actions.set_system(str(st.session_state[text_key]))
