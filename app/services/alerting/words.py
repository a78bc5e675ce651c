"""Figures in words, as alerts, the command line and messages say them."""

from __future__ import annotations

import re

from app.core.alerts import Alert, Rule

YES = "yes"  # the unit of what is so or not so, 1 or 0
_MARK = re.compile(r"\{(value|limit|subject)\}")


def told(value: float, unit: str) -> str:
    """12.4 s, 92 %, 4.2 GiB, 61 °C: no more digits than a limit needs."""
    if unit == "s":
        return span(value)
    if unit == YES:
        return "yes" if value >= 0.5 else "no"
    if unit == "share":
        return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.2g} %"
    if unit == "bytes":
        return f"{value / 2**30:.3g} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"
    number = f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
    return f"{number} {unit}".strip()


def span(seconds: float) -> str:
    """0.42 s, 12.4 s, 5 min, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"


def seen(rule: Rule, subject: str, value: float) -> str:
    """The rule's sentence about this figure."""
    return filled(rule, subject, told(value, rule.unit))


def filled(rule: Rule, subject: str, value: str) -> str:
    """The rule's sentence with these words in it."""
    words = {"value": value, "limit": told(rule.limit, rule.unit), "subject": subject}
    return _MARK.sub(lambda mark: words[mark[1]], rule.what).strip()


def condition(rule: Rule) -> str:
    """When it is raised and when it ends: above 10 s for 1 min; ends at 6 s for 5 min."""
    if rule.unit == YES:
        return f"when it is so for {span(rule.hold)}" if rule.hold else "at once"
    side = "above" if rule.above else "below"
    held = f" for {span(rule.hold)}" if rule.hold else ""
    rested = f" for {span(rule.rest)}" if rule.rest else ""
    return f"{side} {told(rule.limit, rule.unit)}{held}; ends at {told(rule.clear, rule.unit)}{rested}"


def headline(alert: Alert) -> str:
    """Its title, and whom it is about."""
    return f"{alert.title}: {alert.subject}" if alert.subject else alert.title
