"""What an answer waited for, as a table with a bar a row on one time axis. Under an answer, and of one request.

The longer form has the axis written above, and below it the pieces of the answer as a line over the same axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from app.ui import view_models as vm
from app.ui.components.glossary import explained
from app.ui.request_words import Growth, Tick


def html(bars: Sequence[vm.Bar], caption: str, *, ticks: Sequence[Tick] = (), growth: Growth | None = None) -> str:
    """`ticks`: the axis; without them the bars speak for themselves."""
    rows = "".join(map(_row, bars)) + (_growing(growth) if growth is not None else "")
    kind = "lp-falls lp-axis" if ticks else "lp-falls"
    step = f' style="--lp-step:{ticks[1].left:.3f}%"' if len(ticks) > 1 else ""
    return f'<table class="{kind}"{step}><caption>{escape(caption)}</caption>{_axis(ticks)}{rows}</table>'


def _row(bar: vm.Bar) -> str:
    left = min(bar.left, 99.6)
    inside = f' class="lp-in-{bar.depth}"' if bar.depth else ""
    return (
        f'<tr><th scope="row"{inside}>{explained(bar.label, bar.label)}</th>'
        f'<td class="lp-track"><span class="lp-bar lp-{bar.name}" style="margin-left:{left}%;'
        f'width:{min(bar.width, 100 - left):.2f}%"></span></td>'
        f'<td class="lp-num">{escape(bar.time)}</td><td class="lp-note">{escape(bar.note)}</td></tr>'
    )


def _axis(ticks: Sequence[Tick]) -> str:
    if not ticks:
        return ""
    marks = "".join(f'<span style="left:{tick.left:.3f}%">{escape(tick.label)}</span>' for tick in ticks)
    return f'<tr class="lp-scale" aria-hidden="true"><th></th><td class="lp-track">{marks}</td><td></td><td></td></tr>'


def _growing(growth: Growth) -> str:
    """An area by CSS, as the page's HTML may hold no drawing."""
    start, end = growth.points[0][0], growth.points[-1][0]
    line = ", ".join(f"{x:.2f}% {100 - y:.2f}%" for x, y in growth.points)
    shape = f"polygon({start:.2f}% 100%, {line}, {end:.2f}% 100%)"
    return (
        f'<tr class="lp-growth"><th scope="row">{explained("Text", "pieces over time")}</th>'
        f'<td class="lp-track"><i title="{escape(growth.told, quote=True)}" style="clip-path:{shape}"></i></td>'
        f'<td class="lp-num">{escape(growth.total)}</td><td class="lp-note">{escape(growth.note)}</td></tr>'
    )
