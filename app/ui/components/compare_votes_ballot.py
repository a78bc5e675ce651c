"""One ballot: the question, two answers beside each other, and three buttons."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.comparison.ballots import Ballot, PollView
from app.ui import compare_votes_actions as actions
from app.ui import compare_votes_words as words
from app.ui import notices
from app.ui.components.transcript import draw_block
from app.ui.markdown_blocks import finished, merged

UNTOLD = "Whose answers these are is told after the vote."
CHOICES = (("left", "A is better", "A"), ("tie", "Tie", "T"), ("right", "B is better", "B"))


def show(view: PollView) -> None:
    with st.container(key="votes-tools", horizontal=True, gap="xsmall", vertical_alignment="center"):
        told = words.reveal_words(view.reveal) if view.reveal else UNTOLD
        st.html(f'<p class="lp-quiet" role="status">{escape(told)}</p>')
        st.button("End", key="votes-end", on_click=actions.end, help="End this poll; the votes stay")
    if view.error is not None:
        notices.show(notices.notice_for(view.error), key="votes-poll")
        st.button("Go on", key="votes-retry", on_click=actions.retry)
    elif view.ballot is None:
        kind = "lp-quiet" if view.done else "lp-wait"
        st.html(f'<p class="{kind}" role="status">{escape(words.progress(view))}</p>')
    else:
        _ballot(view.ballot)


def _ballot(ballot: Ballot) -> None:
    st.html(f'<div class="lp-side-ask"><div class="lp-ask">{escape(ballot.question)}</div></div>')
    columns = st.columns(2, gap="medium")
    for letter, text, column in zip("AB", (ballot.left, ballot.right), columns, strict=True):
        with column, st.container(key=f"side-pane-vote-{letter}", gap="small"):
            st.html(f'<div class="lp-pane-head"><h3>{letter}</h3></div>')
            with st.container(key=f"answer-vote-{letter}", gap="small"):
                for block in merged(finished(text)):
                    draw_block(block)
                if not text.strip():
                    st.html('<p class="lp-quiet">An empty answer.</p>')
    with st.container(key="votes-buttons", horizontal=True, gap="small", horizontal_alignment="center"):
        for choice, label, shortcut in CHOICES:
            st.button(label, key=f"vote-{choice}", shortcut=shortcut, on_click=actions.vote, args=(ballot.id, choice))
