"""The Grafana dashboard of Loupe: `python -m tests.grafana > deploy/grafana/loupe.json`.

Made from the metrics' names and from the alert rules, whose limits are drawn as lines: a test holds the file against
this, and asks a real Prometheus every question in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from app.core.alerts import Rule
from app.services.alerting.shipped import SHIPPED

Json = dict[str, Any]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24  # Grafana's columns
ON = '{instance=~"$instance"}'
UNITS = {"s": "s", "share": "percentunit", "bytes": "bytes", "°C": "celsius", "W": "watt"}


def with_(*labels: str) -> str:
    """A selector: of the chosen instances, and these labels."""
    return "{" + ", ".join(['instance=~"$instance"', *labels]) + "}"


OUTPUT, HITS = with_('kind="output"'), with_('cache="hit"')


def quantiles(metric: str) -> list[tuple[str, str]]:
    rate = f"sum by (le) (rate(loupe_{metric}_bucket{ON}[5m]))"
    return [(f"histogram_quantile({share}, {rate})", name) for share, name in ((0.5, "p50"), (0.95, "p95"))]


def hardware(*series: str) -> list[tuple[str, str]]:
    return [("loupe_hardware" + with_(f"series=~{json.dumps(name)}"), "{{series}}") for name in series]


STATS: tuple[tuple[str, str, str], ...] = (
    ("Open alerts", f"sum(loupe_alerts{ON})", "short"),
    ("Hosts that answer", f"sum(loupe_host_up{ON})", "short"),
    ("Running", f"sum(loupe_queue_running{ON})", "short"),
    ("Waiting", f"sum(loupe_queue_waiting{ON})", "short"),
    ("Tokens a second", f"sum(rate(loupe_tokens_total{OUTPUT}[1m]))", "short"),
    ("From the cache, 5 min",
     f"sum(rate(loupe_requests_total{HITS}[5m])) / sum(rate(loupe_requests_total{ON}[5m]))",
     "percentunit"),
)  # fmt: skip
SERIES: tuple[tuple[str, str, list[tuple[str, str]]], ...] = (
    ("Time to the first token", "s", quantiles("time_to_first_token_seconds")),
    ("Time per output token", "s", quantiles("time_per_output_token_seconds")),
    ("Whole requests", "s", quantiles("request_seconds")),
    ("Requests a second", "reqps", [(f"sum by (status) (rate(loupe_requests_total{ON}[1m]))", "{{status}}")]),
    ("Queue", "short", [
        (f"loupe_queue_waiting{ON}", "waiting"), (f"loupe_queue_running{ON}", "running"),
    ]),
    ("Waits in the queue, p95", "s", [(
        f"histogram_quantile(0.95, sum by (le, class) (rate(loupe_queue_wait_seconds_bucket{ON}[5m])))", "{{class}}",
    )]),
    ("Tokens a second, by model", "short", [
        (f"sum by (model) (rate(loupe_model_tokens_total{OUTPUT}[1m]))", "{{model}}"),
    ]),
    ("Speed of decoding, by model (tokens/s)", "short", [(
        f"sum by (model) (rate(loupe_model_tokens_total{OUTPUT}[5m]))"
        f" / sum by (model) (rate(loupe_model_decode_seconds_total{ON}[5m]))", "{{model}}",
    )]),
    ("Where the time goes (s a second, by layer)", "s", [
        (f"sum by (layer) (rate(loupe_layer_seconds_sum{ON}[5m]))", "{{layer}}"),
    ]),
    ("Hosts (1: answers)", "short", [(f"loupe_host_up{ON}", "{{host}}")]),
    ("Processor", "percentunit", hardware("cpu")),
    ("Memory", "bytes", hardware("memory_used", "swap_used")),
    ("GPU utilisation", "percentunit", hardware("gpu[0-9]+.utilisation")),
    ("GPU memory", "bytes", hardware("gpu[0-9]+.memory_used")),
    ("Power", "watt", hardware("power", "gpu[0-9]+.power")),
    ("Network and disk", "Bps", hardware("network_(sent|received)", "disk_(read|written)")),
)  # fmt: skip


def dashboard(rules: Sequence[Rule] = SHIPPED) -> Json:
    panels: list[Json] = [_stat(*stat) for stat in STATS]
    panels += [_timeseries(*series) for series in SERIES]
    panels.append({"type": "row", "title": "What the alert rules look at", "w": WIDTH, "h": 1})
    panels += [_rule(rule) for rule in rules]
    return {
        "uid": "loupe", "title": "Loupe", "tags": ["loupe"], "timezone": "browser", "schemaVersion": 39, "version": 1,
        "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "editable": True,
        "templating": {"list": [
            {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
            {"name": "instance", "label": "Loupe", "type": "query", "datasource": SOURCE, "includeAll": True,
             "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "refresh": 2,
             "query": {"query": "label_values(loupe_queue_running, instance)", "refId": "instance"}},
        ]},
        "annotations": {"list": [{
            "name": "Alerts", "enable": True, "datasource": SOURCE, "iconColor": "red", "titleFormat": "{{alertname}}",
            "textFormat": "{{subject}}", "expr": 'ALERTS{alertname=~"Loupe.*", alertstate="firing"}', "step": "30s",
        }]},
        "panels": _placed(panels),
    }  # fmt: skip


def _stat(title: str, expression: str, unit: str) -> Json:
    return {
        "type": "stat", "title": title, "w": WIDTH // len(STATS), "h": 4, "datasource": SOURCE,
        "targets": _targets([(expression, "")]), "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "options": {"graphMode": "area", "colorMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}},
    }  # fmt: skip


def _timeseries(title: str, unit: str, targets: Sequence[tuple[str, str]], **more: Any) -> Json:
    return {
        "type": "timeseries", "title": title, "w": WIDTH // 2, "h": 8, "datasource": SOURCE,
        "targets": _targets(targets),
        "fieldConfig": {"defaults": {"unit": unit, "custom": {"fillOpacity": 8}} | more, "overrides": []},
        "options": {"tooltip": {"mode": "multi"}, "legend": {"displayMode": "list", "placement": "bottom"}},
    }  # fmt: skip


def _rule(rule: Rule) -> Json:
    """Its figure, with a line at its limit and one at which the alert ends."""
    beyond, band = {"color": "red", "value": rule.limit}, {"color": "orange", "value": rule.clear}
    steps = [{"color": "green", "value": None}, band, beyond]
    if not rule.above:
        steps = [{"color": "red", "value": None}, {"color": "orange", "value": rule.limit},
                 {"color": "green", "value": rule.clear}]  # fmt: skip
    selector = with_(f"series={json.dumps(rule.series)}")
    panel = _timeseries(
        rule.title, UNITS.get(rule.unit, "short"), [(f"loupe_watched{selector}", "{{subject}}")],
        thresholds={"mode": "absolute", "steps": steps},
        custom={"fillOpacity": 0, "thresholdsStyle": {"mode": "dashed"}},
    )  # fmt: skip
    return {**panel, "description": rule.advice, "w": WIDTH // 3, "h": 7}


def _targets(asked: Sequence[tuple[str, str]]) -> list[Json]:
    return [
        {"refId": chr(ord("A") + number), "expr": expression, "legendFormat": legend or "__auto", "datasource": SOURCE}
        for number, (expression, legend) in enumerate(asked)
    ]


def _placed(panels: Sequence[Json]) -> list[Json]:
    """From left to right, a new line where one is full."""
    placed, x, y, height = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        width, own = panel.pop("w"), panel.pop("h")
        if x + width > WIDTH:
            x, y, height = 0, y + height, 0
        placed.append({"id": number, **panel, "gridPos": {"x": x, "y": y, "w": width, "h": own}})
        x, height = x + width, max(height, own)
    return placed


def text() -> str:
    return json.dumps(dashboard(), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    print(text(), end="")
