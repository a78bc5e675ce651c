"""The list of the last requests, with its filters. Rows are links; a line above them tells of newer ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from html import escape

import streamlit as st

from app.services.request_log import MOST, Seen
from app.services.request_trace import FinishedRequest
from app.ui import access, notices
from app.ui import request_actions as acts
from app.ui import request_words as words
from app.ui import view_models as vm
from app.ui.components import request_links
from app.ui.components.glossary import explained
from app.ui.state import requests_state

# Name, its term in the glossary, and rem (0: what is left).
_COLUMNS = (
    ("Began", "", 5.4), ("Variant", "", 16), ("What", "", 0), ("User", "", 4.6), ("Cache", "Cache", 4.6),
    ("Host", "", 5.8), ("Queue", "Queue", 4.7), ("TTFT", "TTFT", 4.7), ("Speed", "tok/s", 5.7), ("Tokens", "", 4.2),
    ("In all", "", 4.7), ("", "", 4.5), ("How it ended", "", 8.5),
)  # fmt: skip
_NUMBERS = ("Queue", "TTFT", "Speed", "Tokens", "In all")


def show() -> None:
    telemetry, seen_by = access.services().telemetry, acts.seen_by()
    seen, size = telemetry.log.seen(seen_by), telemetry.log.size
    newest = max((one.started_at + one.seconds for one in telemetry.log.recent(50)), default=0.0)
    with st.container(key="requests", gap="small"):
        notices.show_at("list", requests_state().notices)
        _filters(seen, everybody=not seen_by)
        found = telemetry.log.select(acts.wanted())
        with st.container(key="requests-told", horizontal=True, gap="small"):
            st.html(f'<p class="lp-quiet">{_told(len(found), size.requests)}</p>', width="content")
            request_links.listen(acts.newer_query(newest), telemetry.running_of(seen_by))
        if found:
            st.html(_table(found, several=not seen_by and len(seen.principals) > 1))
        _ways_on(len(found))


def _filters(seen: Seen, *, everybody: bool) -> None:
    with st.container(key="requests-tools", horizontal=True, gap="xsmall", vertical_alignment="bottom"):
        acts.seed(acts.TEXT)
        st.text_input(
            "Search", label_visibility="collapsed", key=acts.KEY + acts.TEXT, type="search",
            on_change=acts.changed, args=(acts.TEXT,),
            placeholder="A word, an id, an error" if access.services().telemetry.words else "An id or an error",
        )  # fmt: skip
        _choice("Variant", acts.VARIANT, _variants(seen.models), "All variants")
        if everybody and len(seen.principals) > 1:
            _choice("User", acts.USER, seen.principals, "All users", access.services().keys.named)
        statuses = [acts.FAILED, *seen.statuses] if set(seen.statuses) - {"ok", "cancelled"} else list(seen.statuses)
        _choice("How it ended", acts.STATUS, statuses, "Any outcome", lambda code: code.replace("_", " "))
        _choice("Cache", acts.CACHE, seen.caches, "Any cache decision")
        _choice("Order", acts.ORDER, ["slow"], acts.NEW, lambda _: acts.SLOW)


def _variants(models: tuple[str, ...]) -> list[str]:
    """Each family that has several, then each variant; a family stands for all of its variants."""
    families = [name.partition(":")[0] for name in models if ":" in name]
    several = sorted({family for family in families if families.count(family) > 1} - set(models))
    return [*several, *models]


def _choice(label: str, name: str, options: Sequence[str], every: str, said: Callable[[str], str] = str) -> None:
    wanted = acts.chosen(name)
    known = [acts.ANY, *options, *([wanted] if wanted and wanted not in options else [])]
    acts.seed(name, known)
    st.selectbox(
        label, known, label_visibility="collapsed", key=acts.KEY + name, on_change=acts.changed, args=(name,),
        format_func=lambda value: said(value) if value else every,
    )  # fmt: skip


def _told(found: int, kept: int) -> str:
    """How many are shown of how many, and how far back they go."""
    if not kept:
        return "No request has ended yet. Each one, of a page or of any client of Ollama or OpenAI, is told here."
    if not found:
        return f"None of the last {vm.grouped(kept)} requests fits."
    wanted = acts.wanted()
    shown = (
        f"the {vm.grouped(found)} {'slowest' if wanted.slow_first else 'newest'}"
        if found >= wanted.limit
        else vm.grouped(found)
    )
    fit = " that fit" if acts.filtered() else ""
    unsaid = (
        ""
        if access.services().telemetry.words
        else " Questions and answers are not kept; LOUPE_TRACE_WORDS=on keeps them."
    )
    return f"{vm.sentence(shown).rstrip('.')}{fit} of the last {vm.grouped(kept)} requests.{unsaid}"


def _ways_on(found: int) -> None:
    with st.container(key="requests-on", horizontal=True, gap="xsmall"):
        if found >= requests_state().shown and found < MOST:
            st.button("Show more", type="tertiary", key="requests-more", on_click=acts.more)
        if not found and acts.filtered():
            st.button("Take the filters away", key="requests-all", on_click=acts.without_filters)


def _table(found: tuple[FinishedRequest, ...], *, several: bool) -> str:
    keys, now = access.services().keys, time.time()
    slowest = max(record.seconds for record in found)
    rows = [words.row(record, keys.named(record.principal), now, slowest) for record in found]
    columns = [column for column in _COLUMNS if several or column[0] != "User"]
    head = "".join(
        f'<th role="columnheader" scope="col"{_kind(name)}>{explained(name, term)}</th>' for name, term, _ in columns
    )
    widths = "".join(f'<col style="width:{width}rem">' if width else "<col>" for _, _, width in columns)
    body = "".join(_row(row, several=several) for row in rows)
    return (
        f'<table class="lp-requests" role="table"><colgroup>{widths}</colgroup>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )


def _kind(name: str) -> str:
    return ' class="lp-num"' if name in _NUMBERS else ""


def _row(row: words.Row, *, several: bool) -> str:
    head, tail = row.model
    cells = (
        _cell("Variant", f"<div><span>{escape(head)}</span><b>{escape(tail)}</b></div>", "lp-which", head + tail),
        _cell("What", escape(row.what), "lp-what", row.what),
        _cell("User", escape(row.user)) if several else "",
        _cell("Cache", escape(row.cache), "", row.why),
        _cell("Host", escape(row.host or vm.UNKNOWN)),
        *(_cell(name, escape(value), "lp-num") for name, value in zip(
            _NUMBERS, (row.queue, row.ttft, row.speed, row.tokens, row.total), strict=True
        )),
        f'<td role="cell" class="lp-track" aria-hidden="true"><i style="width:{row.share:.1f}%"></i></td>',
        _cell("How it ended", f'<span data-tone="{row.tone}">{escape(row.status)}</span>', "lp-ended", row.error),
    )  # fmt: skip
    return (
        f'<tr role="row" {request_links.of(row.id)}><th role="rowheader" scope="row">'
        f"{request_links.link(row.id, row.when)}</th>{''.join(cells)}</tr>"
    )


def _cell(name: str, inside: str, kind: str = "", title: str = "") -> str:
    told = f' title="{escape(title, quote=True)}"' if title else ""
    marked = f' class="{kind}"' if kind else ""
    return f'<td role="cell" data-name="{escape(name, quote=True)}"{marked}{told}>{inside}</td>'
