"""Rounds on disk: one JSON file each in the data folder, the newest ones kept. Every method blocks."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import structlog

from app.comparison.round_json import decode, encode
from app.comparison.rounds import Pane, Round
from app.core.conversations import MessageState
from app.core.errors import DiskFull, LoupeError, StoreError
from app.services.small_file import write_small

KEPT = 200
LARGEST = 32 << 20  # bytes of a file that is read
_ID = re.compile(r"[0-9a-f]{32}")
log = structlog.get_logger(__name__)


class RoundNotFound(LoupeError):
    """There is no round of that id, or it is somebody else's."""

    status = 404
    code = "round_not_found"

    def __init__(self, round_id: str) -> None:
        super().__init__(f"there is no comparison {round_id[:32]}; it was deleted, or the link is wrong")


class RoundStore:
    def __init__(self, folder: Path, kept: int = KEPT) -> None:
        self._folder, self._kept = folder, kept
        self._seen: dict[Path, tuple[tuple[int, int], Round]] = {}  # by file, as it was when it was read

    def write(self, round_: Round) -> None:
        """Whole or not at all. Raises `StoreError` (`DiskFull` where that is why)."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_small(self._file(round_.id), encode(round_))
        except OSError as error:
            kind = DiskFull if error.errno == 28 else StoreError
            raise kind(f"the comparison could not be saved: {error.strerror or error}") from error

    def read(self, round_id: str, principal: str) -> Round:
        """Raises `RoundNotFound`. What an earlier process left unfinished is interrupted."""
        found = self._read(self._file(round_id)) if _ID.fullmatch(round_id) else None
        if found is None or found.principal != principal:
            raise RoundNotFound(round_id)
        return found

    def all(self, principal: str) -> tuple[Round, ...]:
        """The newest first."""
        found = [round_ for file in self._files() if (round_ := self._read(file)) and round_.principal == principal]
        return tuple(sorted(found, key=lambda round_: round_.created_at, reverse=True))

    def delete(self, round_id: str) -> None:
        if _ID.fullmatch(round_id):
            self._file(round_id).unlink(missing_ok=True)

    def sweep(self, keep: frozenset[str] = frozenset()) -> None:
        """Delete the oldest beyond what is kept, but none of `keep`."""
        dated = sorted(((file.stat().st_mtime, file) for file in self._files()), reverse=True)
        for _, file in dated[self._kept :]:
            if file.stem not in keep:
                file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [file for file in self._folder.glob("*.json") if _ID.fullmatch(file.stem)]

    def _file(self, round_id: str) -> Path:
        return self._folder / f"{round_id}.json"

    def _read(self, file: Path) -> Round | None:
        try:
            stat = file.stat()
            state, (known, round_) = (stat.st_mtime_ns, stat.st_size), self._seen.get(file, (None, None))
            if round_ is not None and known == state:
                return round_
            with file.open("rb") as opened:
                round_ = decode(json.loads(opened.read(LARGEST)))
        except FileNotFoundError:
            self._seen.pop(file, None)
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("a comparison cannot be read", file=file.name, error=str(error))
            return None
        round_ = replace(round_, panes=tuple(map(_interrupted, round_.panes)))
        self._seen[file] = state, round_
        return round_


def _interrupted(pane: Pane) -> Pane:
    answers = tuple(
        replace(answer, state=MessageState.INTERRUPTED) if answer.state is MessageState.STREAMING else answer
        for answer in pane.answers
    )
    return replace(pane, answers=answers)
