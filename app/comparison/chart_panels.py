"""Memory stacks, tokens a second, and divergence by domain, as Vega-Lite specifications. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

from app.comparison.chart_parts import (
    GIB,
    MIB,
    Look,
    Picture,
    by_bits,
    colour_of,
    ends,
    labels_of,
    linear_domain,
    on_log,
    picture,
    said,
)
from app.comparison.results import Estimate, Scorecard, Speed

_ROW = 26  # pixels: height of one variant
FAR = 4  # times the largest bar: a limit beyond is told and not drawn
_OVERHANG = 20  # pixels: what is left of the last slanted name beyond its column
_PARTS = ("weights", "copies", "kv", "state", "compute", "output")
_WORDS = {
    "weights": "weights",
    "copies": "copies",
    "kv": "cache",
    "state": "state",
    "compute": "buffers",
    "output": "output",
}
_STRENGTHS = (1.0, 0.8, 0.6, 0.48, 0.36, 0.24)  # of a variant's colour, one for each part
_COLD, _HOT = (18, 122, 132), (196, 84, 36)  # the ends of the map: those of the scale of quantizations


def memory_stacks(card: Scorecard, look: Look, budget: int | None = None) -> Picture | None:
    """What each variant takes by parts, what the host reports, and the machine's limit."""
    labels = labels_of(card)
    found = [
        (one, one.memory)
        for one in by_bits(card)
        if one.memory is not None and (one.memory.parts or one.memory.measured)
    ]
    if not found:
        return None
    sizes = [size for _, one in found for size in (sum(one.parts.values()), one.measured or 0)]
    far = budget is not None and budget > FAR * max(sizes)  # drawn in, it would make the bars unreadable
    sizes += [budget] if budget and not far else []
    unit, name = (GIB, "GiB") if max(sizes) >= GIB else (MIB, "MiB")
    digits = 2 if unit == GIB else 0
    stacks: list[Picture] = []
    marks: list[Picture] = []
    for variant, memory in found:
        label, at = labels[variant.name], 0.0
        for part in sorted(memory.parts, key=lambda one: _PARTS.index(one) if one in _PARTS else len(_PARTS)):
            size = memory.parts[part] / unit
            row = {"label": label, "part": part, "from": at, "to": at + size, "colour": colour_of(variant)}
            stacks.append(row | {"told": f"{size:.2f} {name}"})
            at += size
        measured = None if memory.measured is None else memory.measured / unit
        told = [f"{size:.{digits}f}" for size in (at, measured) if size is not None]
        text = " | ".join(told)
        marks.append({"label": label, "measured": measured, "text": text})
    domain = linear_domain([size / unit for size in sizes], zero=True)
    domain[1] *= 1.35  # room for the figures, beyond the limit
    layers = _stack_layers(stacks, marks, domain, name, look) + _limit(None if far else budget, unit, name, look)
    context = found[0][1].context
    shown = [_WORDS[part] for part in _PARTS if any(row["part"] == part for row in stacks)]
    subtitle = (
        f"With {context:,} tokens of context. Bar: predicted (from the left: {', '.join(shown)}); line: measured."
    )
    if far and budget is not None:
        subtitle += f" The limit, {budget / GIB:.1f} GiB, lies far beyond the right edge."
    description = "Memory, predicted and measured: " + said([f"{row['label']} {row['text']} {name}" for row in marks])
    return picture(look, "Memory", description, _ROW * len(marks), layers, subtitle)


def _stack_layers(
    stacks: list[Picture], marks: list[Picture], domain: list[float], unit: str, look: Look
) -> list[Picture]:
    x = {"type": "quantitative", "scale": {"domain": domain, "nice": False}, "axis": {"title": unit, "tickCount": 6}}
    y = {
        "field": "label",
        "type": "nominal",
        "sort": [row["label"] for row in marks],
        "axis": {"title": None, "labelColor": look.palette.text},
    }
    parts = [part for part in _PARTS if any(row["part"] == part for row in stacks)]
    strength = {
        "field": "part",
        "type": "nominal",
        "scale": {"domain": parts, "range": [_STRENGTHS[_PARTS.index(part)] for part in parts]},
        "legend": None,
    }
    bar = {"type": "bar", "height": {"band": 0.6}, "stroke": look.palette.ground, "strokeWidth": 1}
    tip = [{"field": "label", "title": "variant"}, {"field": "part"}, {"field": "told", "title": "takes"}]
    across = {"x": x | {"field": "from"}, "x2": {"field": "to"}, "y": y, "tooltip": tip}
    colour = {"field": "colour", "type": "nominal", "scale": None}
    told = [row for row in marks if row["measured"] is not None]
    tick = {"type": "tick", "thickness": 2.5, "size": 22, "color": look.palette.text}
    text = {"type": "text", "align": "right", "x": "width"}
    return [
        {"data": {"values": stacks}, "mark": bar, "encoding": across | {"color": colour, "fillOpacity": strength}},
        {"data": {"values": told}, "mark": tick, "encoding": {"x": x | {"field": "measured"}, "y": y}},
        {
            "data": {"values": marks},
            "mark": text,
            "encoding": {"y": y, "text": {"field": "text"}},
        },
    ]


def _limit(budget: int | None, unit: int, name: str, look: Look) -> list[Picture]:
    if not budget:
        return []
    rows = [{"x": budget / unit, "text": f"limit {budget / unit:.1f} {name}"}]
    where = {"x": {"field": "x", "type": "quantitative"}}
    rule = {"type": "rule", "color": look.palette.bad, "strokeWidth": 2, "strokeDash": [6, 3]}
    text = {"type": "text", "align": "right", "baseline": "bottom", "dx": 3, "y": -3, "color": look.palette.bad}
    return [
        {"data": {"values": rows}, "mark": rule, "encoding": where},
        {"data": {"values": rows}, "mark": text, "encoding": where | {"text": {"field": "text"}}},
    ]


