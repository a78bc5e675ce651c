"""A scorecard on its way: what is measured now, what is left and how long, the rows as they come, pause and cancel.

Redraws itself alone, once a second; when the card has ended, the whole page is drawn with its result.
"""

from __future__ import annotations

from html import escape

import streamlit as st

from app.comparison.results import Scorecard
from app.services.jobs import JobState, JobView
from app.ui import access, card_actions, notices
from app.ui import card_run_words as run_words
from app.ui import card_words as words
from app.ui.components import compare_card_findings, compare_card_table
from app.ui.fragments import fragment
from app.ui.state import card_state

LOOK_SECONDS = 1.0


def show(card: Scorecard) -> None:
    fragment(run_every=LOOK_SECONDS)(_run)(card.id)


def _run(card_id: str) -> None:
    card = access.services().comparisons.get(card_id)
    if card.state not in words.LIVE:
        st.rerun()
    job = access.services().comparisons.job(card_id)
    with st.container(key="card-run", gap="small"):
        st.html(
            f'<header class="lp-model"><h2>{escape(card.family)}</h2><span>{escape(words.DEPTHS[card.depth])}, against '
            f"{escape(card.reference)}</span></header>{_progress(card, job)}"
        )
        with st.container(key="card-run-acts", horizontal=True, gap="xsmall"):
            if card.state == "paused":
                st.button("Resume", key="card-resume", on_click=card_actions.operate, args=("resume", card.id))
            else:
                st.button("Pause", key="card-pause", on_click=card_actions.operate, args=("pause", card.id))
            st.button("Cancel", type="tertiary", key="card-cancel", on_click=card_actions.operate,
                      args=("cancel", card.id), help="Stop measuring. What was measured so far is kept.")  # fmt: skip
        notices.show_at("run", card_state().notices)
        compare_card_findings.show(card)
        compare_card_table.show(card)


def _progress(card: Scorecard, job: JobView | None) -> str:
    told = run_words.progress_told(card, job)
    share = (job.fraction if job is not None else None) or 0.0
    still = " lp-still" if card.state != "running" or (job is not None and job.state is JobState.WAITING) else ""
    left = f'<span class="lp-num">{escape(run_words.time_left(job))}</span>' if job is not None else ""
    return (
        f'<div class="lp-run{still}" role="status"><strong>{escape(told)}</strong>{left}'
        f'<i class="lp-progress"><i style="width:{100 * share:.1f}%"></i></i>'
        f"<ol>{''.join(_step(step) for step in run_words.steps(card, job))}</ol></div>"
    )


def _step(step: run_words.Step) -> str:
    return f'<li data-state="{step.state}"><b>{escape(step.label)}</b> {escape(step.told)}</li>'
