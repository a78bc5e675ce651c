"""How it stands, on one look: the line of truth, and below the figures what needs somebody.

Neither looks by itself: the figures between them are fed, and have the page run again when something changed.
"""

from __future__ import annotations

from html import escape

import streamlit as st

from app.core.errors import LoupeError
from app.models.catalog import CatalogView
from app.services.queueing.views import QueueSnapshot
from app.ui import access, bridge
from app.ui import home_words as words


def look() -> tuple[CatalogView, QueueSnapshot]:
    """What is here, as last seen (empty where no host tells), and who waits."""

    async def seen() -> tuple[CatalogView, QueueSnapshot]:
        services = access.services()
        try:
            catalog = await services.catalog.snapshot(stale_ok=True)
        except LoupeError:  # said by the strip
            catalog = CatalogView()
        return catalog, services.queue.snapshot()

    return bridge.call(seen())


def truth() -> None:
    catalog, queue = look()
    line = words.truth(catalog, access.services().pool.statuses(), queue, _needs(catalog, queue))
    st.html(f'<h1 class="lp-truth">{escape(line)}</h1>')


def needs() -> None:
    told = [need for need in _needs(*look()) if not need.above]
    if not told:
        return
    with st.container(key="home-needs", gap=None):
        for number, need in enumerate(told):
            with st.container(key=f"need-{number}", horizontal=True, gap="xsmall", vertical_alignment="center"):
                st.html(f'<div class="lp-line"><b>{escape(need.what)}</b><small>{escape(need.to_do)}</small></div>')
                if need.screen:
                    query = {"view": need.view} if need.view else None
                    st.page_link(f"screens/{need.screen}.py", label=need.label, query_params=query)


def _needs(catalog: CatalogView, queue: QueueSnapshot) -> list[words.Need]:
    services = access.services()
    alerts = services.alerts.view().open
    return list(words.needs(catalog, services.pool.statuses(), queue, services.jobs.list(), alerts))
