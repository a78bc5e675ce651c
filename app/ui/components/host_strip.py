"""What needs saying above a screen: hosts that do not answer, work that goes on. Looks every two seconds.

Redraws itself alone; the whole page is run again only when something changed that the page shows.
"""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st

from app.core.errors import LoupeError
from app.core.hosts import HostState, HostStatus
from app.models.catalog import ANSWERING
from app.services.jobs import JobState, JobView
from app.ui import access, actions, bridge
from app.ui import view_models as vm
from app.ui.state import dismissed_jobs

LOOK_SECONDS = 2.0


def show() -> None:
    """Call it where the strip belongs, once per screen."""
    _strip(signature())


def signature() -> tuple[Any, ...]:
    """Changes exactly when the page has something new to show. Progress of a job is not: the strip draws that."""
    services = access.services()
    hosts = tuple((host.address.name, str(host.state)) for host in services.pool.statuses())
    jobs = tuple((job.id, str(job.state)) for job in services.jobs.list())
    try:
        families = bridge.call(services.catalog.snapshot(stale_ok=True)).families
    except LoupeError:
        families = ()  # said by the screen itself
    variants = tuple((v.name, v.state, v.loaded is not None) for family in families for v in family.variants)
    return hosts, jobs, variants


@st.fragment(run_every=LOOK_SECONDS)
def _strip(drawn: tuple[Any, ...]) -> None:
    if signature() != drawn:
        st.rerun()
    with st.container(key="strip", gap="xsmall"):
        told = host_words(access.services().pool.statuses())
        if told:
            title, what_to_do = told
            st.html(
                f'<div class="lp-notice lp-host" role="status"><strong>{escape(title)}</strong>'
                f"<span>{what_to_do}</span></div>"
            )
        for job in access.services().jobs.list():
            if job.active or (job.state is JobState.FAILED and job.id not in dismissed_jobs()):
                _job(job)


def host_words(hosts: tuple[HostStatus, ...]) -> tuple[str, str] | None:
    """(what is wrong, what to do as HTML) where a host does not answer; None where all is well."""
    down = [host for host in hosts if host.state in (HostState.OFFLINE, HostState.MISCONFIGURED)]
    if any(host.state in ANSWERING for host in hosts):
        if not down:
            return None
        names = ", ".join(host.address.name for host in down)
        return f"{names} does not answer", "The other hosts go on."
    if not down:
        warming = any(host.address.embedded and host.state is HostState.WARMING for host in hosts)
        return ("The built-in runtime is starting", "A few seconds.") if warming else None
    host = down[0]
    if host.address.embedded:
        return "The built-in runtime stopped", "It is being started again; this page goes on by itself."
    where = host.address.url.removeprefix("http://")
    if host.state is HostState.MISCONFIGURED:
        return f"What answers at {where} is not Ollama", "Check <code>OLLAMA_HOST</code>, then start Loupe again."
    return (
        f"Ollama at {where} does not answer",
        "Start it with <code>ollama serve</code>; this page goes on by itself.",
    )


def _job(job: JobView) -> None:
    failed = job.state is JobState.FAILED
    with st.container(key=f"job-{job.id}", horizontal=True, gap="xsmall", vertical_alignment="center", wrap=False):
        st.html(_job_html(job, failed))
        st.button(
            "Try again" if failed else "Cancel", type="tertiary", key=f"job-act-{job.id}",
            on_click=actions.job, args=("retry" if failed else "cancel", job.id),
        )  # fmt: skip
        if failed:
            st.button(
                "Dismiss", type="tertiary", key=f"job-drop-{job.id}", on_click=dismissed_jobs().add, args=(job.id,)
            )


def _job_html(job: JobView, failed: bool) -> str:
    told = job.error if failed else job.detail
    share = "" if failed or job.fraction is None else vm.percent(job.fraction)
    bar = f'<i class="lp-progress"><i style="width:{100 * (job.fraction or 0):.1f}%"></i></i>' if not failed else ""
    return (
        f'<div class="lp-job{" lp-failed" if failed else ""}" role="status"><strong>{escape(job.title)}</strong>'
        f'<span class="lp-told">{escape(told)}</span><span>{share}</span>{bar}</div>'
    )
