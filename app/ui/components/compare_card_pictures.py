"""The pictures of a scorecard, two beside each other where there is room."""

from __future__ import annotations

import streamlit as st

from app.comparison.charts import Look, pictures_of
from app.comparison.results import Scorecard
from app.ui import card_advice
from app.ui.components import vega_chart

FRAME = 96  # pixels that title, axis and padding take beside the picture itself


def show(card: Scorecard) -> None:
    budget = card_advice.machine_budget(card)
    light, dark = (pictures_of(card, Look(dark=dark), budget=budget) for dark in (False, True))
    if not light:
        return
    with st.container(key="card-pictures", horizontal=True, gap="large", vertical_alignment="top"):
        for name, spec in light.items():
            vega_chart.show(
                spec, dark[name], name=f"{name}-{card.id}", alt=str(spec["description"]),
                height=int(spec["height"]) + FRAME,
            )  # fmt: skip
