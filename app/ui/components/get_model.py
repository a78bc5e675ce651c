"""Getting a model: a box for a tag, the host it goes to, and a few tags worth a first look.

Behind a button where there are models already; open on the page where there is none.
"""

from __future__ import annotations

from html import escape

import streamlit as st

from app.core.hosts import ANSWERING, HostStatus
from app.models.catalog import CatalogView
from app.ui import access, bridge, model_actions, notices
from app.ui import view_models as vm
from app.ui.components import empty_chat
from app.ui.model_words import SUGGESTIONS, Suggestion
from app.ui.state import models_state

LIBRARY = '<a href="https://ollama.com/library" target="_blank" rel="noreferrer">ollama.com/library</a>'
HOW = (
    f"Tags are listed at {LIBRARY}: NAME:TAG, where TAG ends in the quantization. From Hugging Face: "
    "hf.co/OWNER/REPOSITORY:QUANTIZATION."
)


def show() -> None:
    """The line above the list: what there is in all, and the way to more."""
    with st.skeleton(height=44):
        catalog = bridge.call(access.services().catalog.snapshot(stale_ok=True))
    hosts = tuple(host for host in access.services().pool.statuses() if host.state in ANSWERING)
    if not catalog.families:
        if not hosts or catalog.problems:
            empty_chat.no_host(catalog)
            return
        where = "The built-in runtime" if access.services().embedded else "Ollama"
        st.html(
            f'<div class="lp-hello"><h1>No model yet</h1><p>{where} answers, but has no models. Two quantizations '
            "of one model are what Loupe compares; one is enough to chat.</p></div>"
        )
        _panel(catalog, hosts)
        return
    with st.container(key="models-head", horizontal=True, gap="small", vertical_alignment="center", wrap=False):
        st.html(f'<p class="lp-quiet">{escape(summary(catalog))}</p>')
        with st.popover("Get a model", key=model_actions.GET, on_change="rerun") as panel:
            if panel.open:
                _panel(catalog, hosts)


def summary(catalog: CatalogView) -> str:
    """2 models, 10 variants, 7.41 GiB."""
    variants = [v for family in catalog.families for v in family.variants if v.state == "ready"]
    facts = (
        vm.count(len(catalog.families), "model"),
        vm.count(len(variants), "variant"),
        vm.size(sum(v.size for v in variants)),
    )
    return ", ".join(facts)


def _panel(catalog: CatalogView, hosts: tuple[HostStatus, ...]) -> None:
    with st.container(key="get-panel", gap="small"):
        _box(hosts)
        notices.show_at("pull", models_state().notices)
        st.html(f'<p class="lp-quiet">{HOW}</p>')
        with st.container(key="suggestions", gap=None):
            st.html('<h3 class="lp-family">For a start</h3>')
            for suggestion in SUGGESTIONS:
                _suggestion(suggestion, here=catalog.find(suggestion.tag) is not None)


def _box(hosts: tuple[HostStatus, ...]) -> None:
    row = st.form("pull", border=False).container(
        key="get-row", horizontal=True, gap="xsmall", vertical_alignment="bottom"
    )
    with row:
        st.text_input("Tag", key=model_actions.TAG, placeholder=SUGGESTIONS[0].tag, autocomplete="off", max_chars=400)
        if len(hosts) > 1:
            st.selectbox("On", [host.address.name for host in hosts], key=model_actions.PULL_HOST)
        st.form_submit_button("Pull", type="primary", disabled=not hosts, on_click=model_actions.pull_typed)


def _suggestion(suggestion: Suggestion, *, here: bool) -> None:
    """A click fills the box: nothing is fetched before someone says so."""
    state = "is here" if here else vm.about_size(suggestion.size)
    st.button(
        f"**{vm.plain(suggestion.tag)}** :gray[{state}] :gray[{vm.plain(suggestion.why)}]", type="tertiary",
        key=f"take-{suggestion.tag}", width="stretch", disabled=here,
        on_click=model_actions.take, args=(suggestion.tag,),
    )  # fmt: skip
