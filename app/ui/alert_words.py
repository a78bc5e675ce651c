"""Alerts and their rules as the Dashboard says them: HTML and sentences. Pure: no Streamlit, no clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from app.core.alerts import Alert, Rule, Severity
from app.services.alerting.alerts import AlertsView, RuleState
from app.services.alerting.announcing import ReceiverState
from app.services.alerting.words import YES, condition, headline, span, told
from app.ui import view_models as vm

_SCALES = {"share": (100.0, "%"), "bytes": (float(1 << 30), "GiB")}
NO_WEBHOOK = (
    "Alerts are shown here and in <code>/metrics</code>. To have them sent somewhere, set "
    "<code>LOUPE_ALERT_WEBHOOK</code>."
)
_HEAD = "<thead><tr><th>Rule</th><th>Now</th><th>State</th><th>Raised</th></tr></thead>"


def summary(view: AlertsView) -> str:
    """One line: what needs somebody, or that nothing does."""
    on = sum(state.rule.on for state in view.rules)
    rules = vm.count(on, "rule")
    if not view.looked:
        return f"{rules}; the first look is some seconds away."
    if not view.open:
        return f"Nothing needs you. {rules} look at this machine, its hosts and its requests every few seconds."
    critical = sum(alert.severity is Severity.CRITICAL for alert in view.open)
    every = "critical" if len(view.open) == 1 else "all critical"
    words = f", {every if critical == len(view.open) else f'{critical} of them critical'}" if critical else ""
    return f"{vm.count(len(view.open), 'open alert')}{words}, by {rules}."


def open_alerts(alerts: Sequence[Alert], now: float) -> str:
    rows = "".join(_open(alert, now) for alert in alerts)
    return f'<div class="lp-alerts" role="list">{rows}</div>' if rows else ""


def _open(alert: Alert, now: float) -> str:
    tone = "bad" if alert.severity is Severity.CRITICAL else "warn"
    again = f" · came back, {alert.times} times so far" if alert.times > 1 else ""
    figure = (
        f" Now {told(alert.value, alert.unit)}, at worst {told(alert.worst, alert.unit)}." if alert.unit != YES else ""
    )
    return (
        f'<div class="lp-alert" role="listitem" data-tone="{tone}"><p><strong>{escape(headline(alert))}</strong>'
        f"<span>{alert.severity} · for {span(max(1.0, round(now - alert.since)))}{again}</span></p>"
        f"<p>{escape(alert.seen)}{escape(figure)}</p><p>{escape(alert.advice)}</p></div>"
    )


def past_alerts(alerts: Sequence[Alert], now: float) -> str:
    """The ended ones, the newest first."""
    rows = "".join(
        f'<tr><th scope="row">{escape(headline(alert))}</th><td>{_when(alert.since, now)}</td>'
        f"<td>{span(max(1.0, round((alert.ended or now) - alert.since)))}</td><td>{escape(_over(alert))}</td></tr>"
        for alert in alerts
    )
    head = "<thead><tr><th>What was</th><th>Since</th><th>For</th><th>What was seen</th></tr></thead>"
    return f'<table class="lp-set lp-rules">{head}<tbody>{rows}</tbody></table>'


def _over(alert: Alert) -> str:
    times = f" Came {alert.times} times." if alert.times > 1 else ""
    worst = f" At worst {told(alert.worst, alert.unit)}." if alert.unit != YES and alert.worst != alert.value else ""
    return f"{alert.seen}{worst}{times}" + (f" Ended because {alert.why_ended}." if alert.why_ended else "")


def rules_table(states: Sequence[RuleState]) -> str:
    rows = "".join(map(_rule, states))
    return f'<table class="lp-set lp-rules">{_HEAD}<tbody>{rows}</tbody></table>'


def _rule(state: RuleState) -> str:
    rule = state.rule
    word, tone = rule_state(state)
    changed = " <b>yours</b>" if rule.own else " <b>changed</b>" if state.changed else ""
    return (
        f'<tr><th scope="row">{escape(rule.title)}<small><code>{escape(rule.series)}</code> · {rule.severity}{changed}'
        f'</small></th><td>{escape(figure_now(state))}</td><td data-tone="{tone}">{escape(word)}</td>'
        f"<td>{escape(condition(rule))}</td></tr>"
    )


def rule_state(state: RuleState) -> tuple[str, str]:
    """A word, and its tone."""
    if not state.rule.on:
        return "off", "quiet"
    if state.open:
        return vm.count(state.open, "open alert"), "bad" if state.rule.severity is Severity.CRITICAL else "warn"
    if state.pending:
        longest = max(state.pending.values())
        return f"beyond for {span(round(longest))} of {span(state.rule.hold)}", "warn"
    return ("fine", "good") if state.figures else ("no figure yet", "quiet")


def figure_now(state: RuleState) -> str:
    """The figure that is nearest to the limit, with whom it is about."""
    if not state.figures:
        return vm.UNKNOWN
    choose = max if state.rule.above else min
    subject, value = choose(state.figures.items(), key=lambda pair: pair[1])
    if state.rule.unit == YES:
        return f"yes, {subject}" if value and subject else "yes" if value else "no"
    return ", ".join(filter(None, (told(value, state.rule.unit), subject)))


def receiver(state: ReceiverState | None, now: float) -> str:
    if state is None:
        return NO_WEBHOOK
    place = f"<code>{escape(state.place)}</code>"
    if state.failing:
        waiting = f"; {vm.count(state.waiting, 'message')} wait to be sent again" if state.waiting else ""
        return f"The webhook at {place} takes nothing: {escape(state.failing)}{waiting}."
    if state.last_taken is None:
        return f"Alerts also go to the webhook at {place}; nothing was sent since the start."
    return f"Alerts also go to the webhook at {place}, which took the last one {vm.ago(now - state.last_taken)}."


def scale(rule: Rule) -> tuple[float, str]:
    """By how much a person's figure is larger or smaller than ours, and what it is called: 93 %, 5 GiB."""
    factor, name = _SCALES.get(rule.unit, (1.0, rule.unit))
    return (factor, name) if rule.unit != "bytes" else (1 / factor, name)


def _when(moment: float, now: float) -> str:
    then = datetime.fromtimestamp(moment)
    today = then.date() == datetime.fromtimestamp(now).date()
    return then.strftime("%H:%M" if today else "%d %b %H:%M")
