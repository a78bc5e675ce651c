"""Files of JSON lines that grow: what was appended stays, and a line that was cut off in the middle is left out.

All of it blocks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from app.core.generation import Json


def append_lines(file: Path, rows: Iterable[Json]) -> None:
    """Raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open("ab") as opened:
        if opened.tell() and not _ends_whole(file):
            opened.write(b"\n")
        opened.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def read_lines(file: Path) -> list[Json]:
    """The whole lines of a file; nothing where there is none."""
    rows: list[Json] = []
    try:
        with file.open("rb") as opened:
            for line in opened:
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    continue  # the process ended while it was written
    except OSError:
        return []
    return rows


def _ends_whole(file: Path) -> bool:
    with file.open("rb") as opened:
        opened.seek(-1, 2)
        return opened.read(1) == b"\n"
