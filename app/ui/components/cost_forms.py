"""The two forms of the cost view: what money is worked out from, and the cloud's prices. An emptied field takes its
statement back."""

from __future__ import annotations

from zlib import crc32

import streamlit as st

from app.core.generation import Json
from app.services.costing.service import CostView
from app.services.costing.values import HERE
from app.ui import cost_actions, notices
from app.ui import cost_words as words
from app.ui.state import cost_state


def assumptions(view: CostView) -> None:
    told = view.assumed
    fields = _Fields(view)
    with st.form("cost-assumptions", border=False):
        with st.container(horizontal=True, gap="small"):
            wanted: dict[str, Json] = {
                "currency": st.text_input("Currency", told.currency, max_chars=8, key=fields.key("currency")) or None,
                "kwh": fields.number("A kWh", "kwh", told.kwh, step=0.01, places=4),
            }
        wanted["watts"] = _watts(view, fields)
        with st.container(horizontal=True, gap="small"):
            wanted["rest"] = fields.number("At rest, W", "rest", told.rest)
            wanted["beside"] = fields.number("Beside the counters, W", "beside", told.beside)
        with st.container(horizontal=True, gap="small"):
            wanted["machine"] = fields.number("The machine's price", "machine", told.machine, step=100.0)
            wanted["years"] = fields.number("Years", "years", told.years, step=1.0, least=0.1, most=50.0)
            share = fields.number("For models, %", "share", told.share * 100, most=100.0)
        wanted["share"] = None if share is None else round(share / 100, 6)
        if st.form_submit_button("Use these", type="primary", key="cost-save"):
            changes = words.differing(told, wanted)
            if not changes or cost_actions.state(changes, "assumptions"):
                st.rerun()
    notices.show_at("assumptions", cost_state().notices)


def _watts(view: CostView, fields: _Fields) -> Json:
    """By machine; those that did nothing in the time that is shown keep what was stated."""
    stated = dict(view.assumed.watts)
    for machine in view.machines:
        where = "This machine" if machine == HERE else machine
        watts = fields.number(f"{where} while it answers, W", f"watts-{machine}", stated.pop(machine, None))
        if watts is not None:
            stated[machine] = watts
    kept: dict[str, Json] = {**stated}
    return kept or None if "watts" in view.assumed.stated else kept


def prices(view: CostView) -> None:
    told = view.assumed
    fields = _Fields(view)
    with st.form("cost-cloud", border=False):
        text = st.text_area(
            "One a line: NAME: dollars a million tokens read, then written", words.prices_text(told.prices), height=260,
            key=fields.key("prices"),
        )  # fmt: skip
        with st.container(horizontal=True, gap="small"):
            day = st.text_input("Prices of the day", told.prices_on, key=fields.key("prices-on"))
            dollar = fields.number(f"One US dollar in {told.currency}", "dollar", told.dollar, step=0.01, places=4)
        if st.form_submit_button("Use these", type="primary", key="cost-prices-save") and cost_actions.state_prices(
            text or "", day or "", dollar
        ):
            st.rerun()
    notices.show_at("prices", cost_state().notices)


class _Fields:
    """A field keeps what was typed under its key; so the key says what held when it was drawn, and what holds anew is
    shown anew."""

    def __init__(self, view: CostView) -> None:
        self._held = crc32(repr(view.assumed).encode())

    def key(self, name: str) -> str:
        return f"cost-{name}-{self._held:08x}"

    def number(
        self, label: str, name: str, value: float | None, *, step: float = 5.0, places: int = 2, least: float = 0.0,
        most: float | None = None,
    ) -> float | None:  # fmt: skip
        return st.number_input(label, least, most, value, step, f"%0.{places}f", key=self.key(name))
