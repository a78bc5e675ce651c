"""How it stands, on one look: the line of truth, four figures, and what needs somebody."""

from __future__ import annotations

import time
from html import escape

import streamlit as st

from app.core.errors import LoupeError
from app.models.catalog import CatalogView
from app.services.queueing.views import QueueSnapshot
from app.services.telemetry import RECENT
from app.ui import access, bridge
from app.ui import home_words as words
from app.ui.components.host_strip import LOOK_SECONDS
from app.ui.fragments import fragment


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


@fragment(run_every=LOOK_SECONDS)
def show() -> None:
    """Draws itself anew every two seconds, from what is in memory anyway."""
    services = access.services()
    (view, queue), hosts, state = look(), services.pool.statuses(), services.hardware.state
    needs = list(words.needs(view, hosts, queue, services.jobs.list(), state))
    with st.container(key="home-now", gap="medium"):
        st.html(f'<h1 class="lp-truth">{escape(words.truth(view, hosts, queue, needs))}</h1>')
        st.html(_figures(list(words.figures(queue, services.telemetry.log.recent(RECENT), state, time.time()))))
        if needs:
            with st.container(key="home-needs", gap=None):
                for number, need in enumerate(needs):
                    _need(number, need)


def _figures(figures: list[words.Figure]) -> str:
    cells = "".join(
        f'<div><dt title="{escape(each.help, quote=True)}">{escape(each.name)}</dt><dd>{escape(each.value)}</dd>'
        f"<small>{escape(each.note)}</small></div>"
        for each in figures
    )
    return f'<dl class="lp-figures">{cells}</dl>'


def _need(number: int, need: words.Need) -> None:
    with st.container(key=f"need-{number}", horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.html(f'<div class="lp-line"><b>{escape(need.what)}</b><small>{escape(need.to_do)}</small></div>')
        if need.screen:
            st.page_link(f"screens/{need.screen}.py", label=need.label)
