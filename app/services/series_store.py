"""Figures over time in a SQLite file of bounded size: every second for 15 minutes, every 10 s for a day, every minute
for 30 days.

A row is one interval of one resolution: for each series that had a figure, its mean and its largest value. Beside them
stands what happened, as marks on the same axis. It is
written in batches, so that a machine that fails loses seconds of a curve and a disk is spared; a damaged file is begun
anew, since nobody's work is in it. Everything here blocks.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.services.happenings import Happening

RESOLUTIONS = ((1, 900), (10, 86_400), (60, 30 * 86_400))  # seconds of an interval, and for how long it is kept
BATCH = 10  # figures between two writes
UNWRITTEN = 1000  # intervals that wait for a disk that cannot be written, at most
MARKS = 20_000  # that are kept at most
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS figures (step INTEGER NOT NULL, at INTEGER NOT NULL, figures TEXT NOT NULL, "
    "PRIMARY KEY (step, at)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS marks (at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS marks_at ON marks (at)",
)
_TOO_MANY = "DELETE FROM marks WHERE rowid <= (SELECT max(rowid) FROM marks) - ?"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Interval:
    """`at`: its beginning, in whole seconds since the epoch. `figures`: by series, mean and largest value."""

    at: int
    figures: Mapping[str, tuple[float, float]]


class SeriesStore:
    """Safe from several threads. While the disk cannot be written the newest quarter of an hour is kept in memory."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._problem = ""
        self._open: dict[int, _Growing] = {}
        self._done: list[tuple[int, int, str]] = []
        self._marks: list[Happening] = []
        self._figures = 0

    def add(self, at: float, figures: Mapping[str, float]) -> None:
        """Figures of one moment, not older than those before: a clock that was set back makes no new rows."""
        with self._lock:
            for step, _ in RESOLUTIONS:
                begins = int(at) // step * step
                growing = self._open.get(step)
                if growing is not None and growing.at != begins:
                    self._done.append((step, growing.at, growing.text()))
                if growing is None or begins != growing.at:
                    growing = self._open[step] = _Growing(begins)
                growing.add(figures)
            self._figures += 1
            if self._figures % BATCH == 0:
                self._write(at)

    @property
    def problem(self) -> str:
        """Why nothing is written; "" where all is well."""
        return self._problem

    def mark(self, happening: Happening) -> None:
        """Something that happened; written with the next figures."""
        with self._lock:
            self._marks = [*self._marks, happening][-MARKS:]

    def marks(self, since: float, until: float, most: int = 500) -> tuple[Happening, ...]:
        """What happened in that time, in order; the newest ones where there are more than `most`."""
        question = "SELECT at, kind, text FROM marks WHERE at >= ? AND at < ? ORDER BY at DESC LIMIT ?"
        with self._lock:
            found = [mark for mark in self._marks if since <= mark.at < until]
            with suppress(OSError, sqlite3.Error):
                found += [Happening(*row) for row in self._connection().execute(question, (since, until, most))]
        return tuple(sorted(found)[-most:])

    def read(self, since: float, until: float, points: int = 0) -> tuple[int, tuple[Interval, ...]]:
        """(seconds of an interval, the intervals in order): in the finest resolution that reaches back to `since`, and
        with `points` in so coarse a one that they are about so many at most."""
        with self._lock:
            newest = max((growing.at for growing in self._open.values()), default=int(until))
            fine = [step for step, kept in RESOLUTIONS if newest - since <= kept] or [RESOLUTIONS[-1][0]]
            wanted = (until - since) / points if points else 0.0
            step = max((step for step in fine if step <= wanted), default=fine[0])
            rows = dict(self._stored(step, since, until))
            rows |= {at: text for kept, at, text in self._done if kept == step and since <= at < until}
            growing = self._open.get(step)
            if growing is not None and since <= growing.at < until:
                rows[growing.at] = growing.text()
        intervals = [
            Interval(at, {name: (mean, most) for name, (mean, most) in json.loads(text).items()})
            for at, text in sorted(rows.items())
        ]
        coarse = math.ceil(wanted / step) * step
        return (coarse, _joined(intervals, coarse)) if coarse > step else (step, tuple(intervals))

    def close(self) -> None:
        with self._lock:
            self._done += [(step, growing.at, growing.text()) for step, growing in self._open.items()]
            self._open.clear()
            self._write(max((at for _, at, _ in self._done), default=0))
            if self._database is not None:
                self._database.close()
                self._database = None

    def _stored(self, step: int, since: float, until: float) -> list[tuple[int, str]]:
        question = "SELECT at, figures FROM figures WHERE step = ? AND at >= ? AND at < ? ORDER BY at"
        try:
            return list(self._connection().execute(question, (step, since, until)))
        except (OSError, sqlite3.Error):
            return []

    def _write(self, now: float) -> None:
        try:
            database = self._connection()
            with database:
                database.executemany("INSERT OR REPLACE INTO figures VALUES (?, ?, ?)", self._done)
                database.executemany("INSERT INTO marks VALUES (?, ?, ?)", self._marks)
                for step, kept in RESOLUTIONS:
                    database.execute("DELETE FROM figures WHERE step = ? AND at < ?", (step, now - kept))
                database.execute("DELETE FROM marks WHERE at < ?", (now - RESOLUTIONS[-1][1],))
                if self._marks:
                    database.execute(_TOO_MANY, (MARKS,))
        except (OSError, sqlite3.Error) as error:
            if not self._problem:
                log.warning("figures not kept", error=str(error))
            self._problem = f"what is drawn here is not written down: {error}"
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                self._begin_anew()
            self._done = self._done[-UNWRITTEN:]
            return
        self._problem = ""
        self._done.clear()
        self._marks = []

    def _connection(self) -> sqlite3.Connection:
        if self._database is None:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            database = sqlite3.connect(self._file, check_same_thread=False, timeout=1)
            try:
                for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "mmap_size=0"):
                    database.execute(f"PRAGMA {pragma}")
                for statement in _SCHEMA:
                    database.execute(statement)
            except sqlite3.DatabaseError as error:
                database.close()
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._begin_anew()
                return self._connection()
            self._database = database
        return self._database

    def _begin_anew(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        for name in (self._file.name, f"{self._file.name}-wal", f"{self._file.name}-shm"):
            self._file.with_name(name).unlink(missing_ok=True)


class _Growing:
    """An interval that is not over."""

    def __init__(self, at: int) -> None:
        self.at = at
        self._sums: dict[str, list[float]] = {}  # by series: sum, count, largest

    def add(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            row = self._sums.setdefault(name, [0.0, 0, value])
            row[0] += value
            row[1] += 1
            row[2] = max(row[2], value)

    def join(self, figures: Mapping[str, tuple[float, float]]) -> None:
        for name, (mean, most) in figures.items():
            row = self._sums.setdefault(name, [0.0, 0, most])
            row[0] += mean
            row[1] += 1
            row[2] = max(row[2], most)

    def told(self) -> dict[str, tuple[float, float]]:
        return {name: (_short(total / count), _short(most)) for name, (total, count, most) in self._sums.items()}

    def text(self) -> str:
        return json.dumps(self.told())


def _joined(intervals: Sequence[Interval], step: int) -> tuple[Interval, ...]:
    """Intervals of `step` seconds: means of the means, largest of the largest."""
    growing: dict[int, _Growing] = {}
    for interval in intervals:
        begins = interval.at // step * step
        growing.setdefault(begins, _Growing(begins)).join(interval.figures)
    return tuple(Interval(at, one.told()) for at, one in sorted(growing.items()))


def _short(value: float) -> float:
    """Six digits are more than any of these figures has."""
    return float(f"{value:.6g}")
