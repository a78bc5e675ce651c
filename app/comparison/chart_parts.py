"""What all pictures share: look, names, scales on which nothing is clipped, labels that do not overlap. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.comparison.results import Estimate, Scorecard, VariantResult
from app.core.colours import DARK, LIGHT, Palette, bpw_colour

Picture = dict[str, Any]  # a Vega-Lite specification
GIB, MIB = 1 << 30, 1 << 20
KLD_AXIS = "KL divergence (nats, log axis)"
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # names the grammar; nothing is fetched
_FONT = "Inter, system-ui, sans-serif"
_LINE = 13  # pixels from one label to the next
_LETTER = 6.2  # pixels, at the size of a label
_DOT = 7  # pixels: half the size of a point with its rim
# Where a label may stand: to the right or not, and how far down; the first is the best.
_AROUND = [(right, shift) for shift in (-8, 8, -16, 16, -26, 26, 0) for right in (True, False)]
_WIDE_LETTER = 7.0  # pixels, at the size of a subtitle, in whatever font there is
_LONGEST = 22  # letters of a label
_LEAST_KLD = 1e-6  # where a divergence of nothing is drawn on a logarithmic axis


@dataclass(frozen=True, slots=True)
class Look:
    """How to draw: `width` in pixels, or None to fill the place it is put in. `ground`: with a background of its own,
    for a file that stands alone."""

    dark: bool = False
    width: int | None = None
    ground: bool = False

    @property
    def palette(self) -> Palette:
        return DARK if self.dark else LIGHT

    @property
    def pixels(self) -> int:
        """The narrowest it will be drawn."""
        return self.width or 340


def picture(
    look: Look,
    title: str,
    description: str,
    height: int,
    layers: Sequence[Picture],
    subtitle: str = "",
    overhang: int = 0,
) -> Picture:
    """A layered specification. `description` is what a screen reader says; `overhang` are the pixels that names at the
    right edge need beyond it."""
    heading: Picture = {"text": title, "anchor": "start", "frame": "bounds"}
    if subtitle:
        heading["subtitle"] = _wrapped(subtitle, look.pixels)
    return {
        "$schema": _SCHEMA,
        "title": heading,
        "description": description,
        "padding": {"left": 4, "top": 4, "bottom": 4, "right": 4 + overhang},
        "width": look.width or "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": list(layers),
        "config": _config(look),
    }


def _config(look: Look) -> Picture:
    colours = look.palette
    return {
        "background": colours.ground if look.ground else "transparent",
        "font": _FONT,
        "view": {"stroke": None},
        "title": {
            "color": colours.text,
            "subtitleColor": colours.muted,
            "fontSize": 14,
            "fontWeight": 600,
            "subtitleFontSize": 12,
            "subtitlePadding": 4,
            "offset": 8,
        },
        "axis": {
            "labelColor": colours.muted,
            "titleColor": colours.muted,
            "gridColor": colours.line,
            "domainColor": colours.line,
            "tickColor": colours.line,
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": 400,
            "labelLimit": 150,
        },
        "legend": {"labelColor": colours.text, "titleColor": colours.muted, "labelFontSize": 11, "titleFontSize": 11},
        "text": {"color": colours.text, "fontSize": 11},
    }


def titles(card: Scorecard) -> dict[str, str]:
    """What to call each variant, by name: its quantization where only one has it, else the name itself."""
    labels = [variant.quantization for variant in card.variants]
    return {
        one.name: one.quantization if one.quantization and labels.count(one.quantization) == 1 else one.name
        for one in card.variants
    }


def labels_of(card: Scorecard) -> dict[str, str]:
    """The same cut to what fits beside a bar, but never like another: a picture would draw both as one."""
    found: dict[str, str] = {}
    for name, title in titles(card).items():
        label, number = _cut(title), 2
        while label in found.values():
            label, number = f"{_cut(title)} ({number})", number + 1
        found[name] = label
    return found


def by_bits(card: Scorecard) -> list[VariantResult]:
    """The most bits first, as everywhere."""
    return sorted(
        card.variants, key=lambda one: (not one.reference, -(one.bits_per_weight or 0.0), -one.size, one.name)
    )


def colour_of(variant: VariantResult) -> str:
    return bpw_colour(variant.bits_per_weight, reference=variant.reference)


def ends(estimate: Estimate) -> tuple[float, float]:
    """The interval; the value itself where there is none, or none that can be drawn."""
    low, high = (
        estimate.value if end is None or not math.isfinite(end) else end for end in (estimate.low, estimate.high)
    )
    return low, high


def on_log(value: float) -> float:
    return max(value, _LEAST_KLD)


def log_domain(values: Sequence[float]) -> list[float]:
    """Both ends with room for a label, so that nothing is clipped."""
    used = [on_log(value) for value in values]
    return [min(used) / 1.6, max(used) * 1.6]


def linear_domain(values: Sequence[float], *, zero: bool) -> list[float]:
    low, high = min(values), max(values)
    room = 0.08 * (high - low or abs(high) or 1.0)
    return [0.0 if zero else max(0.0, low - room), high + room]


def log_ticks(domain: Sequence[float]) -> list[float]:
    """1, 2 and 5 of each decade in a short domain, else the decades."""
    decades = range(math.floor(math.log10(domain[0])), math.ceil(math.log10(domain[1])) + 1)
    steps = (1, 3) if math.log10(domain[1] / domain[0]) < 2.5 else (1,)
    ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    return [tick for tick in ticks if domain[0] <= tick <= domain[1]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a label stands: to the right of its point or to the left, and its middle (pixels from the top)."""

    right: bool
    y: float


def label_places(points: Sequence[tuple[float, float, str]], width: float, height: float) -> list[Place]:
    """Places for labels beside points at (x, y) in pixels, that cover neither points nor one another if possible."""
    taken = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y, _ in points]
    found = []
    for x, y, text in points:
        long = _LETTER * len(text) + _DOT
        choices = []
        for rank, (right, shift) in enumerate(_AROUND):
            start = x + _DOT if right else x - _DOT - long
            box = (start, y + shift - _LINE / 2, start + long, y + shift + _LINE / 2)
            outside = max(0.0, -box[0], box[2] - width, -box[1], box[3] - height)
            choices.append(
                (sum(_shared(box, other) for other in taken) + 100 * outside, rank, box, Place(right, y + shift))
            )
        _, _, box, place = min(choices, key=lambda choice: choice[:2])
        taken.append(box)
        found.append(place)
    return found


_Box = tuple[float, float, float, float]


def _shared(one: _Box, other: _Box) -> float:
    """The area that two boxes (left, top, right, bottom) have in common."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def figure(value: float) -> str:
    """A divergence, or another small number, with the digits that it has."""
    if value == 0:
        return "0"
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}" if value < 1 else f"{value:.2f}"


def said(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"…{text[-_LONGEST + 1 :]}"


def _wrapped(text: str, width: int) -> list[str]:
    """Lines that fit: a title does not break by itself."""
    room, lines = int((width - 8) / _WIDE_LETTER), [""]
    for word in text.replace(" %", "\u00a0%").split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
