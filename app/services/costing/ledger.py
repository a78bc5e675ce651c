"""What was used, day by day, in a SQLite file: figures are added to their row, so any number of requests is few rows.

It is written in batches; a machine that fails loses seconds of it. A file that is damaged is set aside, not removed:
somebody may want its figures. Everything here blocks.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import structlog

from app.services.costing.values import Books, Rested, UsageKey, Used

FILE = "cost.db"
KEPT_DAYS = 400
_KEY = UsageKey._fields
_FIGURES = tuple(field.name for field in fields(Used))
_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS used (day INTEGER NOT NULL, {', '.join(f'{name} TEXT NOT NULL' for name in _KEY[1:])},"
    f" {', '.join(f'{name} REAL NOT NULL' for name in _FIGURES)}, PRIMARY KEY ({', '.join(_KEY)})) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS rested (day INTEGER PRIMARY KEY, began REAL NOT NULL, seconds REAL NOT NULL, "
    "joules REAL NOT NULL, measured REAL NOT NULL)",
)
# Names of columns are our own; what others wrote goes in as parameters.
_ADD_USED = (
    f"INSERT INTO used VALUES ({', '.join('?' * (len(_KEY) + len(_FIGURES)))}) ON CONFLICT DO UPDATE SET "  # noqa: S608
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _FIGURES)
)
_ADD_RESTED = (
    "INSERT INTO rested VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET began = min(began, excluded.began), "  # noqa: S608
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in ("seconds", "joules", "measured"))
)
log = structlog.get_logger(__name__)


class Ledger:
    """Safe from several threads."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def add(self, used: Mapping[UsageKey, Used], rested: Mapping[int, Rested], today: int) -> None:
        """Raises OSError or sqlite3.Error; then nothing of it was added."""
        with self._lock, self._connection() as database:
            database.executemany(_ADD_USED, [(*key, *astuple(one)) for key, one in used.items()])
            database.executemany(_ADD_RESTED, [(day, *astuple(one)) for day, one in rested.items()])
            for table in ("used", "rested"):
                database.execute(f"DELETE FROM {table} WHERE day < ?", (today - KEPT_DAYS,))  # noqa: S608  # two words of ours

    def read(self, since: int) -> Books:
        """Of that day and later. Raises OSError or sqlite3.Error."""
        with self._lock:
            database = self._connection()
            used = list(database.execute("SELECT * FROM used WHERE day >= ? ORDER BY day", (since,)))
            rested = list(database.execute("SELECT * FROM rested WHERE day >= ? ORDER BY day", (since,)))
            [(began,)] = database.execute("SELECT min(began) FROM rested")
        at = len(_KEY)
        return Books(
            {UsageKey(*row[:at]): _used(row[at:]) for row in used},
            {row[0]: Rested(*row[1:]) for row in rested},
            began,
        )

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _connection(self) -> sqlite3.Connection:
        if self._database is None:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._database = self._opened()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._set_aside()
                self._database = self._opened()
        return self._database

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, check_same_thread=False, timeout=1)
        try:
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "mmap_size=0"):
                database.execute(f"PRAGMA {pragma}")
            for table in _SCHEMA:
                database.execute(table)
            [(verdict,)] = database.execute("PRAGMA quick_check(1)")
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        except BaseException:
            database.close()
            raise
        return database

    def _set_aside(self) -> None:
        aside = self._file.with_name(f"{FILE}.damaged")
        log.warning("the figures of cost are damaged; begun anew", kept=str(aside))
        self._file.replace(aside)
        for suffix in ("-wal", "-shm"):
            with suppress(OSError):
                self._file.with_name(f"{FILE}{suffix}").unlink()


def _used(row: tuple[Any, ...]) -> Used:
    """Counts come back as counts."""
    values = zip(fields(Used), row, strict=True)
    return Used(*(int(value) if field.type == "int" else value for field, value in values))
