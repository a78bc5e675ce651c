"""A load run on its way: how far it is, the figures so far, and a way to end it. It redraws itself once a second."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.comparison.load_lab.runs import RUNNING, LoadRun
from app.services.jobs import JobView
from app.ui import access, load_actions, notices
from app.ui import load_words as words
from app.ui import view_models as vm
from app.ui.components import load_lab_result
from app.ui.fragments import fragment
from app.ui.state import load_state

LOOK_SECONDS = 1.0


def show(run: LoadRun) -> None:
    fragment(run_every=LOOK_SECONDS)(_course)(run.id)


def _course(run_id: str) -> None:
    lab = access.services().load_lab
    run = lab.get(run_id)
    if run.state != RUNNING:
        st.rerun()  # the whole page, with the result
    with st.container(key="lab-course", gap="small"):
        st.html(load_lab_result.head(run) + _progress(run, lab.job(run_id)) + load_lab_result.tiles(run))
        st.button("End", key="lab-cancel", on_click=load_actions.cancel, args=(run.id,),
                  help="Ask nothing more. What was measured so far is kept.")  # fmt: skip
        notices.show_at("run", load_state().notices)


def _progress(run: LoadRun, job: JobView | None) -> str:
    share = (job.fraction if job is not None else None) or 0.0
    left = "" if job is None or job.eta is None else f"{vm.about(job.eta)} left"
    return (
        f'<div class="lp-run" role="status"><strong>{escape(words.progress_told(run, job))}</strong>'
        f'<span class="lp-num">{left}</span><i class="lp-progress"><i style="width:{100 * share:.1f}%"></i></i></div>'
    )
