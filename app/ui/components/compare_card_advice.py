"""The recommendation first, and what moves it: memory, context, least speed, use. Nothing is measured anew for it."""

from __future__ import annotations

from dataclasses import replace
from html import escape

import streamlit as st

from app.comparison.advice import recommend, smaller_models
from app.comparison.results import Recommendation, Scorecard
from app.models.wishes import Use, Wish
from app.ui import access, bridge, card_advice, card_table
from app.ui import card_words as words
from app.ui import view_models as vm
from app.ui.fragments import fragment

BUDGET, CONTEXT, SPEED, USE = (f"advice-{name}" for name in ("budget", "context", "speed", "use"))


@fragment()
def show(card: Scorecard) -> None:
    """Draws itself alone: a slider moves the sentence and nothing else."""
    with st.container(key="advice", gap="small"):
        sentence = st.container()
        choices = card_advice.choices_of(card)
        with st.container(key="advice-sliders", horizontal=True, gap="medium", vertical_alignment="top"):
            budget = st.select_slider(
                "Memory for the model", choices.budgets, value=choices.budget, key=f"{BUDGET}-{card.id}",
                format_func=vm.size,
            )  # fmt: skip
            context = choices.context
            if len(choices.contexts) > 1:
                context = st.select_slider(
                    "Context", choices.contexts, value=choices.context, key=f"{CONTEXT}-{card.id}",
                    format_func=lambda tokens: vm.count(tokens, "token"),
                )  # fmt: skip
            use = st.segmented_control(
                "Use", list(Use), default=Use.CHAT, required=True, key=f"{USE}-{card.id}",
                format_func=card_advice.USES.__getitem__, on_change=_usual_speed, args=(card.id,),
            )  # fmt: skip
            least = st.select_slider(
                "Least speed", card_advice.LEAST_SPEEDS, value=card_advice.least_speed(Use.CHAT),
                key=f"{SPEED}-{card.id}", format_func=lambda tps: f"{tps} tok/s",
            )  # fmt: skip
        wish = card_advice.wish_of(card, budget, context, use or Use.CHAT, least)
        told = card.recommendation if wish == card_advice.first_wish(card) else None
        with sentence:
            st.html(_html(card, told or _advised(card, wish)))


def _advised(card: Scorecard, wish: Wish) -> Recommendation:
    """Where nothing of the family is good enough, a smaller model that is at hand is looked for."""
    told = recommend(card, wish)
    if told.variant:
        return told
    at_hand = smaller_models(bridge.call(access.services().catalog.snapshot()), card)
    return recommend(card, replace(wish, smaller=at_hand)) if at_hand else told


def _usual_speed(card_id: str) -> None:
    """Another use has another least speed."""
    use = st.session_state[f"{USE}-{card_id}"] or Use.CHAT
    st.session_state[f"{SPEED}-{card_id}"] = card_advice.least_speed(use)


def _html(card: Scorecard, advice: Recommendation | None) -> str:
    told = words.headline(advice, card)
    if advice is None:
        return f'<div class="lp-advice lp-none"><h2>{escape(told)}</h2></div>'
    decision, _, why = told.partition(": ")  # to be read at a glance; its reasons in smaller letters
    typical = f' <span class="lp-typical" title="{words.TYPICAL_TOLD}">{words.TYPICAL}</span>' if advice.typical else ""
    tier = f' <span class="lp-tier" title="{words.TIER_TOLD}">{escape(str(advice.tier))}</span>' if advice.tier else ""
    reasons = f'<p class="lp-advice-why">{escape(why[:1].upper() + why[1:])}</p>' if why else ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in words.advice_lines(advice, card_table.labels(card)))
    return (
        f'<div class="lp-advice" role="status">{_partial(card)}<h2>{escape(decision)}{tier}{typical}</h2>{reasons}'
        f"{f'<ul>{lines}</ul>' if lines else ''}</div>"
    )


def _partial(card: Scorecard) -> str:
    told = words.partial_line(card)
    return f'<p class="lp-quiet">{escape(told)}</p>' if told else ""
