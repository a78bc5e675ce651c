"""Alerts: what needs somebody now, what was, and the rules that look. Drawn anew every few seconds by itself."""

from __future__ import annotations

import time

import streamlit as st

from app.core.alerts import Rule
from app.core.generation import Json
from app.services.alerting.words import YES
from app.ui import access, alert_actions, notices, who
from app.ui import alert_words as words
from app.ui.fragments import fragment
from app.ui.state import alerts_state

EVERY = 5.0  # seconds
SHOWN = 20  # ended alerts


def show() -> None:
    may, told = who.visits().admin, access.services().alerts
    with st.container(key="alerts", gap="small"):
        _live()
        with st.container(key="alerts-tools", horizontal=True, gap="small", vertical_alignment="center"):
            for what, label in (("change", "Change a rule…"), ("add", "Add a rule…")):
                st.button(label, key=f"alert-{what}", disabled=not may, on_click=alert_actions.ask, args=(what,))
            if told.view().receiver is not None:
                st.button("Test the webhook", key="alert-test", disabled=not may, on_click=alert_actions.try_webhook)
        notices.show_at("webhook", alerts_state().notices)
    _dialogs()


@fragment(run_every=EVERY)
def _live() -> None:
    view = access.services().alerts.view()
    now = view.looked or time.time()
    st.html(f'<p class="lp-quiet" role="status">{words.summary(view)}</p>{words.open_alerts(view.open, now)}')
    st.html(words.rules_table(view.rules) + f'<p class="lp-quiet">{words.receiver(view.receiver, now)}</p>')
    past = [alert for alert in view.alerts if not alert.open]
    if past:
        with st.expander(f"What was ({len(past)})", key="alerts-past"):
            st.html(words.past_alerts(past[:SHOWN], now))


def _dialogs() -> None:
    what = alerts_state().dialog
    if what == "change":
        st.dialog("A rule", width=520, on_dismiss=alert_actions.close_dialog)(_change)()
    elif what == "add":
        st.dialog("A rule of your own", width=520, on_dismiss=alert_actions.close_dialog)(_add)()


def _change() -> None:
    states = {state.rule.name: state for state in access.services().alerts.view().rules}
    titles = {name: state.rule.title for name, state in states.items()}
    name = st.selectbox("Rule", list(states), key="alert-rule", format_func=lambda name: titles.get(name, name))
    rule = states[name].rule
    wish = _limits(rule)
    wish["on"] = st.toggle("Looks", value=rule.on, key=f"alert-on-{name}")
    with st.container(key="dialog-foot", horizontal=True, gap="xsmall"):
        if st.button("Save", type="primary", key="alert-save") and alert_actions.save(name, wish):
            _close()
        verb = "Remove" if rule.own else "As it came"
        if (rule.own or states[name].changed) and st.button(verb, key="alert-reset") and alert_actions.remove(name):
            _close()
    notices.show_at("dialog", alerts_state().notices)


def _limits(rule: Rule) -> dict[str, Json]:
    wish: dict[str, Json] = {} if rule.unit == YES else _values(rule)
    with st.container(horizontal=True, gap="small"):
        wish["hold"] = st.number_input(
            "Held for (s)", 0.0, 86_400.0, rule.hold, format="%g", key=f"alert-hold-{rule.name}"
        )
        wish["rest"] = st.number_input(
            "Over after quiet for (s)", 0.0, 86_400.0, rule.rest, format="%g", key=f"alert-rest-{rule.name}"
        )
    return wish


def _values(rule: Rule) -> dict[str, Json]:
    factor, unit = words.scale(rule)
    side = "above" if rule.above else "below"
    with st.container(horizontal=True, gap="small"):
        limit = st.number_input(
            f"Raised {side} ({unit})" if unit else f"Raised {side}",
            value=rule.limit * factor,
            format="%g",
            key=f"alert-limit-{rule.name}",
        )
        clear = st.number_input(
            f"Ends at ({unit})" if unit else "Ends at",
            value=rule.clear * factor,
            format="%g",
            key=f"alert-clear-{rule.name}",
            help="Between the two nothing changes: a figure that trembles at its limit is one alert.",
        )
    return {"limit": limit / factor, "clear": clear / factor}


def _add() -> None:
    with st.form("alert-own", border=False):
        name = st.text_input("Name", key="alert-own-name", placeholder="busy_network", max_chars=40)
        series = st.selectbox("Looks at", access.services().alerts.view().series, key="alert-own-series")
        with st.container(horizontal=True, gap="small"):
            above = st.selectbox("Bad is", ["above", "below"], key="alert-own-above") == "above"
            limit = st.number_input("Limit", value=0.0, format="%g", key="alert-own-limit")
            hold = st.number_input("Held for (s)", 0.0, 86_400.0, 60.0, format="%g", key="alert-own-hold")
        title = st.text_input("What it means", key="alert-own-title", placeholder="The network is busy", max_chars=100)
        advice = st.text_input("What to do", key="alert-own-advice", max_chars=500)
        sent = st.form_submit_button("Add it", type="primary", key="alert-own-save")
    if sent:
        wish: dict[str, Json] = {"series": series, "above": above, "limit": limit, "hold": hold, "advice": advice}
        if title:
            wish["title"] = title
        if alert_actions.save(name.strip(), wish):
            _close()
    notices.show_at("dialog", alerts_state().notices)


def _close() -> None:
    alert_actions.close_dialog()
    st.rerun()
