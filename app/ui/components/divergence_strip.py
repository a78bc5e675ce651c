"""One answer of the reference, each token tinted by how far a variant's expectation was from it there.

A click on a token, or the arrow keys, opens both lists of the twenty likeliest. The text stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from app.comparison.results import Alternative, TokenRow
from app.core.generation import Json


def _part(suffix: str) -> str:
    return Path(__file__).with_suffix(suffix).read_text(encoding="utf-8")


HTML, CSS, JS = _part(".html"), _part(".css"), _part(".js")


def show(tokens: Sequence[TokenRow], *, reference: str, variant: str) -> None:
    """`reference` and `variant` are what the two are called on the page."""
    strip = st.components.v2.component("loupe_divergence_strip", html=HTML, css=CSS, js=JS, isolate_styles=False)
    strip(
        key="divergence-strip",
        data={"reference": reference, "variant": variant, "tokens": [_token(row) for row in tokens]},
    )


def _token(row: TokenRow) -> dict[str, Json]:
    return {
        "token": row.token, "kld": row.kld, "said": [row.reference_logprob, row.variant_logprob],
        "reference": _listed(row.reference_top), "variant": _listed(row.variant_top),
    }  # fmt: skip


def _listed(alternatives: Sequence[Alternative]) -> list[Json]:
    return [[each.token, each.logprob] for each in alternatives]
