"""A round: each question, and under it the panes' answers beside each other, while they are written and after."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.comparison.live_round import PanePhase, RoundView
from app.comparison.rounds import Pane, PaneAnswer, Round
from app.core.conversations import MessageState
from app.ui import access, bridge, notices
from app.ui import compare_side_actions as actions
from app.ui import compare_side_words as words
from app.ui.compare_side_words import Choice
from app.ui.components.compare_side_pane import draw_answer, draw_head
from app.ui.components.live_answer import Pen
from app.ui.state import open_round, side_state

ANSWERS, DIFFERENCES = "Answers", "Differences"
FRAME_SECONDS = 0.1  # between two redraws of all panes together
IN_A_ROW = {2: 2, 3: 3, 4: 4, 5: 3, 6: 3}
FAIR = "Ask each variant again for its speed alone: one after the other, warmed up, with a prompt nobody has read yet"

Cell = tuple[int, int]
"""(question, pane)"""


def show(view: RoundView, known: dict[str, Choice]) -> None:
    mode = _head(view)
    notices.show_at("round", side_state().notices)
    if given := words.given(view.round):
        st.html(f'<p class="lp-quiet">{escape(given)}</p>')
    pens: dict[Cell, Pen] = {}
    for question, text in enumerate(view.round.questions):
        st.html(f'<div class="lp-side-ask"><div class="lp-ask">{escape(text)}</div></div>')
        pens |= _panes(view, known, question, differences=mode == DIFFERENCES)
    _follow(view)
    if view.running:
        _stay(view, pens)


def _head(view: RoundView) -> str:
    with st.container(key="side-tools", horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.button(
            "Another comparison", icon=":material/add:", type="tertiary", key="side-new", on_click=open_round,
            args=("",),
        )  # fmt: skip
        mode = st.segmented_control(
            "Shown", [ANSWERS, DIFFERENCES], default=ANSWERS, required=True, key="side-mode",
            label_visibility="collapsed",
        )  # fmt: skip
        st.space("stretch")
        if view.running:
            st.button(
                "Stop", icon=":material/stop_circle:", key="side-stop", shortcut="Escape", on_click=actions.stop,
                help="Stop all panes; what is there stays",
            )  # fmt: skip
        else:
            if not view.round.complete:
                st.button("Ask what is missing", type="primary", key="side-go-on", on_click=actions.go_on,
                          help="What was stopped, interrupted, or failed, and what comes after it")  # fmt: skip
            wanted = any(words.unfair(pane) for pane in view.round.panes) and view.round.complete
            st.button(
                "Measure speed fairly", type="primary" if wanted else "secondary", key="side-fair",
                on_click=actions.measure, help=FAIR,
            )  # fmt: skip
    return mode or ANSWERS


def _panes(view: RoundView, known: dict[str, Choice], question: int, *, differences: bool) -> dict[Cell, Pen]:
    """Draws one question's answers; the pens of those that are still to be written."""
    panes, pens = view.round.panes, {}
    wide = IN_A_ROW[len(panes)]
    for begin in range(0, len(panes), wide):
        columns = st.columns(wide, gap="medium")
        for index, column in zip(range(begin, min(begin + wide, len(panes))), columns, strict=False):
            with column, st.container(key=f"side-pane-{question}-{index}", gap="small"):
                pen = _pane(view, known, (question, index), differences=differences)
            if pen is not None:
                pens[question, index] = pen
    return pens


def _pane(view: RoundView, known: dict[str, Choice], cell: Cell, *, differences: bool) -> Pen | None:
    question, index = cell
    round_, pane = view.round, view.round.panes[index]
    name = words.short(pane, round_.panes)
    others = len(round_.panes) - 1 if index == round_.reference else 0
    draw_head(pane, name, known.get(pane.model), others=others)
    answer = pane.answers[question] if question < len(pane.answers) else None
    unfinished = answer is None or answer.state is MessageState.STREAMING
    if unfinished and view.running and not view.measuring:
        pen = Pen(name)
        _write(pen, answer or PaneAnswer(), view.phases[index], name, here=question == round_.missing(index))
        return pen
    if answer is None:
        st.html('<p class="lp-quiet">Not asked yet.</p>')
        return None
    _finished(round_, cell, answer, differences=differences)
    if view.measuring and question == 0:
        pen = Pen(name)
        pen.say(words.doing(view.phases[index], name))
        return pen
    return None


