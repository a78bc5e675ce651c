"""Where one writes: the input, and under it the variant chip, the prompt, the parameters, and Stop."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.ui import actions, notices
from app.ui.chat_view import ChatView
from app.ui.components import parameters, prompt_picker, variant_picker
from app.ui.state import chat_state


def show(view: ChatView) -> None:
    state = chat_state()
    with st.bottom, st.container(key="composer-box", gap="xsmall"):
        if "" in state.notices:
            notices.show(state.notices[""], key="composer")
        if state.queued:
            _queued(state.queued)
        st.chat_input(
            "Ask something" if view.usable else "A model is needed first", key=actions.COMPOSER,
            disabled=not view.usable, on_submit=actions.submit, args=(view.model,),
        )  # fmt: skip
        with st.container(key="chips", horizontal=True, gap="xsmall", vertical_alignment="center", wrap=False):
            variant_picker.show(view)
            prompt_picker.show(view)
            parameters.show(view)
            _marks(view)
            if view.live is not None:
                st.space("stretch")
                st.button(
                    "Stop", icon=":material/stop_circle:", key="stop", shortcut="Escape", on_click=actions.stop,
                    help="Stop writing; what is there stays",
                )  # fmt: skip


def _marks(view: ChatView) -> None:
    """A dot on the chips that hold something. By style: a popover whose label changes closes under one's hand."""
    marked = [
        key for key, on in (("prompt", actions.system_of(view).strip()), ("parameters", actions.options_of(view))) if on
    ]
    rules = ",".join(f".st-key-{key} > .stPopover button p::after" for key in marked) or ".lp-none"
    st.html(f'<style>{rules} {{ content: " •"; color: var(--lp-accent); }}</style>')


def _queued(text: str) -> None:
    with st.container(key="queued", horizontal=True, gap="xsmall", vertical_alignment="center", wrap=False):
        st.html(f'<div class="lp-undo" role="status">Goes out next: <em>{escape(text)}</em></div>')
        st.button("Take back", type="tertiary", key="drop_queued", on_click=actions.drop_queued)
