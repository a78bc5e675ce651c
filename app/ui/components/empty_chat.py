"""The chat screen before the first question: who will answer, and three ways to begin. Or what is still missing."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.core.hosts import ANSWERING
from app.models.catalog import CatalogView
from app.ui import access, actions
from app.ui import view_models as vm
from app.ui.chat_view import ChatView

EXAMPLES = (
    "What is the capital of France, and what is it known for?",
    "Explain in three sentences what quantization does to a language model.",
    "Write a Python function that returns the median of a list.",
)


def show(view: ChatView) -> None:
    coming = [job for job in access.services().jobs.list() if job.active]
    with st.container(key="empty-chat", gap="small"):
        if view.usable:
            _ready(view)
        elif view.catalog.families or coming:
            _on_its_way(pulled=not view.catalog.families and any(job.kind == "pull" for job in coming))
        else:
            no_models(view.catalog)


def _ready(view: ChatView) -> None:
    chosen = view.chosen
    who = f"{chosen[0].title}, {chosen[1].label}" if chosen else view.model
    facts = f" {vm.size(chosen[1].size)} at {vm.bits(chosen[1].bpw)}." if chosen else ""
    st.html(
        f'<div class="lp-hello"><h1>New chat</h1><p><b>{escape(who)}</b> answers.{escape(facts)} '
        "Another quantization is one click away, below the input, also in the middle of a chat.</p></div>"
    )
    with st.container(gap="small"):  # two elements in all: a third would stand beside the question till the answer ends
        _examples(view)
        st.html(f'<p class="lp-quiet">{escape(access.services().why)}</p>')


def _examples(view: ChatView) -> None:
    with st.container(gap="xxsmall"):
        for number, example in enumerate(EXAMPLES):
            st.button(
                example, key=f"example-{number}", type="tertiary", icon=":material/arrow_forward:",
                icon_position="right", on_click=actions.ask, args=(example, view.model),
            )  # fmt: skip


def _on_its_way(*, pulled: bool) -> None:
    title = "The first model is on its way" if pulled else "The first model is being made"
    ready = "it is here" if pulled else "its first variant is ready"
    st.html(
        f'<div class="lp-hello"><h1>{title}</h1><p>You can ask as soon as {ready}. This page goes on by itself.</p>'
        "</div>"
    )


def no_models(catalog: CatalogView) -> None:
    """Hosts answer, and have nothing to answer with: the way to a model is one click away."""
    if not any(host.state in ANSWERING for host in access.services().pool.statuses()) or catalog.problems:
        no_host(catalog)
        return
    if not access.administers():
        st.html('<div class="lp-hello"><h1>No model yet</h1><p>None is here that your key may use.</p></div>')
        return
    where = "The built-in runtime" if access.services().embedded else "Ollama"
    st.html(
        f'<div class="lp-hello"><h1>No model yet</h1><p>{where} answers, but has no models. Get one, and ask here as '
        "soon as it is there.</p></div>"
    )
    with st.container(key="get-first", width="content"):
        st.page_link("screens/models.py", label="Get a model")


def no_host(catalog: CatalogView) -> None:
    """No host answers, or one answers and cannot be read; the strip says what is wrong as soon as that is sure."""
    answering = any(host.state in ANSWERING for host in access.services().pool.statuses())
    told = vm.sentence(catalog.problems[0]) if answering and catalog.problems else ""
    st.html(
        '<div class="lp-hello"><h1>Waiting for a model host</h1>'
        f"<p>{escape(told)} This page goes on by itself.</p></div>"
    )
