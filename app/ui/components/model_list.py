"""Families as headings, their variants as rows: size, true bits per weight, state, load and unload."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from html import escape

import streamlit as st

from app.core.errors import LoupeError
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.ui import access, bridge, model_actions, notices, theme
from app.ui import model_words as words
from app.ui import view_models as vm
from app.ui.components import second_variant
from app.ui.components.glossary import explained
from app.ui.components.host_strip import LOOK_SECONDS
from app.ui.fragments import fragment
from app.ui.state import FAMILY_PARAMETER, MODEL_PARAMETER, models_state

LOAD_SECONDS = 600.0  # a large model from a slow disk


@fragment(run_every=LOOK_SECONDS)
def show() -> None:
    """The whole list; draws itself anew every two seconds, so that progress and memory are always those of now."""
    with notices.showing_errors("models"):
        with st.skeleton(height=320):
            catalog = bridge.call(access.services().catalog.snapshot())
        with st.container(key="models", gap="medium"):
            for family in catalog.families:
                _family(family, several_hosts=len(catalog.hosts) > 1)
            if catalog.families:
                _problems(catalog)
        _carry_out()


def _problems(catalog: CatalogView) -> None:
    for number, problem in enumerate(catalog.problems):
        notices.show(notices.Notice("Left out of this list", problem, tone="warn"), key=f"left-{number}")


def _family(family: CatalogFamily, *, several_hosts: bool) -> None:
    facts = [family.parameter_size + " parameters"] if family.parameter_size else []
    facts += [vm.count(family.context_length, "token") + " of context"] if family.context_length else []
    facts.append(vm.count(len(family.variants), "variant"))
    line = "\u00a0· ".join(fact.replace(" ", "\u00a0") for fact in facts)  # a narrow line breaks between facts only
    told = "".join(f"<p>{escape(text)}</p>" for text in (words.other_weights(family.kind), family.provenance) if text)
    with st.container(key=f"family-{family.key}", gap=None):
        with st.container(
            key=f"head-{family.key}", horizontal=True, gap="xsmall", vertical_alignment="top", wrap=False
        ):
            st.html(
                f'<header class="lp-model"><h2>{escape(family.title)}</h2><span>{escape(line)}</span>{told}</header>'
            )
            if any(variant.state == "ready" and not variant.remote for variant in family.variants):
                _make(family)
            if sum(variant.state == "ready" and not variant.remote for variant in family.variants) > 1:
                with st.container(key=f"compare-{family.key}", width="content"):
                    st.page_link("screens/compare.py", label="Compare", query_params={FAMILY_PARAMETER: family.key})
        for variant in family.variants:
            _row(variant, several_hosts=several_hosts)
        second_variant.show(family)


def _make(family: CatalogFamily) -> None:
    if st.button(
        "Make…", type="tertiary", key=f"make-of-{family.key}", help="Make other quantizations from its 16-bit weights",
        on_click=model_actions.ask_to_make, args=(family.variants[0].name,),
    ):  # fmt: skip
        st.rerun()  # the dialog belongs to the page, not to this list, which is drawn anew all the time


def _row(variant: CatalogVariant, *, several_hosts: bool) -> None:
    state = models_state()
    pending = state.pending is not None and state.pending[1] == variant.name
    with st.container(
        key=f"variant-{variant.key}", horizontal=True, gap="xsmall", vertical_alignment="center", wrap=False
    ):
        st.html(_facts(variant, pending=state.pending[0] if pending and state.pending else "", host=several_hosts))
        if variant.state != "ready":
            st.html('<span class="lp-noact" aria-hidden="true"></span>')  # the columns stay where they are
        else:
            _buttons(variant)
    if variant.name in state.notices:
        notices.show(state.notices[variant.name], key=variant.key, on_retry=_again(variant.name))


def _buttons(variant: CatalogVariant) -> None:
    what = "unload" if variant.loaded else "load"
    st.button(
        what.capitalize(), type="tertiary", key=f"{what}-{variant.key}",
        disabled=models_state().pending is not None or variant.remote,
        on_click=_intend, args=(what, variant.name),
    )  # fmt: skip
    # A link, which the browser follows itself. Turned by the server (`st.switch_page`) a page can end up empty: a
    # redraw that the browser asked of this page in the same moment is answered as this page, after the other one.
    with st.container(key=f"chat-{variant.key}", width="content"):
        refused = variant.remote and not access.services().settings.remote_models
        st.page_link("screens/chat.py", label="Chat", query_params={MODEL_PARAMETER: variant.name}, disabled=refused)
    if st.button(
        "Delete", type="tertiary", key=f"delete-{variant.key}", icon=":material/delete:", help="Delete this variant",
        on_click=model_actions.ask_to_delete, args=(variant.key,),
    ):  # fmt: skip
        st.rerun()


def _facts(variant: CatalogVariant, *, pending: str, host: bool) -> str:
    colour = theme.bpw_colour(variant.bpw, reference=variant.reference)
    also = f"<small>{escape(', '.join((variant.name, *variant.aliases)))}</small>"
    where = f"<span class='lp-where'>{escape(', '.join(variant.hosts))}</span>" if host else ""
    return (
        f'<div class="lp-row{" lp-hosts" if host else ""}"><i style="background:{colour}"></i>'
        f'<b title="{escape(words.formats(variant.types))}">{escape(variant.label)}</b>{also}'
        f'<span class="lp-num">{vm.size(None if variant.remote else variant.size or None)}</span>'
        f'<span class="lp-num">{explained(vm.bits(variant.bpw), "bpw")}</span>{_state(variant, pending)}{where}</div>'
    )


def _state(variant: CatalogVariant, pending: str) -> str:
    if pending:
        return f'<span class="lp-state lp-busy">{pending}ing…</span>'
    if variant.state == "making":
        done = 100 * (variant.progress or 0)
        made = "being made" + (f", {vm.percent(variant.progress)}" if variant.progress else "")
        return (
            f'<span class="lp-state lp-busy">{made}<i class="lp-progress"><i style="width:{done:.1f}%"></i></i></span>'
        )
    if variant.state == "waiting":
        return '<span class="lp-state">to be made</span>'
    if variant.remote:
        return f'<span class="lp-state lp-busy" title="{words.NOT_LOCAL}">not local</span>'
    if variant.conflict:
        told = f"conflict on {escape(', '.join(variant.hosts))}" + (", loaded" if variant.loaded else "")
        return f'<span class="lp-state lp-busy" title="{words.CONFLICT}">{told}</span>'
    if variant.loaded is not None:
        told, title = vm.in_memory(variant.loaded, datetime.now().astimezone())
        return f'<span class="lp-state lp-good" title="{title}">{told}</span>'
    return f'<span class="lp-state">{"reference" if variant.reference else "ready"}</span>'


def _intend(what: str, name: str) -> None:
    models_state().pending = (what, name)
    models_state().notices.pop(name, None)


def _again(name: str) -> Callable[[], None]:
    return lambda: _intend("load", name)


def _carry_out() -> None:
    """Load or unload what was clicked, after the rows have been drawn with that said."""
    state, catalog = models_state(), access.services().catalog
    if state.pending is None:
        return
    what, name = state.pending
    try:
        work = catalog.load(name) if what == "load" else catalog.unload(name)
        bridge.call(work, seconds=LOAD_SECONDS, keep=True)
    except LoupeError as error:
        state.notices[name] = notices.notice_for(error)
    finally:
        state.pending = None
    st.rerun()
