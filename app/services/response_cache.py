"""Complete answers to identical requests, kept on disk and replayed. May fail at any moment without failing a chat.

Reads run on the event loop (microseconds), writes in one thread of their own. Whatever goes wrong with the disk or
the database turns the cache off for a minute and is told in `stats`; a damaged database is set aside.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog
from diskcache import Cache, Timeout

from app.core.generation import Chunk
from app.core.ports import Clock
from app.services.bytes_disk import ENTRY_LIMIT, BytesDisk
from app.services.cached_answer import StoredAnswer, cache_key, complete, decode, encode

__all__ = ["CacheHit", "CacheStats", "ResponseCache", "cache_key"]

log = structlog.get_logger("loupe.cache")

T = TypeVar("T")

OFF_SECONDS = 60.0
MEMORY_LIMIT = 16 << 20  # bytes of answers kept in memory before the disk
_FAILURES = (OSError, sqlite3.Error, Timeout)


@dataclass(frozen=True, slots=True)
class CacheHit:
    """An answer made earlier. `age` in seconds; `seconds` is what it took then."""

    age: float
    chunks: tuple[Chunk, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class CacheStats:
    """`bytes` on disk; `off` says why the cache is off now, "" if it is on. Counts since the start of the process."""

    entries: int
    bytes: int
    limit: int
    hits: int
    misses: int
    stored: int
    damaged: int
    seconds_saved: float
    tokens_saved: int
    off: str


class ResponseCache:
    def __init__(self, folder: Path, limit_bytes: int, clock: Clock) -> None:
        self._folder, self._limit, self._clock = folder, limit_bytes, clock
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loupe-cache")
        self._disk: Any = None
        self._memory: OrderedDict[str, tuple[StoredAnswer, int]] = OrderedDict()
        self._memory_bytes = 0
        self._off_until = float("-inf")
        self._why = "not started"
        self._closed = False
        self._hits = self._misses = self._stored = self._damaged = 0
        self._seconds_saved, self._tokens_saved = 0.0, 0

    async def start(self) -> None:
        """Open the store. One that cannot be opened leaves the cache off, and says why in `stats`."""
        await self._in_thread(lambda: None)

    async def close(self) -> None:
        """Wait for the writes under way and close. Calling it again does nothing."""
        await self._in_thread(lambda: self._disk.close())
        disk, self._disk, self._closed, self._why = self._disk, None, True, "closed"
        if disk is not None:
            disk.close()  # diskcache holds one connection a thread: this is the loop's
        self._writer.shutdown(wait=False)

    def get(self, key: str) -> CacheHit | None:
        """The answer kept under the key, checked bit by bit; None if there is none, or none that can be trusted."""
        answer = self._recall(key) or self._read(key)
        if answer is None:
            self._misses += 1
            return None
        self._hits += 1
        self._seconds_saved += answer.seconds
        self._tokens_saved += answer.usage.output_tokens if answer.usage else 0
        return CacheHit(max(0.0, self._clock.now() - answer.stored_at), answer.chunks, answer.seconds)

    async def put(self, key: str, chunks: Sequence[Chunk], *, model: str, seconds: float) -> bool:
        """Keep a complete answer. False if it is not one to keep, is too large, or the cache is off."""
        if not complete(chunks):
            return False
        answer = StoredAnswer(tuple(chunks), model, self._clock.now(), seconds)
        self._remember(key, answer)
        written = await self._in_thread(lambda: self._write(key, answer))
        self._stored += written is True
        return written is True

    async def delete(self, key: str) -> None:
        self._forget(key)
        await self._in_thread(lambda: self._disk.delete(key))

    async def clear(self) -> int:
        """Delete everything; the number of entries that were on disk."""
        self._memory.clear()
        self._memory_bytes = 0
        return await self._in_thread(lambda: int(self._disk.clear())) or 0

    async def stats(self) -> CacheStats:
        size = await self._in_thread(lambda: (len(self._disk), int(self._disk.volume())))
        entries, volume = size or (0, 0)
        return CacheStats(
            entries=entries,
            bytes=volume,
            limit=self._limit,
            hits=self._hits,
            misses=self._misses,
            stored=self._stored,
            damaged=self._damaged,
            seconds_saved=self._seconds_saved,
            tokens_saved=self._tokens_saved,
            off="" if self.on else self._why,
        )

    @property
    def on(self) -> bool:
        return self._disk is not None and self._clock.monotonic() >= self._off_until

    # Disk

    def _read(self, key: str) -> StoredAnswer | None:
        if not self.on:
            return None
        foreign = self._disk.disk.foreign
        try:
            blob = self._disk.get(key)
        except _FAILURES as error:
            self._fail(error)
            return None
        if blob is None and self._disk.disk.foreign == foreign:
            return None
        answer = decode(blob) if blob is not None else None
        if answer is None:
            self._damaged += 1
            self._writer.submit(self._guarded, lambda: self._disk.delete(key))
            return None
        self._remember(key, answer)
        return answer

    def _write(self, key: str, answer: StoredAnswer) -> bool:
        blob = encode(answer)
        if len(blob) >= min(ENTRY_LIMIT, self._limit // 100):
            return False
        return bool(self._disk.set(key, blob, tag=answer.model))

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = self._folder.stat()
        if about.st_uid != os.getuid():
            raise PermissionError("the cache folder belongs to another user")
        if stat.S_IMODE(about.st_mode) & 0o077:
            self._folder.chmod(0o700)
        try:
            self._disk = self._connect()
        except sqlite3.DatabaseError as error:
            log.warning("cache damaged, begun anew", error=str(error))
            self._set_aside()
            self._disk = self._connect()
        self._why = ""

    def _connect(self) -> Any:
        return Cache(
            str(self._folder),
            timeout=1,
            disk=BytesDisk,
            disk_min_file_size=ENTRY_LIMIT,
            size_limit=self._limit,
            eviction_policy="least-recently-stored",
            sqlite_mmap_size=0,  # the memory map makes SQLite's WAL-reset bug (before 3.51.3) worse
            statistics=0,
        )

    def _set_aside(self) -> None:
        """Keep one damaged copy to look at; it is a cache, so nothing is lost."""
        aside = self._folder.with_name(self._folder.name + ".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        self._folder.rename(aside)
        self._folder.mkdir(mode=0o700)

    def _fail(self, error: Exception) -> None:
        """Off for a minute. A database that is damaged, not merely busy or out of space, is begun anew after it."""
        self._off_until = self._clock.monotonic() + OFF_SECONDS
        self._why = f"{type(error).__name__}: {error}"
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            self._disk = None
        log.warning("cache off", seconds=OFF_SECONDS, error=self._why)

    def _guarded(self, work: Callable[[], T]) -> T | None:
        try:
            if self._disk is None:
                self._open()
            return work()
        except _FAILURES as error:
            self._fail(error)
            return None

    async def _in_thread(self, work: Callable[[], T]) -> T | None:
        """Run in the one writing thread; None if the cache is off or goes off by it."""
        if self._closed or self._clock.monotonic() < self._off_until:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._guarded, work)

    # Memory

    def _recall(self, key: str) -> StoredAnswer | None:
        found = self._memory.get(key)
        if found is None:
            return None
        self._memory.move_to_end(key)
        return found[0]

    def _remember(self, key: str, answer: StoredAnswer) -> None:
        self._forget(key)
        size = sum(len(chunk.line) + len(chunk.text) + 200 for chunk in answer.chunks)  # 200: the objects themselves
        self._memory[key] = (answer, size)
        self._memory_bytes += size
        while self._memory_bytes > MEMORY_LIMIT:
            self._forget(next(iter(self._memory)))

    def _forget(self, key: str) -> None:
        self._memory_bytes -= self._memory.pop(key, (None, 0))[1]
