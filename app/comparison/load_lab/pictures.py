"""The pictures of a load run as Vega-Lite specifications: waiting over its course, and every percentile. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from app.comparison.chart_parts import Look, Picture, linear_domain, log_ticks, picture
from app.comparison.load_lab.generator import OK
from app.comparison.load_lab.runs import LoadRun
from app.comparison.load_lab.telling import seconds
from app.core.generation import Json

MOST_DOTS = 600
_HEIGHT = 220
_PERCENTS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_TICKS = (0.5, 0.9, 0.95, 0.99, 0.999)
Row = Mapping[str, Json]


def pictures_of(run: LoadRun, rows: Sequence[Json], look: Look) -> dict[str, Picture]:
    """All that the rows of a run allow, by name."""
    requests = [row for row in rows if isinstance(row, dict)]
    drawn = {"course": course(run, requests, look), "percentiles": percentiles(requests, look)}
    return {name: made for name, made in drawn.items() if made is not None}


def course(run: LoadRun, rows: Sequence[Row], look: Look) -> Picture | None:
    """A dot for each answered request at the moment it was meant to be sent; a tick at the top for each that was not
    answered. Many requests are drawn in part, evenly."""
    answered = [(row, first - due) for row in rows if (due := _number(row, "due")) is not None
                and row.get("status") == OK and (first := _number(row, "first")) is not None]  # fmt: skip
    if not answered:
        return None
    lost = [row for row in rows if row.get("status") != OK]
    step = math.ceil(len(answered) / MOST_DOTS)
    dots: list[Picture] = [
        {"due": row["due"], "ttft": wait, "model": row["model"], "told": seconds(wait)}
        for row, wait in answered[::step]
    ]
    limit = run.plan.limits.ttft
    top = linear_domain([wait for _, wait in answered] + ([limit] if limit else []), zero=True)
    several = len(run.plan.models) > 1
    x = {"field": "due", "type": "quantitative", "axis": {"title": "seconds since the start"}, "scale": {"zero": True}}
    y = {"field": "ttft", "type": "quantitative", "axis": {"title": "TTFT, seconds"}, "scale": {"domain": top}}
    colour: Picture = {"field": "model", "type": "nominal", "legend": {"title": None, "orient": "bottom"}}
    colour["scale"] = {"range": [look.palette.accent, look.palette.warn, look.palette.good, look.palette.muted]}
    shape: Picture = {"field": "model", "type": "nominal", "legend": {"title": None, "orient": "bottom"}}
    tip = [
        {"field": "model"},
        {"field": "due", "title": "asked at", "format": ".2f"},
        {"field": "told", "title": "TTFT"},
    ]
    marks: Picture = {
        "data": {"values": dots}, "mark": {"type": "point", "filled": True, "size": 18, "opacity": 0.7,
                                           "color": look.palette.accent},
        "encoding": {"x": x, "y": y, "tooltip": tip} | ({"color": colour, "shape": shape} if several else {}),
    }  # fmt: skip
    layers = [marks, *_limit(limit, look), *_lost(lost, look)]
    subtitle = "Each dot a request, from the moment it was meant to be sent."
    if step > 1:
        subtitle += f" One of {step} is drawn."
    if lost:
        subtitle += f" Ticks at the top: {len(lost)} without an answer."
    waits = sorted(wait for _, wait in answered)
    told = f"Time to first token of {len(answered)} requests, from {seconds(waits[0])} to {seconds(waits[-1])}."
    return picture(look, "Waiting over the run", told, _HEIGHT, layers, subtitle)


def _limit(limit: float | None, look: Look) -> list[Picture]:
    if limit is None:
        return []
    rule = {"type": "rule", "strokeDash": [4, 3], "color": look.palette.warn}
    text = {"type": "text", "align": "left", "dx": 4, "dy": -6, "color": look.palette.warn, "x": 0}
    y = {"field": "y", "type": "quantitative"}
    data = {"data": {"values": [{"y": limit, "text": f"limit {seconds(limit)}"}]}}
    return [
        data | {"mark": rule, "encoding": {"y": y}},
        data | {"mark": text, "encoding": {"y": y, "text": {"field": "text"}}},
    ]


def _lost(rows: Sequence[Row], look: Look) -> list[Picture]:
    if not rows:
        return []
    step = math.ceil(len(rows) / MOST_DOTS)
    values = [{"due": row.get("due"), "status": row.get("status")} for row in rows[::step]]
    mark = {"type": "tick", "orient": "vertical", "size": 10, "thickness": 1.5, "color": look.palette.bad, "y": 5}
    x = {"field": "due", "type": "quantitative"}
    tip = [{"field": "status"}, {"field": "due", "title": "asked at", "format": ".2f"}]
    return [{"data": {"values": values}, "mark": mark, "encoding": {"x": x, "tooltip": tip}}]


def percentiles(rows: Sequence[Row], look: Look) -> Picture | None:
    """How long what share of the requests waited at most; the axis is stretched towards the slowest."""
    lines = [("E2E", "end", "due", []), ("TTFT", "first", "due", []), ("TTFT from sending", "first", "sent", [6, 3])]
    drawn: list[Picture] = []
    ends: list[Picture] = []
    layers: list[Picture] = []
    for name, to, since, dash in lines:
        waits = sorted(_waits(rows, to, since))
        if len(waits) < 2:
            return None
        points: list[Picture] = [
            {"name": name, "nines": _stretched(share), "wait": max(waits[math.ceil(share * len(waits)) - 1], 1e-4),
             "share": f"{100 * share:g} %"}
            for share in _PERCENTS if (1 - share) * len(waits) >= 1 or share <= 0.5
        ]  # fmt: skip
        for point in points:
            point["told"] = seconds(float(point["wait"]))
        drawn += points
        ends.append({**points[-1], "dash": dash})
        layers.append(_line(points, dash, look))
    waited = [float(point["wait"]) for point in drawn]
    domain = [min(waited) / 1.4, max(waited) * 1.4]
    for layer in layers:
        layer["encoding"]["y"]["scale"]["domain"] = domain
        layer["encoding"]["y"]["axis"]["values"] = log_ticks(domain)
    told = "; ".join(f"{end['name']} {end['told']} for {end['share']}" for end in ends)
    subtitle = "Top line: E2E; below: TTFT; dashed: TTFT from the sending, as a closed loop tells it. Log axis."
    return picture(look, "How long at most", told, _HEIGHT, layers, subtitle)


def _line(points: list[Picture], dash: Sequence[int], look: Look) -> Picture:
    ticks = [_stretched(share) for share in _TICKS]
    labels = "{" + ", ".join(f"'{_stretched(share):.3f}': '{100 * share:g} %'" for share in _TICKS) + "}"
    axis = {
        "title": "share of the requests", "values": ticks, "labelExpr": f"{labels}[format(datum.value, '.3f')]",
        "labelOverlap": "greedy",
    }  # fmt: skip
    x = {"field": "nines", "type": "quantitative", "axis": axis, "scale": {"nice": False}}
    y = {"field": "wait", "type": "quantitative", "scale": {"type": "log", "nice": False},
         "axis": {"title": "seconds (log axis)", "format": "~g"}}  # fmt: skip
    name = points[0]["name"]
    colour = look.palette.muted if dash else look.palette.accent if name == "TTFT" else look.palette.text
    mark: Picture = {"type": "line", "strokeWidth": 2, "color": colour}
    mark["point"] = False if dash else {"filled": True, "color": colour, "size": 24}
    tip = [{"field": "name", "title": " "}, {"field": "share"}, {"field": "told", "title": "at most"}]
    mark |= {"strokeDash": list(dash)} if dash else {}
    return {"data": {"values": points}, "mark": mark, "encoding": {"x": x, "y": y, "tooltip": tip}}


def _stretched(share: float) -> float:
    """Each further nine as far again."""
    return -math.log10(1 - share)


def _waits(rows: Sequence[Row], to: str, since: str) -> list[float]:
    return [
        end - begin for row in rows
        if row.get("status") == OK and (end := _number(row, to)) is not None
        and (begin := _number(row, since)) is not None
    ]  # fmt: skip


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else None
