"""The folder of the response cache: for its owner only, swept of what is not ours, its database checked before use.

Everything here blocks and raises OSError or sqlite3.Error.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import structlog

log = structlog.get_logger("loupe.cache")

DATABASE = "cache.db"
TOTALS = "totals.json"
_FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")
_TABLES = {"Cache", "Settings"}
_ORPHAN = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")  # what a stock diskcache puts beside its database


def prepare(folder: Path) -> None:
    """Make the folder, or make sure that it is ours alone, and that the database in it is one that we would write."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.stat()
    if about.st_uid != os.getuid():
        raise PermissionError("the cache folder belongs to another user: move it away")
    if stat.S_IMODE(about.st_mode) & 0o022:
        raise PermissionError(
            "others may write into the cache folder, so what is in it may be anybody's: delete it, or set LOUPE_DATA "
            "to a folder that only you can write to"
        )
    if stat.S_IMODE(about.st_mode) & 0o077:
        folder.chmod(0o700)
    for name in _FILES:
        _refuse_foreign(folder / name)
    _sweep(folder)
    if (folder / DATABASE).exists():
        _check(folder / DATABASE)


def set_aside(folder: Path) -> None:
    """Keep one damaged copy to look at; it is a cache, so nothing is lost. The totals stay."""
    aside = folder.with_name(folder.name + ".damaged")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    for name in _FILES:
        if (folder / name).exists():
            (folder / name).rename(aside / name)


def size_on_disk(folder: Path) -> int:
    """Bytes of the database and its log."""
    total = 0
    for name in _FILES:
        try:
            total += (folder / name).stat().st_size
        except FileNotFoundError:
            continue
    return total


def _refuse_foreign(file: Path) -> None:
    try:
        about = file.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(about.st_mode) or about.st_uid != os.getuid():
        raise PermissionError(f"{file.name} in the cache folder is not a file of this user: delete it")


def _sweep(folder: Path) -> None:
    """Remove value files, which our database never names: what a killed or another program left there."""
    for file in folder.glob("??/??/*.val"):
        parents = (file.parent, file.parent.parent)
        if _ORPHAN.fullmatch(file.relative_to(folder).as_posix()) and not any(map(Path.is_symlink, parents)):
            file.unlink(missing_ok=True)
            for emptied in parents:
                if not any(emptied.iterdir()):
                    emptied.rmdir()
    for draft in folder.glob(f"{TOTALS}.*"):
        draft.unlink(missing_ok=True)


def _check(database: Path) -> None:
    """Forget settings, and refuse triggers and views, that are not ours: diskcache makes attributes of its own object
    and PRAGMAs out of every setting that it finds. Raises sqlite3.DatabaseError for a database to begin anew."""
    with closing(sqlite3.connect(database, timeout=1)) as opened:
        schema = opened.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall()
        strange = [
            name
            for kind, name, table in schema
            if kind not in ("table", "index", "trigger")
            or (kind == "table" and name not in _TABLES)
            or (kind == "trigger" and not (name.startswith("Settings_") and table == "Cache"))
        ]
        if strange or (schema and not {name for _, name, _ in schema} >= _TABLES):
            raise sqlite3.DatabaseError(f"the cache's database is not as it was made: {', '.join(map(str, strange))}")
        if not schema:
            return
        with opened:
            opened.execute("DELETE FROM Settings WHERE key NOT IN ('count', 'size', 'hits', 'misses')")
            opened.execute("UPDATE Settings SET value = 0 WHERE key = 'size'")
            opened.execute("UPDATE Settings SET value = (SELECT COUNT(*) FROM Cache) WHERE key = 'count'")
