"""What the next round is to ask: the variants, the pane that the others are compared with, prompt, parameters."""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st

from app.comparison.rounds import DEFAULTS, FEWEST_PANES, MOST_PANES
from app.ui import access, bridge, notices
from app.ui import compare_side_actions as actions
from app.ui import compare_side_words as words
from app.ui import view_models as vm
from app.ui.compare_side_words import Choice
from app.ui.components.glossary import TERMS
from app.ui.state import side_state

TOLD = (
    "One question, or a whole conversation, to two to six variants: the answers stand beside each other, with what "
    "each one cost and where it begins to differ."
)
ALONE = "One variant is here. A second one, made or pulled under Models, gives something to compare it with."
TOGETHER = "Panes that answer at once share the machine, and their speeds compare with nothing."
FIELDS = (  # name, label, lowest, highest, step, whole
    ("temperature", "Temperature", 0.0, 2.0, 0.1, False), ("seed", "Seed", 0, 2**31 - 1, 1, True),
    ("num_predict", "Longest answer", 1, 1_048_576, 64, True), ("num_ctx", "Context", 256, 1_048_576, 1024, True),
)  # fmt: skip
OWN_FIELDS = ("temperature", "seed")


def show(known: dict[str, Choice]) -> None:
    state = side_state()
    if state.models is None:
        state.models = words.first_choice(known)
    state.models = [name for name in state.models if name in known]
    with st.container(key="side-setup", gap="small"):
        st.html(f'<p class="lp-quiet">{TOLD if len(known) > 1 else ALONE}</p>')
        st.session_state.setdefault(actions.MODELS, state.models)
        st.multiselect(
            "Variants", list(known), key=actions.MODELS, format_func=lambda name: known[name].label,
            max_selections=MOST_PANES, placeholder="Choose two to six variants", on_change=actions.models_changed,
        )  # fmt: skip
        _chat_line()
        notices.show_at("chat", state.notices)
        notices.show_at("setup", state.notices)
        _input(known)
        with st.container(key="side-chips", horizontal=True, gap="xsmall", vertical_alignment="center"):
            _reference(known)
            _prompt()
            _parameters(known)
            _questions()
            _chats()


def _input(known: dict[str, Choice]) -> None:
    state = side_state()
    enough = len(state.models or ()) >= FEWEST_PANES
    if state.questions:
        number = len(state.questions)
        st.button(
            "Ask its last question again" if state.context or number == 1 else f"Ask its {number} questions again",
            type="primary", key="side-ask-chat", disabled=not enough, on_click=actions.ask_chat, args=(known,),
        )  # fmt: skip
        return
    told = f"Ask {vm.count(len(state.models or ()), 'variant')} the same" if enough else "Choose two variants first"
    st.chat_input(told, key=actions.ASK, disabled=not enough, on_submit=actions.ask_typed, args=(known,))


def _chat_line() -> None:
    state = side_state()
    if not state.source:
        return
    turns = len(state.context)
    before = f", with {vm.count(turns, 'message')} before it" if turns else ""
    what = "its last question" if turns or len(state.questions) == 1 else f"its {len(state.questions)} questions"
    with st.container(key="side-source", horizontal=True, gap="xsmall", vertical_alignment="center", wrap=False):
        st.html(f'<div class="lp-undo" role="status">From <em>{escape(state.source)}</em>: {what}{before}</div>')
        st.button("Take it out", type="tertiary", key="side-drop-chat", on_click=actions.drop_chat)


def _reference(known: dict[str, Choice]) -> None:
    """The teacher may be a bigger model of another family."""
    state = side_state()
    models = state.models or []
    if len(models) < FEWEST_PANES:
        return
    chosen = state.reference if state.reference in models else models[actions.best(models, known)]
    with st.popover(
        f":gray[Compared with] {vm.plain(known[chosen].variant.label)}", key="side-with", type="tertiary",
        on_change="rerun",
    ) as panel:  # fmt: skip
        if panel.open:
            st.session_state[actions.REFERENCE] = chosen
            st.radio(
                "The pane that the others are compared with", models, key=actions.REFERENCE,
                format_func=lambda name: known[name].label, on_change=actions.reference_changed,
            )  # fmt: skip


