"""Work that outlives the page, at the bottom of every screen: what runs, how far it is, what did not come to its end.

Redraws itself alone. Ended work says so once, in passing; what failed, or can be gone on with, stays until dismissed.
"""

from __future__ import annotations

from html import escape

import streamlit as st

from app.services.jobs import JobState, JobView
from app.ui import access, model_actions, notices
from app.ui import model_words as words
from app.ui import view_models as vm
from app.ui.fragments import fragment
from app.ui.state import dismissed_jobs, models_state, running_jobs

LOOK_SECONDS = 2.0
BUSY_SECONDS = 1.0
TOLD_ENDS = ("pull", "make", "batch")  # a variant of the starter family shows itself in the list


def show(*, polls: bool = True) -> None:
    """Call it once per screen, before anything else that stands at the bottom. Who may not end work sees none. Without
    `polls` it looks by itself only while something runs."""
    if not access.administers():
        return
    busy = any(job.active for job in access.services().jobs.list())
    with st.bottom:
        fragment(run_every=BUSY_SECONDS if busy else LOOK_SECONDS if polls else None)(_tray)()


def _tray() -> None:
    jobs = access.services().jobs.list()
    _tell_ends(jobs)
    with st.container(key="tray", gap=None):
        notices.show_at("tray", models_state().notices)
        for job in words.tray_jobs(jobs, dismissed_jobs()):
            _row(job)


def _tell_ends(jobs: tuple[JobView, ...]) -> None:
    """A few words in passing for what this page saw running and is done now."""
    running = running_jobs()
    for job in jobs:
        if job.active:
            running.add(job.id)
        elif job.id in running:
            running.discard(job.id)
            if job.state is JobState.DONE and job.kind in TOLD_ENDS:
                what = job.title.partition(" ")[2]  # the title without its verb: Getting …, Making …
                st.toast(f"{vm.plain(what)} is ready", duration="long")


def _row(job: JobView) -> None:
    action = words.job_action(job)
    with st.container(key=f"job-{job.id}", horizontal=True, gap="xsmall", vertical_alignment="center", wrap=False):
        st.html(_html(job))
        st.button(
            action, type="tertiary", key=f"job-act-{job.id}", help=f"{action}: {job.title}",
            on_click=model_actions.job, args=("cancel" if job.active else "retry", job.id),
        )  # fmt: skip
        if not job.active:
            st.button(
                "Dismiss", type="tertiary", key=f"job-drop-{job.id}", on_click=dismissed_jobs().add, args=(job.id,)
            )


def _html(job: JobView) -> str:
    failed = job.state is JobState.FAILED
    kind = " lp-failed" if failed else " lp-running" if job.active else ""
    share = vm.percent(job.fraction) if job.active and job.fraction is not None else ""
    width = 100 * (job.fraction or 0)
    bar = "" if failed else f'<i class="lp-progress"><i style="width:{width:.1f}%"></i></i>'
    return (
        f'<div class="lp-job{kind}"><strong>{escape(job.title)}</strong>'
        f'<span class="lp-told">{escape(words.job_told(job))}</span><span class="lp-share">{share}</span>{bar}</div>'
    )
