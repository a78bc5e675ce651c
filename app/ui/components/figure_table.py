"""A table of plain figures as HTML: a list on a narrow page, where each cell says its column's name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape


def html(head: Sequence[str], rows: Sequence[Sequence[str]], *, strong: Collection[int] = ()) -> str:
    """The first cell of a row names it. `strong` are the places of rows whose last cell stands out. Roles are said,
    because a narrow page lays the table out as a list, which takes them away."""
    names = "".join(f'<th role="columnheader" scope="col">{escape(name)}</th>' for name in head)
    body = "".join(_row(head, row, strong=place in strong) for place, row in enumerate(rows))
    return (
        f'<div class="lp-times"><table role="table"><thead role="rowgroup"><tr role="row">{names}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div>'
    )


def _row(head: Sequence[str], row: Sequence[str], *, strong: bool) -> str:
    marks = ["" for _ in row[1:]]
    if strong:
        marks[-1] = ' class="lp-shown"'
    named = f' data-name="{escape(head[0], quote=True)}"' if row[0].isdigit() else ""  # a number alone names nothing
    cells = [
        f'<td role="cell" data-name="{escape(name, quote=True)}"{mark}>{escape(cell)}</td>'
        for name, cell, mark in zip(head[1:], row[1:], marks, strict=True)
    ]
    return f'<tr role="row"><th role="rowheader" scope="row"{named}>{escape(row[0])}</th>{"".join(cells)}</tr>'
