"""The SQLite file under a history: is it sound, set it aside where it is not, back it up, bring a backup back.

Everything here blocks and belongs to the history's one thread. Backups are made by `VACUUM INTO`: whole, checked, and
under their name only when they are on the disk. Nothing that was kept is ever deleted here but the oldest backups.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import BadRequest, StoreError

KEPT = 3  # backups
CHECK_SECONDS = 3.0  # at a start: a file too large to be looked through in that time is taken as sound
CHECK_STEPS = 10_000  # of SQLite's machine between two looks at the clock
_NAME = re.compile(r"conversations-(\d{8}-\d{6})\.db")
_STAMP = "%Y%m%d-%H%M%S"
_COMPANIONS = ("", "-wal", "-shm")
TABLES = ("conversations", "messages")


@dataclass(frozen=True, slots=True)
class Backup:
    """`made_at` in seconds since the epoch, `size` in bytes."""

    name: str
    made_at: float
    size: int
    conversations: int


@dataclass(frozen=True, slots=True)
class Missing:
    """What a backup holds and is not here: this much a restore would bring."""

    conversations: int
    messages: int


@dataclass(frozen=True, slots=True)
class Damage:
    """What was found: the file as it was is kept as `kept_as`."""

    found: str
    kept_as: Path


def path_of(url: str) -> Path | None:
    """The file behind a SQLAlchemy URL; None for another database, and for one in memory."""
    scheme, found, name = url.partition(":///")
    name = name.partition("?")[0]
    if not (found and scheme.startswith("sqlite") and name) or name == ":memory:":
        return None
    return Path(name)


class HistoryFile:
    """`upgrade` brings the schema of a file to the newest."""

    def __init__(self, path: Path, upgrade: Callable[[Path], None], now: Callable[[], float]) -> None:
        self.path, self._upgrade, self._now = path, upgrade, now
        self.folder = path.with_name("backups")
        self.damage: Damage | None = None

    def examine(self, *, thoroughly: bool = False) -> None:
        """Set the file aside if it is damaged. `thoroughly`: indexes against tables too, however long it takes."""
        if self.path.exists() and (found := fault_of(self.path, thoroughly=thoroughly)):
            self.set_aside(found)

    def set_aside(self, found: str) -> None:
        """The file goes by another name, with its companions: nothing of it is lost."""
        kept = _unused(self.path.with_name(f"{self.path.stem}.damaged-{self._stamp()}{self.path.suffix}"))
        for ending in _COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + ending).rename(kept.with_name(kept.name + ending))
        self.damage = Damage(found, kept)

    # -- backups ------------------------------------------------------------------------------------------------

    def backups(self) -> tuple[Backup, ...]:
        """The newest first. Files that are none of ours, or cannot be read, are left out."""
        found = []
        for path in self.folder.glob("conversations-*.db"):
            with contextlib.suppress(sqlite3.Error, OSError, ValueError):
                found.append(_described(path))
        return tuple(sorted(found, key=lambda backup: backup.name, reverse=True))

    def back_up(self, connection: sqlite3.Connection) -> Backup:
        """Raises `StoreError` where what was written is not sound, sqlite3's errors where it could not be written."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        draft = self.folder / f".draft-{os.getpid()}.db"
        draft.unlink(missing_ok=True)
        try:
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            connection.execute("VACUUM INTO ?", (str(draft),))
            if fault := fault_of(draft, thoroughly=True):
                raise StoreError(f"the backup was not kept, it could not be read back: {fault}")
            _flush(draft)
            kept = _unused(self.folder / f"conversations-{self._stamp()}.db")
            draft.rename(kept)
            _flush(self.folder)
        finally:
            draft.unlink(missing_ok=True)
        for old in self.backups()[KEPT:]:
            (self.folder / old.name).unlink(missing_ok=True)
        return _described(kept)

    def backup(self, name: str) -> Path:
        """The file of a backup. Raises `BadRequest` for a name that is none."""
        path = self.folder / name
        if not _NAME.fullmatch(name) or not path.is_file():
            raise BadRequest(f"there is no backup named {name[:80]!r}", field="name")
        return path

    def missing(self, connection: sqlite3.Connection, name: str) -> Missing:
        """What `bring_back` would add. Raises `BadRequest` for a name that is none or a file that is no history."""
        found = []
        try:
            with contextlib.closing(_reading(self.backup(name))) as kept:
                for table in TABLES:
                    here = {row[0] for row in connection.execute(f"SELECT id FROM {table}")}  # noqa: S608
                    there = kept.execute(f"SELECT id FROM {table}")  # noqa: S608
                    found.append(sum(row[0] not in here for row in there))
        except sqlite3.DatabaseError as error:
            raise BadRequest(f"{name} cannot be used: {error}", field="name") from error
        return Missing(*found)

    def bring_back(self, connection: sqlite3.Connection, name: str) -> int:
        """Add what a backup holds and is not here; what is here stays as it is. How many conversations came.

        Raises `BadRequest` for a name that is none or a file that is no history.
        """
        source = self.backup(name)
        draft = self.folder / f".restore-{os.getpid()}.db"
        try:
            shutil.copyfile(source, draft)  # the backup itself stays as it is
            if fault := fault_of(draft, thoroughly=True) or strangeness_of(draft):
                raise BadRequest(f"{name} cannot be used: {fault}", field="name")
            self._upgrade(draft)
            came = _merge(connection, draft)
            self.damage = None
            return came
        finally:
            for ending in _COMPANIONS:
                draft.with_name(draft.name + ending).unlink(missing_ok=True)

    def _stamp(self) -> str:
        return time.strftime(_STAMP, time.localtime(self._now()))


