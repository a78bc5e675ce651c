"""What the votes prove so far, by family and task: verdicts of pairs, ranks with intervals, export."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape

import streamlit as st

from app.comparison.blind_votes import Rank, Vote, as_csv, by_family
from app.ui import compare_votes_actions as actions
from app.ui import compare_votes_words as words
from app.ui import view_models as vm
from app.ui.compare_side_words import Choice, label_of
from app.ui.compare_votes_words import Label, Result


def show(votes: Sequence[Vote], known: dict[str, Choice]) -> None:
    groups = by_family(votes)
    for (family, task), cast in reversed(list(groups.items())):
        result = words.judged(family, task, cast)
        _result(result, label_of(result.names, known))
    if votes:
        with st.container(key="votes-export", horizontal=True, gap="xsmall"):
            told = json.dumps([asdict(vote) for vote in votes], ensure_ascii=False, indent=1)
            st.download_button("All votes as CSV", as_csv(votes), "votes.csv", "text/csv", key="votes-csv",
                               type="tertiary", on_click="ignore")  # fmt: skip
            st.download_button("as JSON", told, "votes.json", "application/json", key="votes-json", type="tertiary",
                               on_click="ignore")  # fmt: skip


def _result(result: Result, label: Label) -> None:
    with st.container(key=f"votes-of-{result.family}-{result.task}", gap="xsmall"):
        with st.container(key=f"votes-head-{result.family}-{result.task}", horizontal=True, gap="small",
                          vertical_alignment="center"):  # fmt: skip
            st.html(
                f'<div class="lp-pane-head"><h3>{escape(result.family)}</h3>'
                f"<small>{escape(result.task)} · {escape(words.heading(result))}</small></div>"
            )
            _remove(result)
        st.html(_verdicts(result, label) + (_ranks(result, label) if result.ranks else ""))


def _remove(result: Result) -> None:
    with st.popover(
        "Delete", type="tertiary", key=f"votes-sure-{result.family}-{result.task}", on_change="rerun"
    ) as sure:
        if sure.open:
            st.html('<p class="lp-quiet">They cannot be brought back.</p>')
            st.button(
                f"Delete {vm.count(len(result.votes), 'vote')}", key=f"votes-drop-{result.family}-{result.task}",
                on_click=actions.remove, args=(result.family, result.task),
            )  # fmt: skip


def _verdicts(result: Result, label: Label) -> str:
    rows = ""
    for verdict in result.verdicts:
        known, stands = words.verdict_words(verdict, label)
        kind = "lp-known" if verdict.winner else ""
        rows += f'<li class="{kind}"><b>{escape(known)}</b> <span>{escape(stands)}</span></li>'
    told = escape(words.EVIDENCE, quote=True)
    return f'<ul class="lp-verdicts">{rows}</ul><p class="lp-quiet" title="{told}">{escape(words.needed(result))}</p>'


def _ranks(result: Result, label: Label) -> str:
    low, high = words.scale(result.ranks)
    rows = "".join(_rank(rank, label(rank.name), low, high) for rank in result.ranks)
    told, note = escape(words.ELO, quote=True), words.separable(result)
    return f'<table class="lp-ranks" title="{told}"><caption>{escape(note)}</caption>{rows}</table>'


def _rank(rank: Rank, name: str, low: float, high: float) -> str:
    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    left, width = at(rank.low), max(0.5, at(rank.high) - at(rank.low))
    return (
        f'<tr><th scope="row">{escape(name)}</th><td class="lp-track"><i style="left:{left}%;width:{width:.2f}%"></i>'
        f'<b style="left:{at(rank.elo)}%"></b></td><td class="lp-num">{escape(words.rank_words(rank))}</td></tr>'
    )
