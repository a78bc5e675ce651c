"""The rules as Prometheus's alerting rules (2.42 or newer), for those whose alerts come from there.

They look at `loupe_watched`, the very figures that Loupe's own rules look at, so the two cannot mean different things
by a percentile. An alert that is firing goes on until the figure is back at `clear`, and for as long as its rest. That
Loupe itself is gone only Prometheus can say: one more rule.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from app.core.alerts import Rule, Severity
from app.services.alerting.words import filled

AWAY = "LoupeAway"
HEAD = (
    "# Alerting rules for Loupe, for Prometheus 2.42 or newer. Generated: python -m app alerts --prometheus\n"
    "# They want the job that scrapes Loupe's /metrics to be called loupe.\n"
)


def as_rules(rules: Sequence[Rule]) -> str:
    """A rule file, YAML. Rules that are off are left out."""
    lines = [HEAD.rstrip("\n"), "groups:", "  - name: loupe", "    interval: 5s", "    rules:"]
    for rule in rules:
        if rule.on:
            lines += _entry(rule)
    lines += [
        f"      - alert: {AWAY}",
        '        expr: up{job="loupe"} == 0 or absent(up{job="loupe"})',
        "        for: 1m",
        "        labels:",
        f"          severity: {Severity.CRITICAL}",
        "        annotations:",
        '          summary: "Loupe does not answer"',
        '          description: "Prometheus cannot scrape it. Is it there, and does it listen where the job says?"',
    ]
    return "\n".join(lines) + "\n"


def alert_name(rule: Rule) -> str:
    """LoupeHostDown for host_down."""
    return "Loupe" + "".join(word.capitalize() for word in rule.name.split("_") if word)


def expression(rule: Rule) -> str:
    figure, name = f"loupe_watched{{series={json.dumps(rule.series)}}}", alert_name(rule)
    beyond, not_back = (">", ">") if rule.above else ("<", "<")
    if rule.clear == rule.limit:
        return f"{figure} {beyond} {rule.limit:.15g}"
    fires = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
    return (
        f"{figure} {beyond} {rule.limit:.15g} or "
        f"({figure} {not_back} {rule.clear:.15g} and on (job, instance, series, subject) {fires})"
    )


def _entry(rule: Rule) -> Iterator[str]:
    yield f"      - alert: {alert_name(rule)}"
    yield f"        expr: {_text(expression(rule))}"
    if rule.hold:
        yield f"        for: {rule.hold:.0f}s"
    if rule.rest:
        yield f"        keep_firing_for: {rule.rest:.0f}s"
    yield "        labels:"
    yield f"          severity: {rule.severity}"
    yield f"          rule: {rule.name}"
    yield "        annotations:"
    yield f"          summary: {_text(rule.title + '{{ with $labels.subject }}: {{ . }}{{ end }}')}"
    yield f"          description: {_text(_sentence(rule))}"
    yield f"          advice: {_text(_plain(rule.advice))}"


def _sentence(rule: Rule) -> str:
    """The rule's own sentence, with Prometheus's words for the figure and whom it is about."""
    marks = {
        "s": "{{ $value | humanizeDuration }}", "share": "{{ $value | humanizePercentage }}",
        "bytes": "{{ $value | humanize1024 }}B",
    }  # fmt: skip
    value = marks.get(rule.unit, "{{ $value | humanize }}" + (f" {rule.unit}" if rule.unit else ""))
    return filled(replace(rule, what=_plain(rule.what)), "{{ $labels.subject }}", value)


def _plain(text: str) -> str:
    """Somebody's braces are no template of Prometheus's."""
    return text.replace("{{", "{").replace("}}", "}")


def _text(text: str) -> str:
    """A string of JSON is one of YAML."""
    return json.dumps(text, ensure_ascii=False)
