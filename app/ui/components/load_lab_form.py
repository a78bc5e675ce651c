"""A new load run: which variants get it, how questions come, how long they are, what a good answer keeps to."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.plan import MOST_RATE, MOST_SECONDS, MOST_USERS, Limits, LoadPlan
from app.core.hosts import ANSWERING
from app.models.catalog import CatalogView
from app.ui import access, bridge, load_actions, notices
from app.ui import load_words as words
from app.ui.components.empty_chat import no_models
from app.ui.components.glossary import TERMS
from app.ui.state import load_state

ANYWHERE = "Any host"


def show() -> bool:
    """Whether anything can be asked."""
    with st.skeleton(height=300):
        catalog = bridge.call(access.services().catalog.snapshot(stale_ok=True))
    known = words.variants_of(catalog)
    with st.container(key="lab-form", gap="small"):
        st.html(f'<p class="lp-quiet">{words.TOLD}</p>')
        if known:
            _form(known, catalog)
        elif catalog.hosts and not any(host.state in ANSWERING for host in catalog.hosts):
            st.html('<p class="lp-quiet">No model host answers. A load can be put on one when it is back.</p>')
        else:
            no_models(catalog)
    return bool(known)


def _form(known: Mapping[str, str], catalog: CatalogView) -> None:
    models = _models(known)
    arrivals, rate, to_rate, seconds, speed = _coming()
    prompt, output, chats = _lengths()
    limits = _limits()
    users, drain, host = _further(catalog)
    plan = LoadPlan(
        models=models, arrivals=arrivals, rate=rate, to_rate=to_rate, seconds=seconds, speed=speed, prompt=prompt,
        output=output, chats=chats, limits=limits, users=users, drain=drain, host=host,
    )  # fmt: skip
    with st.container(key="lab-go", horizontal=True, gap="small", vertical_alignment="center"):
        st.button("Start the load", type="primary", key="lab-begin", disabled=not models, on_click=load_actions.begin,
                  args=(plan,))  # fmt: skip
        if (refused := load_state().refused) is not None:
            st.button("Load it all the same", key="lab-anyway", on_click=load_actions.begin, args=(refused,))
    notices.show_at("begin", load_state().notices)


def _models(known: Mapping[str, str]) -> dict[str, float]:
    chosen = st.multiselect(
        "Variants", list(known), default=list(known)[:1], key="lab-models", format_func=lambda name: known[name],
        max_selections=6, placeholder="Choose one, or several for a mix",
    )  # fmt: skip
    if len(chosen) < 2:
        return dict.fromkeys(chosen, 1.0)
    with st.container(key="lab-shares", horizontal=True, gap="small"):
        return {
            name: st.number_input(
                f"Share of {known[name]}", 0.1, 1000.0, 1.0, 0.5, key=f"lab-share-{name}", width=220,
            )
            for name in chosen
        }  # fmt: skip


def _coming() -> tuple[Arrivals, float, float | None, float, float]:
    """How questions come: the law, the rate at first and at the end, for how long, how many times as fast."""
    rate, to_rate, speed = 1.0, None, 1.0
    with st.container(key="lab-coming", horizontal=True, gap="small", vertical_alignment="bottom"):
        arrivals = st.segmented_control(
            "Arrivals", list(words.ARRIVALS), default=Arrivals.POISSON, required=True, key="lab-arrivals",
            format_func=words.ARRIVALS.__getitem__, help=words.ARRIVALS_TOLD,
        )  # fmt: skip
        ramp = arrivals is Arrivals.RAMP
        if arrivals is Arrivals.RECORDED:
            speed = st.number_input("Times as fast", 0.01, 10_000.0, 1.0, 1.0, key="lab-speed", width=150)
        else:
            rate = st.number_input(
                "Requests/s at first" if ramp else "Requests/s", 0.01, MOST_RATE, 1.0, 0.5, key="lab-rate", width=150
            )
        if ramp:
            to_rate = st.number_input("Requests/s at the end", 0.01, MOST_RATE, 4.0, 0.5, key="lab-to", width=150)
        seconds = st.number_input("Seconds", 1.0, MOST_SECONDS, 60.0, 10.0, key="lab-seconds", format="%g", width=150)
    return arrivals or Arrivals.POISSON, rate, to_rate, seconds, speed


def _lengths() -> tuple[str, str, bool]:
    prompt = "128"
    with st.container(key="lab-lengths", horizontal=True, gap="small", vertical_alignment="bottom"):
        source = st.segmented_control(
            "Questions", [words.MADE_UP, words.OF_CHATS], default=words.MADE_UP, required=True, key="lab-source",
            help="Made up: common words that no cache knows. Your chats: their first questions, each answer as long as "
            "it was.",
        )  # fmt: skip
        if source != words.OF_CHATS:
            prompt = st.text_input("Prompt tokens", "128", key="lab-prompt", help=words.LENGTH_TOLD, width=150)
        output = st.text_input("Answer tokens", "64", key="lab-output", help=words.LENGTH_TOLD, width=150)
    return prompt, output, source == words.OF_CHATS


def _limits() -> Limits:
    with st.container(key="lab-limits", horizontal=True, gap="small"):
        ttft = st.number_input("TTFT at most, s", 0.001, 600.0, 1.0, 0.5, key="lab-ttft", help=TERMS["TTFT"], width=150)
        tpot = st.number_input(
            "Each token at most, s", 0.001, 60.0, 0.2, 0.05, key="lab-tpot", help=TERMS["TPOT"], width=150
        )
        e2e = st.number_input(
            "Answer at most, s", 0.01, 3600.0, None, 5.0, key="lab-e2e", placeholder="no limit", help=TERMS["E2E"],
            width=150,
        )  # fmt: skip
    return Limits(ttft, tpot, e2e)


def _further(catalog: CatalogView) -> tuple[int, float, str]:
    hosts = [host.address.name for host in catalog.hosts]
    with st.expander("People, waiting, host", key="lab-further"), st.container(horizontal=True, gap="small"):
        users = st.number_input(
            "People", 1, MOST_USERS, 32, 1, key="lab-users", width=150,
            help="Each is one user to the queue, which is fair between them and bounds how much one may ask at once.",
        )  # fmt: skip
        drain = st.number_input(
            "Wait at the end, s", 1.0, 600.0, 60.0, 10.0, key="lab-drain", format="%g", width=150,
            help="What is not answered so long after the last question is given up, and counts as slow.",
        )  # fmt: skip
        host = ANYWHERE
        if len(hosts) > 1:
            host = st.selectbox("Host", [ANYWHERE, *hosts], key="lab-host", width=200)
    return users, drain, "" if host == ANYWHERE else host
