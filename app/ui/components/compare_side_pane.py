"""One pane of a round: whose it is, the answer or how it differs, and under it what it cost."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.comparison.rounds import Pane, PaneAnswer
from app.comparison.word_diff import Difference, Piece, compare
from app.core.conversations import MessageState
from app.ui import compare_side_words as words
from app.ui import notices
from app.ui.compare_side_words import Choice
from app.ui.components.transcript import draw_block, thinking_html
from app.ui.markdown_blocks import finished, merged

_TAGS = {"same": "span", "only here": "ins", "only there": "del"}


def draw_head(pane: Pane, name: str, choice: Choice | None, *, others: int) -> None:
    """`others`: how many panes are compared with this one."""
    marks = [words.own_options(pane)] if pane.options else []
    marks += [words.compared(others)] if others else []
    told = f"<small>{escape(' · '.join(marks))}</small>" if marks else ""
    st.html(
        f'<div class="lp-pane-head"><i style="background:{words.colour(choice)}" aria-hidden="true"></i>'
        f'<h3 title="{escape(pane.model, quote=True)}">{escape(name)}</h3>{told}</div>'
    )


def draw_answer(
    pane: Pane, answer: PaneAnswer, other: PaneAnswer | None, reference: str, *, differences: bool, where: str, key: str
) -> None:
    """`other` is the reference pane's answer to the same question, None where there is none to compare with; `where`
    names the host where that matters."""
    difference = compare(answer.text, other.text) if other is not None and answer.text else None
    if answer.thinking:
        st.html(thinking_html(answer.thinking))
    with st.container(key=f"answer-side-{key}", gap="small"):
        if differences:
            st.html(difference_html(difference, answer.text))
        else:
            for block in merged(finished(answer.text)):
                draw_block(block)
    if answer.state is MessageState.ERROR:
        told = notices.stored(answer.answer.error_code, answer.answer.error, began=bool(answer.text))
        notices.show(told, key=f"side-{key}")
    st.html(foot_html(pane, answer, difference, reference, where))


def difference_html(difference: Difference | None, text: str) -> str:
    """The text with what is only here and only there; the first word that differs stands out."""
    if difference is None:
        return f'<div class="lp-diff">{escape(text)}</div>'
    first = next((at for at, piece in enumerate(difference.pieces) if piece.kind != "same"), None)
    body = "".join(_piece(piece, first=at == first) for at, piece in enumerate(difference.pieces))
    return f'<div class="lp-diff">{body}</div>'


def _piece(piece: Piece, *, first: bool) -> str:
    tag, text = _TAGS[piece.kind], piece.text
    if not first:
        return f"<{tag}>{escape(text)}</{tag}>"
    word = text.split(maxsplit=1)[0]
    before, _, after = text.partition(word)
    return f'<{tag}>{escape(before)}<b class="lp-first">{escape(word)}</b>{escape(after)}</{tag}>'


def foot_html(pane: Pane, answer: PaneAnswer, difference: Difference | None, reference: str, where: str) -> str:
    lines = [
        words.differs(difference, reference) if difference else "", words.ended(answer), words.cached(answer), where,
        words.figures_note(pane, answer) if answer.complete else "",
    ]  # fmt: skip
    told = "".join(f'<p class="lp-quiet">{escape(line)}</p>' for line in lines if line)
    if not answer.complete:
        return f'<div class="lp-pane-foot">{told}</div>'
    figures = "".join(
        f'<div title="{escape(fact.why, quote=True)}"><dt>{escape(fact.name)}</dt><dd>{escape(fact.value)}</dd></div>'
        for fact in words.facts(pane, answer)
    )
    dim = " lp-unfair" if words.unfair(pane, answer) else ""
    return f'<div class="lp-pane-foot">{told}<dl class="lp-pane-facts{dim}">{figures}</dl></div>'
