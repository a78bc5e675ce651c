"""A sweep's curves as a Vega-Lite specification: throughput over slots, each shape a line, its knee marked. Pure."""

from __future__ import annotations

from app.comparison.batching.study import Shape, Study
from app.comparison.chart_parts import Look, Picture, ends, linear_domain, picture, said

_HEIGHT = 220  # pixels
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])  # one for each shape: told apart without colour


def throughput(study: Study, look: Look) -> Picture | None:
    """Tokens a second of all answers together, with their intervals. None before anything was measured."""
    rows = [_row(study, place, shape) for place, shape in enumerate(study.asked.shapes)]
    values = [value for row in rows for value in row]
    if not values:
        return None
    knees = {(knee.shape, knee.slots) for knee in study.knees}
    marked = [row for row in values if (_shape(study, row), row["slots"]) in knees]
    levels = sorted({row["slots"] for row in values})
    axis = {"values": levels, "title": "answers at once", "format": "d", "grid": False}
    domain = linear_domain([end for row in values for end in (row["low"], row["high"])], zero=True)
    x = {"field": "slots", "type": "quantitative", "axis": axis,
         "scale": {"domain": [levels[0] - 0.4, levels[-1] + 0.4], "nice": False}}  # fmt: skip
    y = {"field": "rate", "type": "quantitative", "axis": {"title": "tokens a second, all together", "tickCount": 5},
         "scale": {"domain": domain, "nice": False}}  # fmt: skip
    dash = {"field": "shape", "type": "nominal", "legend": None,
            "scale": {"domain": [shape.told for shape in study.asked.shapes],
                      "range": list(_DASHES[: len(study.asked.shapes)])}}  # fmt: skip
    tip = [{"field": "shape"}, {"field": "slots", "title": "at once"}, {"field": "told", "title": "tokens a second"}]
    colours = look.palette
    layers: list[Picture] = [
        {"data": {"values": values}, "mark": {"type": "rule", "color": colours.muted, "strokeWidth": 1.5},
         "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}}},
        {"data": {"values": values}, "mark": {"type": "line", "color": colours.accent, "strokeWidth": 2},
         "encoding": {"x": x, "y": y, "strokeDash": dash}},
        {"data": {"values": values}, "mark": {"type": "point", "filled": True, "size": 46, "color": colours.accent},
         "encoding": {"x": x, "y": y, "tooltip": tip}},
        {"data": {"values": marked},
         "mark": {"type": "point", "size": 190, "color": colours.text, "strokeWidth": 2, "filled": False},
         "encoding": {"x": x, "y": y, "tooltip": tip}},
        *({"data": {"values": [row]}, "mark": {"type": "text", "align": "right", "dx": 8, "dy": shift},
           "encoding": {"x": x, "y": y, "text": {"field": "shape"}}}
          for row, shift in _names([row[-1] for row in rows if row])),
    ]  # fmt: skip
    told = [f"{row['slots']} at once {row['told']} ({row['shape']})" for row in values]
    subtitle = "Prompt → answer of each request; bars are 95 % intervals over rounds, the ring is the knee."
    return picture(look, "Throughput", f"Tokens a second: {said(told)}", _HEIGHT, layers, subtitle)


def _row(study: Study, place: int, shape: Shape) -> list[Picture]:
    found = []
    for point in study.points:
        if point.shape == shape:
            low, high = ends(point.rate)
            found.append({
                "place": place, "shape": shape.told, "slots": point.slots, "rate": point.rate.value, "low": low,
                "high": high, "told": f"{point.rate.value:.1f}",
            })  # fmt: skip
    return found


def _names(last: list[Picture]) -> list[tuple[Picture, int]]:
    """The last point of each line, and how far from it (pixels down) its name stands: the highest above, the others
    below one another."""
    ranked = sorted(last, key=lambda row: -float(row["rate"]))
    return [(row, -14 if place == 0 else 2 + 14 * place) for place, row in enumerate(ranked)]


def _shape(study: Study, row: Picture) -> Shape:
    return study.asked.shapes[row["place"]]