def _finished(round_: Round, cell: Cell, answer: PaneAnswer, *, differences: bool) -> None:
    question, index = cell
    pane, reference = round_.panes[index], round_.panes[round_.reference]
    other = reference.answers[question] if question < len(reference.answers) else None
    compared = other if index != round_.reference and other is not None and other.complete else None
    name = words.short(reference, round_.panes)
    draw_answer(
        pane if question == 0 else _unmeasured(pane), answer, compared, name, differences=differences,
        where=words.where(round_, question, answer), key=f"{question}-{index}",
    )  # fmt: skip
    if question == len(round_.questions) - 1 and answer.text:
        _keep(index, question)


def _unmeasured(pane: Pane) -> Pane:
    """The fair run measures the first question; the figures of the others are their own."""
    return Pane(pane.model, pane.label, pane.options, pane.answers)


def _keep(index: int, question: int) -> None:
    pressed = st.button(
        "Go on with this one", key=f"side-keep-{question}-{index}", type="tertiary", icon=":material/arrow_forward:",
        icon_position="right", help="Make a chat of this answer, and go on with this variant",
    )  # fmt: skip
    if pressed:
        chat_id = actions.keep(index)
        if chat_id:
            st.switch_page("screens/chat.py", query_params={"chat": chat_id})
        st.rerun()


def _follow(view: RoundView) -> None:
    if view.running or not view.round.complete:
        return
    with st.container(key="side-follow-box"):  # in its place, not at the bottom of the page
        st.chat_input("Ask all of them the next thing", key=actions.FOLLOW, on_submit=actions.follow)


def _stay(view: RoundView, pens: dict[Cell, Pen]) -> None:
    """Writes what comes until the round has ended, then draws the page anew. Leaving ends the looking, nothing else."""
    seen: dict[Cell, tuple[int, int]] = {
        (question, index): _length(view.round.panes[index].answers[question])
        for question, index in pens
        if question < len(view.round.panes[index].answers)
    }
    side = access.services().side_by_side
    for batch in bridge.iterate(side.attach(view.round.id, access.principal()), frame=FRAME_SECONDS):
        now = batch[-1]
        for cell, pen in pens.items():
            question, index = cell
            pane = now.round.panes[index]
            name = words.short(pane, now.round.panes)
            if now.measuring:
                pen.say(words.doing(now.phases[index], name))
                continue
            answer = pane.answers[question] if question < len(pane.answers) else PaneAnswer()
            if question == now.round.missing(index) or answer.text:
                _grow(pen, seen, cell, answer)
            _tell(pen, answer, now.phases[index], name, here=question == now.round.missing(index))
    st.rerun()


def _grow(pen: Pen, seen: dict[Cell, tuple[int, int]], cell: Cell, answer: PaneAnswer) -> None:
    text, thinking = seen.get(cell, (0, 0))
    if _length(answer) != (text, thinking):
        pen.write(answer.text[text:], answer.thinking[thinking:])
        seen[cell] = _length(answer)


def _length(answer: PaneAnswer) -> tuple[int, int]:
    return len(answer.text), len(answer.thinking)


def _write(pen: Pen, answer: PaneAnswer, phase: PanePhase, name: str, *, here: bool) -> None:
    if answer.text or answer.thinking:
        pen.write(answer.text, answer.thinking)
    _tell(pen, answer, phase, name, here=here)


def _tell(pen: Pen, answer: PaneAnswer, phase: PanePhase, name: str, *, here: bool) -> None:
    if answer.complete:
        pen.say("done")
    elif answer.state in (MessageState.ERROR, MessageState.STOPPED):
        pen.say(answer.answer.error or words.ended(answer))
    elif not here:
        pen.say("waits for the answer before it")
    else:
        pen.say("" if phase.name == "decode" and answer.text else words.doing(phase, name))
