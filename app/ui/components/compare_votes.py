"""Blind votes: which of two answers is better, without a name on either; and what the votes prove so far."""

from __future__ import annotations

import streamlit as st

from app.comparison.ballots import PollView
from app.comparison.rounds import FEWEST_PANES, MOST_PANES
from app.ui import access, bridge, notices
from app.ui import compare_side_words as side_words
from app.ui import compare_votes_actions as actions
from app.ui import compare_votes_words as words
from app.ui.compare_side_words import Choice
from app.ui.components import compare_votes_ballot, compare_votes_results, empty_chat
from app.ui.state import votes_state

TOLD = (
    "Two answers to one question, without a name on either, shown when both are whole. A verdict is given as soon as "
    "your votes tell the variants apart, and not before; that you cannot tell them apart is an answer, too."
)


def show() -> None:
    services = access.services()
    with st.skeleton(height=240):
        catalog = bridge.call(services.catalog.snapshot(stale_ok=True))
        votes = bridge.call(services.ballots.votes(access.principal()))
    known = side_words.choices(catalog)
    poll = services.ballots.view(access.principal())
    notices.show_at("votes", votes_state().notices)
    if poll is not None:
        compare_votes_ballot.show(poll)
    elif known:
        _setup(known)
    else:
        empty_chat.no_models(catalog)
    compare_votes_results.show(votes, known)
    if poll is not None and poll.ballot is None and not poll.done and poll.error is None:
        _wait(poll)


def _setup(known: dict[str, Choice]) -> None:
    state = votes_state()
    if state.models is None:
        state.models = side_words.first_choice(known)[:2]
    state.models = [name for name in state.models if name in known]
    tasks = [*access.services().questions(), words.OWN_TASK]
    state.task = tasks[0] if state.task is None else state.task
    with st.container(key="votes-setup", gap="small"):
        st.html(f'<p class="lp-quiet">{TOLD}</p>')
        st.session_state.setdefault(actions.MODELS, state.models)
        st.multiselect(
            "Variants", list(known), key=actions.MODELS, format_func=lambda name: known[name].label,
            max_selections=MOST_PANES, placeholder="Choose two to six variants", on_change=actions.models_changed,
        )  # fmt: skip
        st.session_state.setdefault(actions.TASK, state.task or words.OWN_TASK)
        st.pills("Questions about", tasks, key=actions.TASK, required=True, on_change=actions.task_changed)
        if not state.task:
            st.session_state.setdefault(actions.OWN, state.own)
            st.text_area(
                "Your questions", key=actions.OWN, height=140, placeholder="One question a line",
                on_change=actions.own_changed,
            )  # fmt: skip
        st.button(
            "Begin to vote", type="primary", key="votes-begin", disabled=len(state.models) < FEWEST_PANES,
            on_click=actions.begin, args=(known,),
        )  # fmt: skip


def _wait(poll: PollView) -> None:
    """Until a ballot is ready, or none will come. Leaving ends the looking, nothing else."""
    for batch in bridge.iterate(access.services().ballots.watch(access.principal())):
        now = batch[-1]
        if now.ballot or now.done or now.error or now.same != poll.same:
            break
    st.rerun()
