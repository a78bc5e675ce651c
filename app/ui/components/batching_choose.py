"""A new study: with which model, of slots or of runtime options, and how far."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.comparison.batching.study import OPTIONS, SLOTS, AskedStudy
from app.comparison.machine import usable_threads
from app.core.runtime_setup import RuntimeSetup
from app.ui import access, batching_actions, bridge
from app.ui import batching_words as words
from app.ui.components.empty_chat import no_models

KIND, MODEL, MOST, SHAPES, BATCHES, ARMS, AT_ONCE = (
    f"batching-{name}" for name in ("kind", "model", "most", "shapes", "batches", "arms", "at-once")
)


def show() -> None:
    with st.skeleton(height=180):
        catalog = bridge.call(access.services().catalog.snapshot(stale_ok=True))
    names = [
        variant.name for family in catalog.families for variant in family.variants
        if variant.state == "ready" and not variant.remote
    ]  # fmt: skip
    if not names:
        no_models(catalog)
        return
    with st.container(key="batching-choose", gap="small"):
        kind = st.segmented_control(
            "What to measure", list(words.KINDS), default=SLOTS, required=True, key=KIND,
            format_func=words.KINDS.__getitem__, label_visibility="collapsed",
        )  # fmt: skip
        kind = kind or SLOTS
        st.html(f'<p class="lp-quiet">{escape(words.KINDS_TOLD[kind])}</p>')
        with st.container(key="card-how", horizontal=True, gap="medium", vertical_alignment="bottom"):
            model = st.selectbox("Model", names, key=MODEL)
            asked = _slots(model) if kind == SLOTS else _options(model)
        _go(asked)
        _in_force()


def _slots(model: str) -> AskedStudy | None:
    most = st.selectbox("Up to", words.MOSTS, index=1, key=MOST, format_func=lambda number: f"{number} at once")
    shapes = st.pills(
        "Requests", list(words.SHAPES), selection_mode="multi", default=list(words.USUAL_SHAPES), key=SHAPES,
        format_func=lambda name: f"{name} ({words.SHAPES[name].told})",
    )  # fmt: skip
    batches = st.toggle("Batches too", value=True, key=BATCHES, help="At the knee: which batch reads prompts faster.")
    if not shapes:
        return None
    return AskedStudy(
        model, SLOTS, most=most, shapes=tuple(words.SHAPES[name] for name in shapes),
        batches=words.BATCHES if batches else (),
    )  # fmt: skip


def _options(model: str) -> AskedStudy | None:
    known = words.arms_of(usable_threads())
    at_once = st.selectbox(
        "Together", (1, 2, 4, 8), key=AT_ONCE, format_func=lambda number: "one alone" if number == 1 else f"{number}",
        help="How many answers at once are measured beside one alone.",
    )  # fmt: skip
    arms = st.pills("Against what is in force", list(known), selection_mode="multi", key=ARMS)
    if not arms:
        return None
    return AskedStudy(model, OPTIONS, arms=tuple(known[name] for name in arms), at_once=at_once)


def _go(asked: AskedStudy | None) -> None:
    with st.container(key="card-go", horizontal=True, gap="small", vertical_alignment="center"):
        st.button(
            "Measure", type="primary", key="batching-begin", disabled=asked is None,
            on_click=batching_actions.begin, args=(asked,),
        )  # fmt: skip
        told = words.UNTOUCHED if asked is not None else "Choose what to measure."
        st.html(f'<p class="lp-quiet">{escape(told)}</p>')


def _in_force() -> None:
    """How the built-in runtime is set up, where it is in use."""
    services = access.services()
    if not services.embedded:
        return
    tuning = services.tuning
    with st.container(key="batching-force", horizontal=True, gap="small", vertical_alignment="center"):
        st.html(f'<p class="lp-quiet">{escape(words.in_force_line(tuning.in_force, tuning.kept))}</p>')
        if tuning.kept.changes:
            st.button("Take back", key="batching-reset", on_click=batching_actions.apply, args=(RuntimeSetup(),),
                      help="Start the built-in runtime as it came.")  # fmt: skip
