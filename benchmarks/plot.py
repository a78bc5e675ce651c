"""A plot as plain SVG: lines and points over two linear or logarithmic axes, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 62, 16, 40, 56
COLOURS = ("#3b7dd8", "#d8743b", "#4a9c5d", "#9a5bc4", "#888888")
STYLE = "text{font:13px sans-serif;fill:#808080}path{fill:none;stroke-width:2}.g{stroke:#80808040}"

Points = Sequence[tuple[float, float]]


class Plot:
    def __init__(self, title: str, x: str, y: str, *, log_x: bool = False) -> None:
        self._title, self._x, self._y, self._log_x = title, x, y, log_x
        self._series: list[tuple[str, Points, bool]] = []

    def line(self, name: str, points: Points) -> None:
        self._series.append((name, points, True))

    def points(self, name: str, points: Points) -> None:
        self._series.append((name, points, False))

    def svg(self) -> str:
        every = [point for _, points, _ in self._series for point in points]
        self._low = min(x for x, _ in every) if self._log_x else 0.0
        self._high, self._top = max(x for x, _ in every), max(y for _, y in every) * 1.05
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(self._title)}"><style>{STYLE}</style>',
            f'<text x="{LEFT}" y="16" font-weight="bold">{escape(self._title)}</text>',
            *self._grid(), *(part for number, one in enumerate(self._series) for part in self._draw(number, *one)),
        ]  # fmt: skip
        return "\n".join([*parts, "</svg>\n"])

    def _at(self, x: float, y: float) -> tuple[float, float]:
        span = (x - self._low) / ((self._high - self._low) or 1)
        if self._log_x:
            span = math.log(x / self._low) / (math.log(self._high / self._low) or 1)
        across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return round(LEFT + span * across, 1), round(HEIGHT - BOTTOM - y / (self._top or 1) * up, 1)

    def _grid(self) -> list[str]:
        parts = []
        for y in _ticks(self._top):
            _, down = self._at(self._high, y)
            parts.append(f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down}" y2="{down}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{down + 4}" text-anchor="end">{y:g}</text>')
        marks = sorted({x for _, points, _ in self._series for x, _ in points}) if self._log_x else _ticks(self._high)
        for x in marks:
            along, _ = self._at(x, 0)
            parts.append(f'<text x="{along}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 16}" text-anchor="middle">{escape(self._x)}</text>')
        turn = f"rotate(-90 14 {HEIGHT / 2})"
        parts.append(f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle" transform="{turn}">{escape(self._y)}</text>')
        return parts

    def _draw(self, number: int, name: str, points: Points, joined: bool) -> list[str]:
        colour, places = COLOURS[number % len(COLOURS)], [self._at(*point) for point in points]
        if joined:
            way = " L".join(f"{x},{y}" for x, y in places)
            parts = [f'<path d="M{way}" stroke="{colour}"/>']
        else:
            parts = [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}" fill-opacity=".5"/>' for x, y in places]
        along = LEFT + 150 * number
        mark = f'<rect x="{along}" y="24" width="10" height="10" fill="{colour}"/>'
        return [*parts, mark, f'<text x="{along + 15}" y="33">{escape(name)}</text>']


def _ticks(top: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10(top)) if top > 0 else 1.0
    step = next(step * part for part in (0.1, 0.2, 0.5, 1.0, 2.0) if top / (step * part) <= 8)
    return [round(step * number, 10) for number in range(int(top / step) + 1)]