def _prompt() -> None:
    state, library = side_state(), access.services().prompts
    with st.popover("Prompt", key="side-prompt", type="tertiary", on_change="rerun") as panel:
        if not panel.open:
            return
        with st.container(key="side-prompt-panel", gap="small"):
            st.pills(
                "From the library", [prompt.title for prompt in library.list()], key="side-library",
                label_visibility="collapsed", on_change=actions.take_prompt, args=("side-library",),
            )  # fmt: skip
            st.session_state.setdefault(actions.SYSTEM, state.system)
            st.text_area(
                "System prompt of all panes", key=actions.SYSTEM, height=190, on_change=actions.system_changed,
                placeholder="How the models should answer. Empty: nothing.",
            )  # fmt: skip


def _parameters(known: dict[str, Choice]) -> None:
    state = side_state()
    with st.popover("Parameters", key="side-parameters", type="tertiary", on_change="rerun") as panel:
        if not panel.open:
            return
        with st.container(key="side-parameter-panel", gap="small"):
            st.html('<p class="lp-quiet">Of all panes. An empty field is each model\'s own value.</p>')
            with st.grid(2, gap="small", min_column_width=150):
                for field in FIELDS:
                    _number(field, state.options.get(field[0], DEFAULTS.get(field[0])))
            st.toggle(
                "One pane after the other", state.apart, key=actions.APART, help=TOGETHER,
                on_change=actions.apart_changed,
            )  # fmt: skip
            for name in state.models or ():
                st.html(f'<h3 class="lp-family">{escape(known[name].label)}</h3>')
                with st.grid(2, gap="small", min_column_width=150):
                    for field in FIELDS:
                        if field[0] in OWN_FIELDS:
                            _number(field, state.own.get(name, {}).get(field[0]), name)


def _number(field: tuple[str, str, float, float, float, bool], value: Any, model: str = "") -> None:
    name, label, low, high, step, whole = field
    kind = int if whole else float
    key = f"side-option-{model}-{name}"
    number_input: Any = st.number_input  # its overloads cannot be told apart here
    number_input(
        label, kind(low), kind(high), None if value is None else kind(value), kind(step), key=key, help=TERMS[name],
        placeholder="as all panes" if model else "the model's own", format=None if whole else "%.2f",
        on_change=actions.option_changed, args=(name, key, model),
    )  # fmt: skip


def _questions() -> None:
    """The shipped ones, by what they are about: one goes into the input, to be sent or changed there."""
    with st.popover("Questions", key="side-questions", type="tertiary", on_change="rerun") as panel:
        if not panel.open:
            return
        questions = access.services().questions()
        with st.container(key="side-question-panel", gap="small"):
            about = st.pills(
                "About", list(questions), default=next(iter(questions), None), key="side-about", required=True,
                label_visibility="collapsed",
            )  # fmt: skip
            for number, question in enumerate(questions.get(about or "", ())):
                st.button(
                    vm.plain(question), type="tertiary", key=f"side-shipped-{about}-{number}", width="stretch",
                    on_click=actions.take_question, args=(question,),
                )  # fmt: skip


def _chats() -> None:
    with st.popover("From a chat", key="side-chat", type="tertiary", on_change="rerun") as panel:
        if not panel.open:
            return
        rows = bridge.call(access.services().history.conversations(access.principal(), 50))
        with st.container(key="side-chat-panel", gap="small"):
            if not rows:
                st.html('<p class="lp-quiet">There is no chat yet.</p>')
                return
            titles = {row.id: row.title for row in rows}
            st.selectbox("Chat", list(titles), key="side-chat-id", format_func=lambda chat_id: titles[chat_id])
            with st.container(horizontal=True, gap="xsmall"):
                for label, anew in (("Its last question", False), ("All its questions anew", True)):
                    st.button(
                        label, key=f"side-take-{anew}", on_click=actions.take_chat, args=("side-chat-id",),
                        kwargs={"anew": anew},
                    )  # fmt: skip
