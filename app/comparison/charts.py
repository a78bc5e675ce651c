"""The pictures of a scorecard as Vega-Lite specifications: one for page, report and export. Pure.

Intervals are always drawn, logarithmic axes say so, names stand beside what they name, and nothing is told by colour
alone. A quantization has one colour everywhere, that of its true bits per weight.
"""

from __future__ import annotations

from app.comparison.chart_panels import domain_map, memory_stacks, prefill_bars, speed_bars
from app.comparison.chart_parts import (
    KLD_AXIS,
    Look,
    Picture,
    by_bits,
    colour_of,
    ends,
    figure,
    labels_of,
    log_domain,
    log_ticks,
    on_log,
    picture,
    said,
)
from app.comparison.chart_tradeoff import tradeoff
from app.comparison.results import Scorecard

__all__ = ["Look", "Picture", "divergence_ladder", "pictures_of", "tradeoff"]

_ROW = 26  # pixels: height of one variant


def pictures_of(card: Scorecard, look: Look | None = None, *, budget: int | None = None) -> dict[str, Picture]:
    """All pictures that its figures allow, by name, in the order in which to show them: tradeoff, divergence, memory,
    decode, prefill, domains. `budget` is the machine's limit in bytes."""
    look = look or Look()
    drawn = {
        "tradeoff": tradeoff(card, look),
        "divergence": divergence_ladder(card, look),
        "memory": memory_stacks(card, look, budget),
        "decode": speed_bars(card, look),
        "prefill": prefill_bars(card, look),
        "domains": domain_map(card, look),
    }
    return {name: made for name, made in drawn.items() if made is not None}


def divergence_ladder(card: Scorecard, look: Look) -> Picture | None:
    """KLD of each variant on a logarithmic axis: estimate, interval, lower bound, and the machine's noise floor."""
    labels = labels_of(card)
    measured = [(one, one.quality) for one in by_bits(card) if one.quality is not None]
    if not measured:
        return None
    rows, values = [], []
    for one, quality in measured:
        low, high = ends(quality.kld)
        values += [low, high, quality.kld_bound.value]
        rows.append(
            {
                "label": labels[one.name],
                "value": on_log(quality.kld.value),
                "low": on_log(low),
                "high": on_log(high),
                "bound": on_log(quality.kld_bound.value),
                "colour": colour_of(one),
                "text": figure(quality.kld.value),
                "told": f"{figure(quality.kld.value)} [{figure(low)}, {figure(high)}], "
                f"at least {figure(quality.kld_bound.value)}",
            }
        )
    floor = max(quality.floor for _, quality in measured)
    domain = log_domain([*values, *([floor] if floor > 0 else [])])
    domain[1] *= 2.2  # room for the figure beside the last bar
    layers = _floor(floor, look) + _ladder_rows(rows, domain, [str(row["label"]) for row in rows], look)
    subtitle = "Dot: estimate; bar: 95 % interval; tick: guaranteed lower bound. " + (
        f"Noise floor of this machine {figure(floor)} (dashed)."
        if floor > 0
        else "Noise floor of this machine: exactly 0."
    )
    description = "KL divergence from the reference: " + said([f"{row['label']} {row['told']}" for row in rows])
    return picture(look, "Divergence from the reference", description, _ROW * len(rows), layers, subtitle)


def _ladder_rows(rows: list[Picture], domain: list[float], order: list[str], look: Look) -> list[Picture]:
    x = {
        "field": "value",
        "type": "quantitative",
        "scale": {"type": "log", "domain": domain, "nice": False},
        "axis": {"title": KLD_AXIS, "values": log_ticks(domain), "format": "~g"},
    }
    y = {"field": "label", "type": "nominal", "sort": order, "axis": {"title": None, "labelColor": look.palette.text}}
    colour = {"field": "colour", "type": "nominal", "scale": None}
    tip = {"tooltip": [{"field": "label", "title": "variant"}, {"field": "told", "title": "KLD"}]}
    data = {"data": {"values": rows}}
    span = {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y, "color": colour} | tip
    text = {"type": "text", "align": "left", "dx": 6}
    return [
        data | {"mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.55}, "encoding": span},
        data
        | {
            "mark": {"type": "tick", "thickness": 2, "size": 12},
            "encoding": {"x": x | {"field": "bound"}, "y": y, "color": colour},
        },
        data
        | {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour} | tip,
        },
        data | {"mark": text, "encoding": {"x": x | {"field": "high"}, "y": y, "text": {"field": "text"}}},
    ]


def _floor(floor: float, look: Look) -> list[Picture]:
    if floor <= 0:
        return []
    rule = {"type": "rule", "strokeDash": [3, 3], "color": look.palette.warn}
    return [
        {"data": {"values": [{"x": floor}]}, "mark": rule, "encoding": {"x": {"field": "x", "type": "quantitative"}}}
    ]
