"""Votes on disk: one JSON object a line, appended and synced before it counts. Every method blocks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

import structlog

from app.comparison.blind_votes import Vote
from app.core.errors import DiskFull, StoreError

KEPT = 100_000
_FIELDS = frozenset(each.name for each in fields(Vote))
log = structlog.get_logger(__name__)


class VoteStore:
    def __init__(self, file: Path, kept: int = KEPT) -> None:
        self._file, self._kept = file, kept
        self._votes: list[Vote] | None = None

    def all(self) -> tuple[Vote, ...]:
        """In the order of voting. A line that cannot be read (a power cut leaves half a one) is passed over."""
        if self._votes is None:
            self._votes = _read(self._file)[-self._kept :]
        return tuple(self._votes)

    def add(self, vote: Vote) -> None:
        """Raises `StoreError` (`DiskFull` where that is why): then it does not count."""
        votes = [*self.all(), vote]
        if len(votes) > self._kept:
            self._rewrite(votes[-self._kept :])
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "ab") as opened:
                opened.write(b"" if _ends_well(self._file) else b"\n")
                opened.write(_line(vote))
                opened.flush()
                os.fsync(opened.fileno())
        except OSError as error:
            raise _told(error) from error
        self._votes = votes

    def remove(self, family: str, task: str, principal: str) -> int:
        """All votes of one family and task; how many there were."""
        votes = self.all()
        kept = [vote for vote in votes if (vote.family, vote.task, vote.principal) != (family, task, principal)]
        if len(kept) < len(votes):
            self._rewrite(kept)
        return len(votes) - len(kept)

    def _rewrite(self, votes: Iterable[Vote]) -> None:
        kept = list(votes)
        draft = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as opened:
                opened.writelines(map(_line, kept))
                opened.flush()
                os.fsync(opened.fileno())
            draft.replace(self._file)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise _told(error) from error
        self._votes = kept


def _line(vote: Vote) -> bytes:
    return json.dumps(asdict(vote), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _ends_well(file: Path) -> bool:
    """Whether the last line is whole, so that the next one does not run into it."""
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 1))
        return opened.read(1) in (b"", b"\n")


def _read(file: Path) -> list[Vote]:
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _told(error) from error
    votes = []
    for line in filter(None, lines):
        try:
            raw = json.loads(line)
            votes.append(Vote(**{name: value for name, value in raw.items() if name in _FIELDS}))
        except (ValueError, TypeError, AttributeError) as error:
            log.warning("a vote cannot be read", error=str(error))
    return votes


def _told(error: OSError) -> StoreError:
    kind = DiskFull if error.errno == 28 else StoreError
    return kind(f"the vote could not be saved: {error.strerror or error}")
