"""Scorecards on disk: one folder each, and the rows of references that later comparisons need not measure again.

`asked.json` is what was asked for, `progress.json` what has been measured, `card.json` what is shown; all of them are
written whole or not at all. Raw rows are appended text by text (`rows-….jsonl`), so that the end of the process costs
one text at most: a line that was cut off in the middle is left out when they are read. Everything here blocks.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from app.comparison.result_json import Unreadable, from_json, to_json
from app.comparison.results import Scorecard
from app.core.errors import BadRequest, DiskFull, LoupeError, StoreError
from app.core.generation import Json
from app.services.line_file import append_lines, read_lines
from app.services.small_file import read_small, write_small

_ID = re.compile(r"[0-9a-f][0-9a-f-]{0,63}")
KEPT_REFERENCES = 64


class ComparisonNotFound(LoupeError):
    status = 404
    code = "comparison_not_found"

    def __init__(self, comparison_id: str) -> None:
        super().__init__(f"there is no comparison {comparison_id[:32]}")


class ScorecardStore:
    """`folder` is made when something is written. Raises `StoreError`, or `DiskFull`, where that is not possible."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def cards(self) -> list[Scorecard]:
        """All that can be read, the newest first."""
        found = []
        for file in self._folder.glob("*/card.json"):
            try:
                found.append(from_json(Scorecard, read_small(file)))
            except Unreadable:
                continue
        return sorted(found, key=lambda card: card.started_at, reverse=True)

    def write_card(self, card: Scorecard) -> None:
        self._write(card.id, "card.json", json.dumps(to_json(card)))

    def read(self, card_id: str, name: str) -> Json:
        """`asked` or `progress`; None where there is none."""
        return read_small(self._of(card_id) / f"{name}.json")

    def write(self, card_id: str, name: str, value: Json) -> None:
        self._write(card_id, f"{name}.json", json.dumps(value))

    def append(self, card_id: str, digest: str, row: Json) -> None:
        """One text's raw row of the variant with that digest."""
        self._append(self._of(card_id) / f"rows-{_short(digest)}.jsonl", (row,))

    def rows(self, card_id: str, digest: str) -> list[Json]:
        return read_lines(self._of(card_id) / f"rows-{_short(digest)}.jsonl")

    def delete(self, card_id: str) -> None:
        shutil.rmtree(self._of(card_id), ignore_errors=True)

    # -- references -----------------------------------------------------------------------------------------------

    def reference(self, key: str) -> list[Json]:
        """What is kept under a key, which says everything that the rows depend on; nothing where there is none."""
        return read_lines(self._folder / "references" / f"{_short(key)}.jsonl")

    def keep_reference(self, key: str, rows: Iterable[Json]) -> None:
        file = self._folder / "references" / f"{_short(key)}.jsonl"
        draft = file.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        self._append(draft, rows)
        draft.replace(file)
        kept = sorted(file.parent.glob("*.jsonl"), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in kept[KEPT_REFERENCES:]:
            old.unlink(missing_ok=True)

    # -- files ----------------------------------------------------------------------------------------------------

    def _of(self, card_id: str) -> Path:
        if not _ID.fullmatch(card_id):
            raise ComparisonNotFound(card_id)
        return self._folder / card_id

    def _write(self, card_id: str, name: str, text: str) -> None:
        folder = self._of(card_id)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_small(folder / name, text)
        except OSError as error:
            raise _store_error(error) from error

    def _append(self, file: Path, rows: Iterable[Json]) -> None:
        try:
            append_lines(file, rows)
        except OSError as error:
            raise _store_error(error) from error


def _short(digest: str) -> str:
    name = digest.removeprefix("sha256:")[:40]
    if not re.fullmatch(r"[0-9A-Za-z_.-]+", name) or name.startswith("."):
        raise BadRequest("that is no digest", "digest")
    return name


def _store_error(error: OSError) -> StoreError:
    if error.errno == 28:
        return DiskFull("the disk with Loupe's data folder is full: the comparison cannot be kept")
    return StoreError(f"the comparison cannot be kept: {error.strerror or error}")
