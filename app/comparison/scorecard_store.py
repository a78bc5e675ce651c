"""Scorecards on disk: one folder each, and the rows of references that later comparisons need not measure again.

`asked.json` is what was asked for, `progress.json` what has been measured, `card.json` what is shown; all of them are
written whole or not at all. Raw rows are appended text by text (`rows-….jsonl`), so that the end of the process costs
one text at most: a line that was cut off in the middle is left out when they are read. Everything here blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from app.comparison.folder_store import FolderStore
from app.comparison.result_json import Unreadable, from_json, to_json
from app.comparison.results import Scorecard
from app.core.errors import BadRequest, LoupeError
from app.core.generation import Json
from app.services.line_file import read_lines
from app.services.small_file import read_small

KEPT_REFERENCES = 64


class ComparisonNotFound(LoupeError):
    status = 404
    code = "comparison_not_found"

    def __init__(self, comparison_id: str) -> None:
        super().__init__(f"there is no comparison {comparison_id[:32]}")


class ScorecardStore:
    """`folder` is made when something is written. Raises `StoreError`, or `DiskFull`, where that is not possible."""

    def __init__(self, folder: Path) -> None:
        self._kept = FolderStore(folder, "the comparison", ComparisonNotFound)

    def cards(self) -> list[Scorecard]:
        """All that can be read, the newest first."""
        found = []
        for file in self._kept.root.glob("*/card.json"):
            try:
                found.append(from_json(Scorecard, read_small(file)))
            except Unreadable:
                continue
        return sorted(found, key=lambda card: card.started_at, reverse=True)

    def write_card(self, card: Scorecard) -> None:
        self._kept.write(card.id, "card.json", to_json(card))

    def read(self, card_id: str, name: str) -> Json:
        """`asked` or `progress`; None where there is none."""
        return read_small(self._kept.of(card_id) / f"{name}.json")

    def write(self, card_id: str, name: str, value: Json) -> None:
        self._kept.write(card_id, f"{name}.json", value)

    def append(self, card_id: str, digest: str, row: Json) -> None:
        """One text's raw row of the variant with that digest."""
        self._kept.append(self._kept.of(card_id) / f"rows-{_short(digest)}.jsonl", (row,))

    def rows(self, card_id: str, digest: str) -> list[Json]:
        return read_lines(self._kept.of(card_id) / f"rows-{_short(digest)}.jsonl")

    def delete(self, card_id: str) -> None:
        self._kept.delete(card_id)

    # -- references -----------------------------------------------------------------------------------------------

    def reference(self, key: str) -> list[Json]:
        """What is kept under a key, which says everything that the rows depend on; nothing where there is none."""
        return read_lines(self._kept.root / "references" / f"{_short(key)}.jsonl")

    def keep_reference(self, key: str, rows: Iterable[Json]) -> None:
        file = self._kept.root / "references" / f"{_short(key)}.jsonl"
        draft = file.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        self._kept.append(draft, rows)
        draft.replace(file)
        kept = sorted(file.parent.glob("*.jsonl"), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in kept[KEPT_REFERENCES:]:
            old.unlink(missing_ok=True)


def _short(digest: str) -> str:
    name = digest.removeprefix("sha256:")[:40]
    if not re.fullmatch(r"[0-9A-Za-z_.-]+", name) or name.startswith("."):
        raise BadRequest("that is no digest", "digest")
    return name
