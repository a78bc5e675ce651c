"""Quality against speed, as a Vega-Lite specification. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.comparison.chart_parts import (
    KLD_AXIS,
    Look,
    Picture,
    by_bits,
    colour_of,
    ends,
    figure,
    label_places,
    labels_of,
    linear_domain,
    log_domain,
    log_ticks,
    on_log,
    picture,
    said,
)
from app.comparison.results import Estimate, Scorecard, VariantResult

_PLANE = 260  # pixels: height
_MARGIN = 60  # pixels: what the axis takes of the width


@dataclass(frozen=True, slots=True)
class _Point:
    """One variant on the plane of quality and speed."""

    variant: VariantResult
    label: str
    kld: Estimate
    speed: Estimate
    dominated: bool = False


def tradeoff(card: Scorecard, look: Look) -> Picture | None:
    """Divergence against decode speed with bars both ways, the Pareto front, and what is dominated greyed."""
    points = _points(card)
    if not points:
        return None
    yardstick = next((one for one in card.variants if one.reference), None)
    reference = None if yardstick is None or yardstick.speed is None else yardstick.speed.decode_tps
    top = "the reference" if yardstick is None else labels_of(card)[yardstick.name]
    speeds = [end for point in points for end in ends(point.speed)] + ([reference.value] if reference else [])
    x = linear_domain(speeds, zero=False)
    y = log_domain([end for point in points for end in (*ends(point.kld), point.kld.value)])
    front = sorted((one for one in points if not one.dominated), key=lambda one: one.speed.value)
    behind = [one.label for one in points if one.dominated]
    grey = look.palette.muted
    layers: list[Picture] = []
    if reference is not None:
        layers += _reference_line(top, look, reference)
    if len(front) > 1:
        rows = [{"x": one.speed.value, "y": on_log(one.kld.value)} for one in front]
        line = {"type": "line", "strokeDash": [4, 3], "color": grey, "strokeWidth": 1.2, "interpolate": "linear"}
        layers.append({"data": {"values": rows}, "mark": line, "encoding": _plane(x, y) | {"order": {"field": "x"}}})
    layers += _crosses(points, look, x, y)
    subtitle = f"Up is closer to {top}, right is faster; bars are 95 % intervals. "
    subtitle += (
        f"Grey: another one is better in both ({said(behind)})." if behind else "None is worse than another in both."
    )
    description = "Quality against speed. On the front: " + said(
        [f"{one.label} at {one.speed.value:.1f} tokens a second, KLD {figure(one.kld.value)}" for one in front]
    )
    return picture(look, "Quality against speed", description, _PLANE, layers, subtitle)


def _points(card: Scorecard) -> list[_Point]:
    labels = labels_of(card)
    found = [
        _Point(one, labels[one.name], one.quality.kld, one.speed.decode_tps)
        for one in by_bits(card)
        if one.quality is not None and one.speed is not None and one.speed.decode_tps is not None
    ]
    return [
        _Point(
            one.variant,
            one.label,
            one.kld,
            one.speed,
            any(_dominates(other, one) for other in found if other is not one),
        )
        for one in found
    ]


def _dominates(one: _Point, other: _Point) -> bool:
    """Better in both, and beyond its interval in one of them."""
    better = one.kld.value <= other.kld.value and one.speed.value >= other.speed.value
    return better and (ends(one.kld)[1] < ends(other.kld)[0] or ends(one.speed)[0] > ends(other.speed)[1])


def _plane(x: list[float], y: list[float]) -> Picture:
    return {
        "x": {
            "field": "x",
            "type": "quantitative",
            "scale": {"domain": x, "nice": False, "zero": False},
            "axis": {"title": "decode, tokens/s", "tickCount": 6, "grid": True},
        },
        "y": {
            "field": "y",
            "type": "quantitative",
            "scale": {"type": "log", "domain": y, "reverse": True, "nice": False},
            "axis": {"title": KLD_AXIS, "values": log_ticks(y), "format": "~g", "grid": True},
        },
    }


def _crosses(points: list[_Point], look: Look, x: list[float], y: list[float]) -> list[Picture]:
    """Bars both ways, a mark (hollow where dominated) and a name for each."""
    rows: list[Picture] = []
    for one, (right, at) in zip(points, _label_places(points, look, x, y), strict=True):
        (slow, fast), (low, high) = ends(one.speed), ends(one.kld)
        rows.append(
            {
                "label": one.label,
                "x": one.speed.value,
                "y": on_log(one.kld.value),
                "x1": slow,
                "x2": fast,
                "y1": on_log(low),
                "y2": on_log(high),
                "colour": look.palette.muted if one.dominated else colour_of(one.variant),
                "at": at,
                "right": right,
                "fill": "transparent" if one.dominated else colour_of(one.variant),
                "told": f"{one.speed.value:.1f} [{slow:.1f}, {fast:.1f}] tokens/s, "
                f"KLD {figure(one.kld.value)} [{figure(low)}, {figure(high)}]",
            }
        )
    plane = _plane(x, y)
    colour = {"field": "colour", "type": "nominal", "scale": None}
    tip = {"tooltip": [{"field": "label", "title": "variant"}, {"field": "told", "title": "figures"}]}
    across = {"x": plane["x"] | {"field": "x1"}, "x2": {"field": "x2"}, "y": plane["y"], "color": colour}
    along = {"y": plane["y"] | {"field": "y1"}, "y2": {"field": "y2"}, "x": plane["x"], "color": colour}
    dot = {"type": "point", "filled": False, "size": 70, "strokeWidth": 2, "opacity": 1}
    return [
        {"data": {"values": rows}, "mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": across},
        {"data": {"values": rows}, "mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": along},
        {
            "data": {"values": rows},
            "mark": dot,
            "encoding": plane | {"stroke": colour, "fill": {"field": "fill", "type": "nominal", "scale": None}} | tip,
        },
        *(_names(rows, plane | tip, right=right) for right in (True, False)),
    ]


def _names(rows: list[Picture], plane: Picture, *, right: bool) -> Picture:
    """The names that stand on one side of their points."""
    mark = {"type": "text", "align": "left" if right else "right", "dx": 8 if right else -8}
    encoding = plane | {"y": plane["y"] | {"field": "at"}, "text": {"field": "label"}}
    return {"data": {"values": [row for row in rows if row["right"] == right]}, "mark": mark, "encoding": encoding}


def _label_places(points: list[_Point], look: Look, x: list[float], y: list[float]) -> list[tuple[bool, float]]:
    """For each name, whether it stands to the right of its point, and where on the axis of divergence."""
    width, (top, bottom) = look.pixels - _MARGIN, (math.log(end) for end in y)
    pixels = [
        (
            (one.speed.value - x[0]) / (x[1] - x[0]) * width,
            (math.log(on_log(one.kld.value)) - top) / (bottom - top) * _PLANE,
            one.label,
        )
        for one in points
    ]
    places = label_places(pixels, width, _PLANE)
    return [(place.right, math.exp(top + place.y / _PLANE * (bottom - top))) for place in places]


def _reference_line(label: str, look: Look, speed: Estimate) -> list[Picture]:
    """The reference has no divergence to draw: a line at its speed."""
    rows = [{"x": speed.value, "label": f"{label} (reference)"}]
    where = {"x": {"field": "x", "type": "quantitative"}}
    return [
        {
            "data": {"values": rows},
            "mark": {"type": "rule", "color": look.palette.muted, "strokeDash": [2, 3]},
            "encoding": where,
        },
        {
            "data": {"values": rows},
            "mark": {
                "type": "text",
                "align": "left",
                "baseline": "bottom",
                "dx": 4,
                "y": "height",
                "dy": -4,
                "color": look.palette.muted,
            },
            "encoding": where | {"text": {"field": "label"}},
        },
    ]
