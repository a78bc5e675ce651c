"""What the cache has been good for so far, kept over restarts in a small file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from app.services.small_file import read_small, write_small


@dataclass(slots=True)
class CacheTotals:
    """Counts since `since` (seconds since the epoch; 0 until the cache has been opened once)."""

    since: float = 0.0
    hits: int = 0
    misses: int = 0
    joined: int = 0
    stored: int = 0
    refused: int = 0
    damaged: int = 0
    seconds_saved: float = 0.0
    tokens_saved: int = 0

    def load(self, file: Path, now: float) -> None:
        """Add what an earlier process counted. A file that cannot be read counts nothing."""
        told = read_small(file)
        told = told if isinstance(told, dict) else {}
        for each in fields(self):
            before = told.get(each.name)
            if isinstance(before, int | float) and not isinstance(before, bool) and 0 <= before < 1e15:
                counted = before if each.type == "float" else int(before)
                setattr(self, each.name, getattr(self, each.name) + counted)
        if not 0 < self.since <= now:
            self.since = now

    def save(self, file: Path) -> None:
        """Raises OSError."""
        write_small(file, json.dumps(asdict(self)))
