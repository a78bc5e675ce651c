"""A new scorecard: which family, which of its variants, against which, how long, on which questions."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.core.hosts import ANSWERING
from app.models.catalog import CatalogView
from app.ui import access, bridge, card_actions, notices
from app.ui import card_run_words as run_words
from app.ui import card_words as words
from app.ui import view_models as vm
from app.ui.card_run_words import Choice
from app.ui.components.empty_chat import no_models
from app.ui.state import FAMILY_PARAMETER, card_state

CONTEXTS = (2048, 4096, 8192, 16_384, 32_768)
USUAL_CONTEXT = 4096


def show() -> bool:
    """Whether anything can be measured."""
    with st.skeleton(height=220):
        catalog = bridge.call(access.services().catalog.snapshot(stale_ok=True))
    found = run_words.choices(catalog.families)
    with st.container(key="card-choose", gap="small"):
        if found:
            _form(found)
        else:
            _nothing(catalog)
    return bool(found)


def _nothing(catalog: CatalogView) -> None:
    if catalog.hosts and not any(host.state in ANSWERING for host in catalog.hosts):
        st.html('<p class="lp-quiet">No model host answers. A scorecard can be made when one is back.</p>')
    elif not catalog.families:
        no_models(catalog)
    else:
        st.html(f'<div class="lp-hello"><h1>Nothing to compare yet</h1><p>{run_words.NOTHING_TO_COMPARE}</p></div>')
        with st.container(key="get-first"):
            st.page_link("screens/models.py", label="Make a second one")


def _form(found: tuple[Choice, ...]) -> None:
    choice = _family(found)
    picked = _variants(choice)
    with st.container(key="card-how", horizontal=True, gap="medium", vertical_alignment="bottom"):
        depth = st.segmented_control(
            "How long", list(words.DEPTHS), default=words.QUICK, required=True, key=card_actions.DEPTH,
            format_func=words.DEPTHS.__getitem__,
        )  # fmt: skip
        reference = st.selectbox(
            "Reference", [v.name for v in choice.variants], key=f"{card_actions.REFERENCE}-{choice.family.key}",
            index=choice.variants.index(run_words.best_reference(choice.variants)),
            format_func={v.name: v.label for v in choice.variants}.__getitem__,
            help="What the others are measured against: as a rule the one with the most bits that fits.",
        )  # fmt: skip
        longest = choice.family.context_length or CONTEXTS[-1]
        contexts = [size for size in CONTEXTS if size <= longest] or [longest]
        context = st.selectbox(
            "Context", contexts, index=contexts.index(min(contexts, key=lambda size: abs(size - USUAL_CONTEXT))),
            key=f"{card_actions.CONTEXT}-{choice.family.key}", format_func=lambda size: vm.count(size, "token"),
            help="For how many tokens of conversation memory is reserved while it is measured.",
        )  # fmt: skip
    prompts = _questions()
    _go(choice, picked, reference, depth or words.QUICK, context, prompts)


def _family(found: tuple[Choice, ...]) -> Choice:
    by_key = {choice.family.key: choice for choice in found}
    wanted = str(st.query_params.get(FAMILY_PARAMETER, ""))
    if len(found) == 1:
        choice = found[0]
        st.html(f'<header class="lp-model"><h2>{escape(choice.family.title)}</h2></header>')
        return choice
    keys = list(by_key)
    key = st.selectbox(
        "Model", keys, index=keys.index(wanted) if wanted in by_key else 0, key=card_actions.FAMILY,
        format_func=lambda key: f"{by_key[key].family.title} ({vm.count(len(by_key[key].variants), 'variant')})",
    )  # fmt: skip
    return by_key[key]


def _variants(choice: Choice) -> list[str]:
    lines = {variant.name: run_words.variant_line(variant) for variant in choice.variants}
    return st.pills(
        "Variants", list(lines), selection_mode="multi", default=list(lines),
        key=f"{card_actions.VARIANTS}-{choice.family.key}", format_func=lines.__getitem__,
    )  # fmt: skip


def _questions() -> str:
    """Where the questions come from; draws what that needs."""
    source = st.segmented_control(
        "Questions", run_words.QUESTIONS, default=run_words.SHIPPED, required=True, key=card_actions.SOURCE
    )  # fmt: skip
    source = source or run_words.SHIPPED
    st.html(f'<p class="lp-quiet">{escape(run_words.QUESTIONS_TOLD[source])}</p>')
    if source == run_words.OWN:
        with st.container(key="card-own", gap="xsmall"):
            st.text_area("Prompts", key=card_actions.PROMPTS, height=160, placeholder=run_words.OWN_PLACEHOLDER)
            st.file_uploader("Or a file of them", ["txt", "md", "jsonl"], key=card_actions.FILE, max_upload_size=4)
    return source


def _go(choice: Choice, picked: list[str], reference: str, depth: str, context: int, source: str) -> None:
    chosen = {*picked, reference}
    number = len(chosen)
    before = [card for card in access.services().comparisons.list() if card.family == choice.family.title]
    sizes = [variant.size for variant in choice.variants if variant.name in chosen]
    refusal = run_words.cannot_begin(number)
    with st.container(key="card-go", horizontal=True, gap="small", vertical_alignment="center"):
        st.button(
            run_words.measure_label(number), type="primary", key="card-begin", disabled=bool(refusal),
            on_click=card_actions.begin,
            args=(card_actions.Wanted(choice.family.key, tuple(picked), reference, depth, context, source),),
        )  # fmt: skip
        told = refusal or run_words.how_long(depth, run_words.seconds_for(depth, sizes, before))
        st.html(f'<p class="lp-quiet">{escape(told)}</p>')
    notices.show_at("begin", card_state().notices)
