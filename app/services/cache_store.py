"""The disk under the response cache: reads on the event loop, everything else in one thread of its own.

Whatever goes wrong with the disk or the database turns the store off for a minute, with the reason; a damaged database
is set aside and begun anew. Nothing here raises towards a chat.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog
from diskcache import Cache, Timeout

from app.core.errors import CacheOff
from app.core.ports import Clock
from app.services.bytes_disk import ENTRY_LIMIT, BytesDisk
from app.services.cache_folder import DATABASE, prepare, set_aside, size_on_disk
from app.services.cached_answer import RAW_LIMIT, StoredAnswer, decode, encode

log = structlog.get_logger("loupe.cache")

T = TypeVar("T")

OFF_SECONDS = 60.0
MAX_ENTRIES = 100_000
WAL_LIMIT = 4 << 20  # bytes of log after which it is written back and cut off
CULLED = 10  # entries that make room for one
_FAILURES = (OSError, sqlite3.Error, Timeout)


@dataclass(frozen=True, slots=True)
class Batch:
    """Answers that are written together; `written` gives the keys of those kept, None where the store is off."""

    rows: list[tuple[str, StoredAnswer]]
    written: asyncio.Future[set[str] | None]


class CacheStore:
    """`limit` in bytes; 0 keeps it off for good. `why` says why it is off."""

    def __init__(self, folder: Path, limit: int, clock: Clock, max_entries: int = MAX_ENTRIES) -> None:
        self.folder, self.limit, self._clock, self._max_entries = folder, limit, clock, max_entries
        self.entry_limit = min(ENTRY_LIMIT, limit // 100)
        self.damaged = 0
        self.why = "not started" if limit else "turned off: LOUPE_CACHE_BYTES is 0"
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loupe-cache")
        self._disk: Any = None
        self._rows: sqlite3.Connection | None = None  # the writer thread's own, for lists and for the log
        self._off_until = float("-inf")
        self._broken = False
        self._closed = not limit
        self._batch: Batch | None = None
        self._turn = asyncio.Lock()

    @property
    def on(self) -> bool:
        return self._disk is not None and self._clock.monotonic() >= self._off_until

    @property
    def on_again_in(self) -> float | None:
        """Seconds until it tries again; None where it is on, or does not try."""
        left = self._off_until - self._clock.monotonic()
        return left if left > 0 and not self._closed else None

    async def start(self) -> None:
        await self.run(lambda _: None)

    async def close(self) -> None:
        """Wait for the writes under way and close. Calling it again does nothing."""
        while self._batch is not None:
            await self._batch.written
        if not self._closed:
            self._closed, self.why = True, "closed"
            await asyncio.get_running_loop().run_in_executor(self._writer, self._close_in_thread)
        disk, self._disk = self._disk, None
        if disk is not None:
            disk.close()  # diskcache holds one connection a thread: this is the loop's
        self._writer.shutdown(wait=False)

    def read(self, key: str) -> StoredAnswer | None:
        """On the event loop: microseconds. What cannot be trusted is deleted, and is no answer."""
        disk = self._disk
        if disk is None or not self.on:
            return None
        foreign = disk.disk.foreign
        try:
            blob = disk.get(key)
        except _FAILURES as error:
            if not _busy(error):
                self._fail(error)
            return None
        if blob is None and disk.disk.foreign == foreign:
            return None
        answer = decode(blob) if blob is not None else None
        if answer is None:
            self.damaged += 1
            self.later(lambda disk: disk.delete(key))
        return answer

    async def write(self, key: str, answer: StoredAnswer) -> bool | None:
        """Whether it is kept; None if the store is off or goes off by it.

        What comes while the thread is writing is written next, all of it in one transaction: that is most of the cost.
        """
        if self._batch is None:
            self._batch = Batch([], asyncio.ensure_future(self._flush()))
        batch = self._batch
        batch.rows.append((key, answer))
        kept = await asyncio.shield(batch.written)
        return None if kept is None else key in kept

    async def _flush(self) -> set[str] | None:
        async with self._turn:
            batch, self._batch = self._batch, None
            rows = batch.rows if batch is not None else []
            return await self.run(lambda disk: self._write(disk, rows))

    async def delete(self, keys: Sequence[str]) -> int:
        """How many there were. Raises `CacheOff` while the store is off."""
        return await self.must(lambda disk: sum(bool(disk.delete(key)) for key in keys))

    async def clear(self) -> int:
        """Delete everything; the number of entries there were. Raises `CacheOff` while the store is off."""

        def work(disk: Any) -> int:
            count = int(disk.clear())
            self._cut_log()
            return count

        return await self.must(work)

    async def measure(self, since: Sequence[float]) -> tuple[int, int, list[int]] | None:
        """(entries, bytes of all files, entries stored since each of these moments); None while the store is off."""

        def work(disk: Any) -> tuple[int, int, list[int]]:
            counts = ", ".join("TOTAL(store_time >= ?)" for _ in since)
            [row] = self._connection().execute(f"SELECT {counts} FROM Cache", since).fetchall()  # noqa: S608
            return len(disk), size_on_disk(self.folder), [int(count) for count in row]

        return await self.run(work)

    async def select(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        """Rows of the database, in the writer's thread. Raises `CacheOff` while the store is off."""
        return await self.must(lambda _: self._connection().execute(statement, values).fetchall())

    async def must(self, work: Callable[[Any], T]) -> T:
        """Run in the writing thread. Raises `CacheOff` if the store is off or goes off by it."""
        done: list[T] = []
        await self.run(lambda disk: done.append(work(disk)))
        if not done:
            raise CacheOff(self.why, self.on_again_in)
        return done[0]

    async def run(self, work: Callable[[Any], T]) -> T | None:
        """Run in the writing thread; None if the store is off or goes off by it."""
        if self._closed or self._clock.monotonic() < self._off_until:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._guarded, work)

    def later(self, work: Callable[[Any], object]) -> None:
        """Run in the writing thread when it comes to it, if the store is on."""
        if not self._closed and self._clock.monotonic() >= self._off_until:
            self._writer.submit(self._guarded, work)

    # In the writing thread

    def _guarded(self, work: Callable[[Any], T]) -> T | None:
        try:
            return work(self._disk if self._disk is not None else self._open())  # an empty one is falsy, and counts
        except _FAILURES as error:
            self._fail(error)
            return None

    def _open(self) -> Any:
        self._close_rows()
        disk = None if self._broken else self._opened()
        if disk is None:  # all connections to the damaged files are closed by now: they remove the log by its name
            set_aside(self.folder)
            self._broken = False
            disk = self._opened()
        if disk is None:
            raise OSError("the cache's database is damaged as soon as it is made")
        self._disk, self.why = disk, ""
        return disk

    def _opened(self) -> Any:
        """None for a database that is damaged."""
        try:
            prepare(self.folder)
            return self._connect()
        except sqlite3.DatabaseError as error:
            if not _damage(error):
                raise
            log.warning("cache damaged, begun anew", error=str(error))
            return None

    def _connect(self) -> Any:
        return Cache(
            str(self.folder),
            timeout=1,
            disk=BytesDisk,
            disk_min_file_size=ENTRY_LIMIT,
            size_limit=self.limit,
            cull_limit=CULLED,
            eviction_policy="least-recently-stored",
            sqlite_mmap_size=0,  # the memory map makes SQLite's WAL-reset bug (before 3.51.3) worse
            statistics=0,
            tag_index=1,  # the tag is the model's digest
        )

    def _write(self, disk: Any, rows: Sequence[tuple[str, StoredAnswer]]) -> set[str]:
        """The keys of those that are kept."""
        kept: set[str] = set()
        blobs = [(key, encode(one) if one.raw_size <= RAW_LIMIT else b"", one.origin.digest) for key, one in rows]
        with disk.transact():
            for key, blob, digest in blobs:
                if 0 < len(blob) < self.entry_limit and disk.set(key, blob, tag=digest):
                    kept.add(key)
        if (over := len(disk) - self._max_entries) > 0:
            count = max(over, CULLED)
            oldest = self._connection().execute("SELECT key FROM Cache ORDER BY store_time LIMIT ?", (count,))
            for (old,) in oldest.fetchall():
                disk.delete(old)
        self._cut_log()
        return kept

    def _cut_log(self) -> None:
        """Write the log back and cut it off once it is large; SQLite alone would keep its largest size for ever."""
        log_file = self.folder / f"{DATABASE}-wal"
        if log_file.exists() and log_file.stat().st_size > WAL_LIMIT:
            self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _connection(self) -> sqlite3.Connection:
        if self._rows is None:
            self._rows = sqlite3.connect(self.folder / DATABASE, timeout=1, isolation_level=None)
        return self._rows

    def _close_rows(self) -> None:
        rows, self._rows = self._rows, None
        if rows is not None:
            rows.close()

    def _close_in_thread(self) -> None:
        self._close_rows()
        if self._disk is not None:
            self._disk.close()

    def _fail(self, error: Exception) -> None:
        """Off for a minute. A database that is damaged, not merely busy or out of space, is begun anew after it."""
        self._off_until = self._clock.monotonic() + OFF_SECONDS
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)  # without a path
        self.why = f"{type(error).__name__}: {said}"
        if _damage(error):
            self._disk, self._broken = None, True
        log.warning("cache off", seconds=OFF_SECONDS, error=str(error))


def _busy(error: Exception) -> bool:
    return isinstance(error, Timeout) or (isinstance(error, sqlite3.OperationalError) and "locked" in str(error))


def _damage(error: Exception) -> bool:
    """Whether the database itself is at fault: not the disk, not another process, not too many open files."""
    if isinstance(error, sqlite3.OperationalError):
        short = error.sqlite_errorname == "SQLITE_IOERR_SHORT_READ"  # a page number beyond the end of the file
        return short or str(error).startswith("no such")
    return isinstance(error, sqlite3.DatabaseError)
