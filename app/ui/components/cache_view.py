"""The response cache: what it holds, what it saved, its entries, and the ways to be rid of them."""

from __future__ import annotations

import time
from html import escape
from urllib.parse import quote

import streamlit as st

from app.core.errors import LoupeError
from app.services.cache_views import AgeBand, CacheEntry, CacheStats
from app.ui import access, bridge, notices, service_actions
from app.ui import service_words as words
from app.ui import view_models as vm
from app.ui.fragments import fragment
from app.ui.state import PAGE_OF_ENTRIES, service_state

SEARCH, MODEL = "cache-search", "cache-model"  # widget keys
MODELS_OF = 200  # the newest entries, whose models are offered where the hosts cannot say what there is


@fragment()
def show() -> None:
    cache = access.services().cache
    stats = bridge.call(cache.stats())
    off = words.cache_off(stats)
    if off is not None:
        notices.show(notices.Notice(*off, tone="warn"), key="cache-off")
    with st.container(key="cache-view", gap="medium"):
        st.html(_figures(stats) + _ages(stats.ages))
        notices.show_at("cache", service_state().notices)
        with notices.showing_errors("cache-entries"):
            if not off:
                _entries(stats)


def _figures(stats: CacheStats) -> str:
    cells = "".join(
        f"<div><dt>{escape(each.name)}</dt><dd>{escape(each.value)}</dd><small>{escape(each.note)}</small></div>"
        for each in words.cache_figures(stats, time.time())
    )
    return f'<dl class="lp-figures">{cells}</dl>'


def _ages(bands: tuple[AgeBand, ...]) -> str:
    if not any(band.entries for band in bands):
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td class="lp-num">{vm.grouped(band.entries)}</td>'
        f'<td class="lp-track">{_bar(share)}</td></tr>'
        for band, label, share in zip(bands, words.band_labels(bands), words.band_shares(bands), strict=True)
    )
    return f'<table class="lp-ages"><caption>Age of the entries</caption>{rows}</table>'


def _bar(share: float) -> str:
    return f'<span class="lp-bar lp-decode" style="width:{share:.1f}%"></span>' if share else ""


def _entries(stats: CacheStats) -> None:
    state = service_state()
    with st.container(key="cache-tools", horizontal=True, gap="xsmall", vertical_alignment="bottom"):
        text = st.text_input(
            "Search",
            key=SEARCH,
            placeholder="A word of the question",
            type="search",
            on_change=service_actions.searched,
        )
        model = st.selectbox(
            "Model", ["", *_models()], key=MODEL, format_func=lambda name: name or "All models",
            on_change=service_actions.searched,
        )  # fmt: skip
        _ways_out(model or "", empty=not stats.entries)
    page = bridge.call(
        access.services().cache.entries(access.principal(), text=text or "", model=model or "", limit=state.shown)
    )
    if not page.entries:
        st.html(f'<p class="lp-quiet">{_nothing(stats, sought=bool(text or model))}</p>')
    with st.container(key="cache-entries", gap=None):
        for entry in page.entries:
            _row(entry)
    if page.next:
        st.button(f"Show {PAGE_OF_ENTRIES} more", type="tertiary", key="more-entries", on_click=service_actions.more)


def _models() -> list[str]:
    services = access.services()
    try:
        catalog = bridge.call(services.catalog.snapshot(stale_ok=True))
        return list(dict.fromkeys(variant.name for family in catalog.families for variant in family.variants))
    except LoupeError:  # no host answers; what is kept can be looked at all the same
        newest = bridge.call(services.cache.entries(access.principal(), limit=MODELS_OF))
        return sorted({entry.model for entry in newest.entries})


def _ways_out(model: str, *, empty: bool) -> None:
    if model:
        if st.button(
            f"Delete all of {vm.plain(model)}", key="purge", on_click=service_actions.ask, args=("purge", model)
        ):
            st.rerun()
    elif st.button("Clear", key="clear", disabled=empty, on_click=service_actions.ask, args=("clear", "")):
        st.rerun()
    st.html(_export(model), width="content")


def _export(model: str) -> str:
    """What the list shows of models is what is exported."""
    asked = f"?model={quote(model, safe='')}" if model else ""
    told = f"All answers of {model}, one a line" if model else "All kept answers, one a line"
    return (
        f'<a class="lp-button" href="/loupe/cache/export{asked}" title="{escape(told, quote=True)}" download>Export</a>'
    )


def _nothing(stats: CacheStats, *, sought: bool) -> str:
    if sought and stats.entries:
        return "No entry fits."
    return (
        "Nothing is kept yet. An answer is kept when it would come out the same again: at temperature 0, or with a "
        "seed. Asked once more, it comes from here at once and says so."
    )


def _row(entry: CacheEntry) -> None:
    with st.container(key=f"entry-{entry.key}", horizontal=True, gap="xsmall", vertical_alignment="center", wrap=False):
        st.html(
            f'<div class="lp-entry"><b>{escape(entry.question or "no question")}</b>'
            f"<small>{escape(entry.model)}</small><span>{escape(words.entry_facts(entry, time.time()))}</span></div>"
        )
        if st.button(
            "Show", type="tertiary", key=f"read-{entry.key}", icon=":material/visibility:", help="Show this answer",
            on_click=service_actions.ask, args=("answer", entry.key),
        ):  # fmt: skip
            st.rerun()  # the dialog belongs to the page
        st.button(
            "Delete", type="tertiary", key=f"drop-{entry.key}", icon=":material/delete:", help="Delete this answer",
            on_click=service_actions.delete_entry, args=(entry.key,),
        )  # fmt: skip