def speed_bars(card: Scorecard, look: Look) -> Picture | None:
    return _bars(card, look, "Answering", "decode, tokens/s", lambda speed: speed.decode_tps)


def prefill_bars(card: Scorecard, look: Look) -> Picture | None:
    return _bars(card, look, "Reading the prompt", "prefill, tokens/s", lambda speed: speed.prefill_tps)


def _bars(card: Scorecard, look: Look, title: str, axis: str, of: Callable[[Speed], Estimate | None]) -> Picture | None:
    """Tokens a second with their intervals."""
    labels = labels_of(card)
    rows: list[Picture] = []
    for one in by_bits(card):
        speed = None if one.speed is None else of(one.speed)
        if speed is None:
            continue
        low, high = ends(speed)
        rows.append(
            {
                "label": labels[one.name],
                "value": speed.value,
                "low": low,
                "high": high,
                "colour": colour_of(one),
                "text": f"{speed.value:.1f}" if speed.value < 1000 else f"{speed.value:,.0f}",
                "told": f"{speed.value:.1f} [{low:.1f}, {high:.1f}]",
            }
        )
    if not rows:
        return None
    domain = linear_domain([float(row["high"]) for row in rows], zero=True)
    domain[1] *= 1.18  # room for the figures
    x = {
        "field": "value",
        "type": "quantitative",
        "scale": {"domain": domain, "nice": False},
        "axis": {"title": axis, "tickCount": 6},
    }
    y = {
        "field": "label",
        "type": "nominal",
        "sort": [row["label"] for row in rows],
        "axis": {"title": None, "labelColor": look.palette.text},
    }
    tip = [{"field": "label", "title": "variant"}, {"field": "told", "title": axis}]
    data, text = {"data": {"values": rows}}, {"type": "text", "align": "left", "dx": 6}
    colour = {"field": "colour", "type": "nominal", "scale": None}
    layers: list[Picture] = [
        data
        | {
            "mark": {"type": "bar", "height": {"band": 0.55}},
            "encoding": {"x": x, "y": y, "color": colour, "tooltip": tip},
        },
        data
        | {
            "mark": {"type": "rule", "strokeWidth": 2, "color": look.palette.text},
            "encoding": {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y},
        },
        data | {"mark": text, "encoding": {"x": x | {"field": "high"}, "y": y, "text": {"field": "text"}}},
    ]
    description = f"{title}, {axis}: " + said([f"{row['label']} {row['told']}" for row in rows])
    return picture(look, title, description, _ROW * len(rows), layers, "Line on a bar: 95 % interval.")


def domain_map(card: Scorecard, look: Look) -> Picture | None:
    """The bound of divergence by domain, in thousandths of a nat, with the figure in each cell."""
    labels = labels_of(card)
    measured = [(one, one.quality.domains) for one in by_bits(card) if one.quality is not None and one.quality.domains]
    if not measured:
        return None
    names = sorted({name for _, domains in measured for name in domains})
    logs = [math.log(on_log(one.value)) for _, domains in measured for one in domains.values()]
    low, span = min(logs), (max(logs) - min(logs)) or 1.0
    rows: list[Picture] = []
    for variant, domains in measured:
        for name, estimate in domains.items():
            share = (math.log(on_log(estimate.value)) - low) / span
            first, last = ends(estimate)
            rows.append(
                {
                    "label": labels[variant.name],
                    "domain": name,
                    "colour": _mixed(share, look),
                    "text": _thousandths(estimate.value),
                    "told": f"{estimate.value:.4f} [{first:.4f}, {last:.4f}], {estimate.n} texts",
                }
            )
    x = {
        "field": "domain",
        "type": "nominal",
        "sort": names,
        "axis": {
            "title": None,
            "orient": "top",
            "labelAngle": -40,
            "domain": False,
            "ticks": False,
            "labelColor": look.palette.text,
        },
    }
    y = {
        "field": "label",
        "type": "nominal",
        "sort": [labels[one.name] for one, _ in measured],
        "axis": {"title": None, "domain": False, "ticks": False, "labelColor": look.palette.text},
    }
    tip = [{"field": "label", "title": "variant"}, {"field": "domain"}, {"field": "told", "title": "KLD at least"}]
    cell = {"type": "rect", "stroke": look.palette.ground, "strokeWidth": 2}
    colour = {"field": "colour", "type": "nominal", "scale": None}
    layers: list[Picture] = [
        {"data": {"values": rows}, "mark": cell, "encoding": {"x": x, "y": y, "color": colour, "tooltip": tip}},
        {"data": {"values": rows}, "mark": {"type": "text"}, "encoding": {"x": x, "y": y, "text": {"field": "text"}}},
    ]
    description = "Divergence by domain, in thousandths of a nat: " + said(
        [f"{row['label']} {row['domain']} {row['text']}" for row in rows]
    )
    height = _ROW * len(measured)
    return picture(
        look, "Divergence by domain", description, height, layers, "KLD at least, in thousandths of a nat.", _OVERHANG
    )


def _thousandths(value: float) -> str:
    scaled = 1000 * value
    return f"{scaled:.0f}" if scaled >= 10 else f"{scaled:.1f}"


def _mixed(share: float, look: Look) -> str:
    """From cold to hot, both so near the ground that the text on them keeps its contrast."""
    ground = tuple(int(look.palette.ground[place : place + 2], 16) for place in (1, 3, 5))
    strength = 0.15 + 0.3 * share
    tint = [cold + (hot - cold) * share for cold, hot in zip(_COLD, _HOT, strict=True)]
    mixed = [round(base + (own - base) * strength) for base, own in zip(ground, tint, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)
