"""The divergence strip with its choice: which variant, which answer; the worst one first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import streamlit as st

from app.comparison.results import ProbeText, Scorecard, TokenRow
from app.ui import access, bridge, card_table, notices
from app.ui import card_words as words
from app.ui.components import divergence_strip
from app.ui.fragments import fragment


@fragment()
def show(card: Scorecard) -> None:
    """Draws itself alone: another text moves nothing else on the page."""
    called = card_table.labels(card)
    names = [variant.name for variant in card_table.ordered(card) if variant.quality is not None]
    if not names:
        return
    with st.container(key="card-text", gap="xsmall"), notices.showing_errors("strip"):
        st.html(f'<h3 class="lp-part">Where they differ</h3><p class="lp-quiet">{escape(words.STRIP_TOLD)}</p>')
        with st.container(key="card-text-which", horizontal=True, gap="small", vertical_alignment="bottom"):
            name = st.selectbox(
                "Variant", names, index=len(names) // 2, key=f"strip-variant-{card.id}", format_func=called.__getitem__
            )
            rows = bridge.call(access.services().comparisons.rows(card.id, name))
            by_text = words.by_text(rows)
            asked = {text.id: text for text in bridge.call(access.services().comparisons.texts(card.id))}
            text = _which(card.id, by_text, asked)
        if not text:
            st.html('<p class="lp-quiet">The tokens of this variant were not kept.</p>')
            return
        if text in asked:
            st.html(f'<p class="lp-question">{escape(asked[text].question)}</p>')
        divergence_strip.show(by_text[text], reference=called[card.reference], variant=called[name])


def _which(card_id: str, by_text: dict[str, Sequence[TokenRow]], asked: Mapping[str, ProbeText]) -> str:
    if not by_text:
        return ""
    lines = {text: words.text_line(asked.get(text), rows) for text, rows in by_text.items()}
    return st.selectbox(
        "Answer", list(lines), key=f"strip-text-{card_id}", format_func=lines.__getitem__
    ) or next(iter(lines))  # fmt: skip
