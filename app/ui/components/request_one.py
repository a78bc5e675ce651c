"""One request: what it cost, its waterfall, the cache's decision, where it came from, and the ways to ask it again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from html import escape

import streamlit as st

from app.core.generation import Json
from app.services.asking_again import Again, Rebuilt
from app.services.request_trace import FinishedRequest
from app.ui import access, bridge, notices
from app.ui import request_actions as acts
from app.ui import request_words as words
from app.ui import view_models as vm
from app.ui.components import copying, figure_table, request_links, waterfall
from app.ui.components.glossary import explained
from app.ui.fragments import fragment
from app.ui.state import requests_state

LOOK_SECONDS = 1.0


def show(request_id: str) -> None:
    """While it runs it draws itself anew each second."""
    record = acts.find(request_id)
    with st.container(key="request", gap="small"):
        st.button("All requests", type="tertiary", icon=":material/arrow_back:", key="requests-back",
                  on_click=acts.open_request, args=("",))  # fmt: skip
        notices.show_at("one", requests_state().notices)
        if record is None:
            _gone()
        elif record.status == "running":
            fragment(run_every=LOOK_SECONDS)(_running)(request_id)
        else:
            _draw(record)
        request_links.listen()


def _gone() -> None:
    size = access.services().telemetry.log.size
    notices.show(
        notices.Notice(
            "This request is not kept any more",
            f"The newest are kept, as many as fit in {size.limit >> 20} MiB (LOUPE_TRACE_BYTES), until Loupe ends: "
            f"{vm.count(size.requests, 'request')} now. Or the link is wrong, or the request is somebody else's.",
            tone="plain",
        ),
        key="request-gone",
    )  # fmt: skip


def _running(request_id: str) -> None:
    record = acts.find(request_id)
    if record is None or record.status != "running":
        st.rerun()
    _draw(record)


def _draw(record: FinishedRequest) -> None:
    services, me = access.services(), access.principal()
    again = services.asking_again.told(record.id, me)
    rebuilt = bridge.call(services.asking_again.rebuild(record.id, me, sees=acts.seen_by()))
    _head(record, rebuilt, again)
    if record.error:
        notices.show(notices.stored(record.status, record.error, began=record.ttft is not None), key="request-error")
    _said(record, again)
    st.html(f'<dl class="lp-figures">{"".join(map(_figure, words.figures(record)))}</dl>')
    bars = words.layers(record)
    if bars:
        where = record.model + (f" on {record.host}" if record.host else "")
        ticks = words.ticks(words.axis(record))
        st.html(waterfall.html(bars, where, ticks=ticks, growth=words.growth(record)))
    _beside(record, again)
    _facts(record)
    _command(record, rebuilt)


def _figure(fact: words.Fact) -> str:
    name, value, note = explained(fact.name, fact.name), escape(fact.value), escape(fact.note)
    return f"<div><dt>{name}</dt><dd>{value}</dd><small>{note}</small></div>"


def _head(record: FinishedRequest, rebuilt: Rebuilt, again: Again | None) -> None:
    status, tone = words.status(record)
    when = words.clock(record.started_at, time.time())
    with st.container(key="request-head", horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.html(
            f'<div class="lp-line"><b>{escape(record.model)}</b><span class="lp-state" data-tone="{tone}">'
            f"{escape(status)}</span><small>{when}</small></div>"
        )
        if again is not None and again.running:
            st.button("Stop", key="request-stop", on_click=acts.stop, args=(record.id,))
        elif record.status != "running":
            st.button(
                "Ask again", key="request-again", disabled=rebuilt.request is None, on_click=acts.ask_again,
                args=(record.id,), help=_again_help(rebuilt),
            )  # fmt: skip
        if rebuilt.chat:
            st.page_link("screens/chat.py", label="Its chat", query_params={"chat": rebuilt.chat})


def _again_help(rebuilt: Rebuilt) -> str:
    if rebuilt.request is None:
        return f"It cannot be asked again: {rebuilt.why}."
    told = "The same question with the same options, past the cache; the two then stand side by side."
    return told + (" The system prompt is the one that its chat has now." if rebuilt.chat else "")


def _said(record: FinishedRequest, again: Again | None) -> None:
    """The words, as far as they are kept."""
    question = _words_kept("Question", record.question)
    answer = _words_kept("Answer", again.text, " open") if again is not None else _words_kept("Answer", record.answer)
    if question or answer:
        st.html(question + answer)


def _words_kept(name: str, text: str, opened: str = "") -> str:
    if not text:
        return ""
    return f'<details class="lp-words"{opened}><summary>{name}</summary><div>{escape(text)}</div></details>'


def _beside(record: FinishedRequest, again: Again | None) -> None:
    """Those that asked the same, where it was asked again."""
    asking, me = access.services().asking_again, access.principal()
    first = again.of if again is not None else record.id
    others = [acts.find(name) for name in asking.those_of(first, me)]
    known = [one for one in (acts.find(first), *others) if one is not None]
    if len(known) < 2:
        return
    names = ["first", *(f"again {number}" for number in range(1, len(known)))]
    rows = [words.again_row(name, one) for name, one in zip(names, known, strict=True)]
    here = next((place for place, one in enumerate(known) if one.id == record.id), -1)
    links = " · ".join(
        f"<b>{name}</b>" if place == here else request_links.link(one.id, name)
        for place, (name, one) in enumerate(zip(names, known, strict=True))
    )  # fmt: skip
    table = figure_table.html(words.AGAIN_HEAD, rows)
    st.html(f'<h3 class="lp-part">Asked again</h3>{table}<p class="lp-quiet">{links}</p>')


def _facts(record: FinishedRequest) -> None:
    keys = access.services().keys
    known = words.facts(record, keys.named(record.principal), keys.named(record.flow))
    options = record.options or {}
    story = escape(words.cache_story(record))
    st.html(
        f'<div class="lp-request-facts"><section><h3 class="lp-part">Cache</h3><p>{story}</p>'
        f'<h3 class="lp-part">Options</h3>{_options(options)}</section>'
        f'<section><h3 class="lp-part">Where it came from</h3>{_pairs(known)}</section></div>'
    )


def _options(options: Mapping[str, Json]) -> str:
    if not options:
        return '<p class="lp-quiet">None was given: the model’s own hold.</p>'
    pairs = "".join(f"<dt>{explained(name, name)}</dt><dd>{escape(str(value))}</dd>" for name, value in options.items())
    return f'<dl class="lp-pairs">{pairs}</dl>'


def _pairs(known: tuple[tuple[str, str], ...]) -> str:
    cells = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in known)
    return f'<dl class="lp-pairs">{cells}</dl>'


def _command(record: FinishedRequest, rebuilt: Rebuilt) -> None:
    command = words.curl(record, rebuilt.request, acts.base_url(), key=acts.wants_key())
    missing = f" Not all of it is known: {escape(command.missing)}." if command.missing else ""
    key = " LOUPE_KEY is to hold a key." if acts.wants_key() else ""
    st.html(
        f'<h3 class="lp-part">As a command</h3><div class="lp-command"><code>{escape(command.text)}</code>'
        f'{copying.button(command.text, "Copy as curl", kind="lp-button")}</div><p class="lp-quiet">{missing}{key}</p>'
    )
