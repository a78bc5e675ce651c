"""What needs saying above a screen: hosts that do not answer. Looks every two seconds, unless something on the screen
tells of changes by itself.

Redraws itself alone; the whole page is run again only when something changed that the page shows.
"""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st

from app.core.errors import LoupeError
from app.core.hosts import ANSWERING, HostState, HostStatus
from app.ui import access, bridge
from app.ui.fragments import fragment

LOOK_SECONDS = 2.0


def show(*, polls: bool = True) -> None:
    """Call it where the strip belongs, once per screen."""
    fragment(run_every=LOOK_SECONDS if polls else None)(_strip)(signature())


def signature() -> tuple[Any, ...]:
    """Changes exactly when the page has something new to show. Progress of a job is not: the tray draws that."""
    services = access.services()
    hosts = tuple((host.address.name, str(host.state)) for host in services.pool.statuses())
    jobs = tuple((job.id, str(job.state)) for job in services.jobs.list())
    try:
        families = bridge.call(services.catalog.snapshot(stale_ok=True)).families
    except LoupeError:
        families = ()  # said by the screen itself
    variants = tuple((v.name, v.state, v.loaded is not None) for family in families for v in family.variants)
    return hosts, jobs, variants


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


def host_words(hosts: tuple[HostStatus, ...]) -> tuple[str, str] | None:
    """(what is wrong, what to do as HTML) where a host does not answer; None where all is well."""
    down = [host for host in hosts if host.state in (HostState.OFFLINE, HostState.MISCONFIGURED)]
    if any(host.state in ANSWERING for host in hosts):
        if not down:
            return None
        names = ", ".join(host.address.name for host in down)
        return f"{names} {'does' if len(down) == 1 else 'do'} not answer", "The other hosts go on."
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
