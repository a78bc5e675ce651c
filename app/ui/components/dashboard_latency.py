"""Latency: how long answers took, by variant and host, and where the time to the first token went.

Made from the requests whose traces are kept in memory; drawn anew every few seconds. A visitor without the right to
administer sees their own.
"""

from __future__ import annotations

import time
from dataclasses import replace

import streamlit as st

from app.services.latency import counted, latencies
from app.services.request_log import RequestFilter
from app.ui import access, latency_words
from app.ui.components import dashboard_filters as filters
from app.ui.fragments import fragment

EVERY = 10.0  # seconds
ALL_KEPT = 1_000_000
NONE = (
    '<div class="lp-hello"><h1>No request was measured {when}</h1><p>Ask something in Chat, or send a request to '
    "<code>/api/chat</code>. What comes from the cache says nothing of a host's speed and is not counted.</p></div>"
)


def show() -> None:
    services = access.services()
    own = "" if access.administers() else access.principal()
    kept = services.telemetry.log.select(RequestFilter(principal=own, limit=ALL_KEPT))
    with st.container(key="dashboard-filters", horizontal=True, gap="small", vertical_alignment="center"):
        window, _ = filters.within()
        model = filters.one_of("Variant", "All variants", {record.model for record in kept}, key="variant")
        user = own or filters.one_of(
            "User", "All users", users := {record.principal for record in kept}, key="user",
            names={user: services.keys.named(user) for user in users},
        )  # fmt: skip
    _figures(window, model, user)


@fragment(run_every=EVERY)
def _figures(window: str, model: str, user: str) -> None:
    wanted = RequestFilter(model=model, principal=user, since=time.time() - filters.RANGES[window], limit=ALL_KEPT)
    hosts = {
        host.address.name: "built-in runtime" for host in access.services().pool.statuses() if host.address.embedded
    }
    log = access.services().telemetry.log
    kept, records = log.size, log.select(wanted)
    rows = tuple(replace(row, host=hosts.get(row.host, row.host)) for row in latencies(records))
    st.html(f'<p class="lp-quiet">{latency_words.summary(counted(records), window)} {latency_words.kept(kept)}</p>')
    if not rows:
        st.html(NONE.format(when=f"in the last {window}"))
        return
    st.html(latency_words.table(rows) + f'<p class="lp-quiet">{latency_words.NOTE}</p>')
    st.html(latency_words.splits(rows))
    st.html(latency_words.spread(rows))