def fault_of(path: Path, *, thoroughly: bool = False) -> str:
    """What SQLite finds wrong with the file, "" for nothing. A file that is only busy or unreadable is not damaged."""
    deadline = time.monotonic() + CHECK_SECONDS
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.text_factory = _text
        if not thoroughly:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, CHECK_STEPS)
        check = "integrity_check" if thoroughly else "quick_check"
        try:
            found = connection.execute(f"PRAGMA {check}(1)").fetchone()
        except sqlite3.OperationalError:  # interrupted by us, locked, or no permission: opening it will tell
            return ""
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # its words quote what is in the file
            return str(error)
    return "" if found is None or found[0] == "ok" else str(found[0])


def strangeness_of(path: Path) -> str:
    """Why a sound SQLite file is no history of ours: it has not our tables, or has more than data in it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
    if any(kind not in ("table", "index") for kind, _ in rows):
        return "it holds views or triggers, which no history of Loupe's does"
    missing = {*TABLES, "alembic_version"} - {name for kind, name in rows if kind == "table"}
    return f"it has no table {', '.join(sorted(missing))}" if missing else ""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _described(path: Path) -> Backup:
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise ValueError(path.name)
    with contextlib.closing(_reading(path)) as connection:
        count = connection.execute("SELECT count(*) FROM conversations WHERE deleted_at IS NULL").fetchone()[0]
    return Backup(path.name, time.mktime(time.strptime(found[1], _STAMP)), path.stat().st_size, count)


def _reading(path: Path) -> sqlite3.Connection:
    """A backup, which nobody writes any more, to be read only."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def _merge(connection: sqlite3.Connection, source: Path) -> int:
    connection.execute("ATTACH DATABASE ? AS kept", (str(source),))
    try:
        connection.execute("BEGIN IMMEDIATE")
        came = 0
        try:
            for table in TABLES:
                columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
                added = connection.execute(
                    f"INSERT OR IGNORE INTO main.{table} ({columns}) SELECT {columns} FROM kept.{table}"  # noqa: S608
                )
                came += added.rowcount if table == TABLES[0] else 0
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        return came
    finally:
        connection.execute("DETACH DATABASE kept")


def _unused(path: Path) -> Path:
    """`path`, or the next second's: two in one second keep both."""
    while path.exists():
        head, _, stamp = path.stem.rpartition("-")
        path = path.with_name(f"{head}-{int(stamp) + 1:06d}{path.suffix}")
    return path


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
