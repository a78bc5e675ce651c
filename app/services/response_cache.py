"""Complete answers to identical requests, kept on disk and replayed. May fail at any moment without failing a chat.

A look-up is a dictionary or one row of SQLite, on the event loop; lists, searches and deletions run in the thread that
writes, in batches, so that none of them holds up an answer.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from app.core.errors import BadRequest
from app.core.generation import Chunk
from app.core.ports import Clock
from app.services.cache_folder import TOTALS
from app.services.cache_store import MAX_ENTRIES, CacheStore
from app.services.cache_totals import CacheTotals
from app.services.cache_views import AGE_BANDS, AgeBand, CachedText, CacheEntry, CachePage, CacheStats
from app.services.cached_answer import CARD_LIMIT, Origin, StoredAnswer, cache_key, complete, entry_of
from app.services.watched_host import canonical

__all__ = ["CacheHit", "CacheStats", "Origin", "ResponseCache", "cache_key"]

log = structlog.get_logger("loupe.cache")

MEMORY_LIMIT = 16 << 20  # bytes of answers kept in memory before the disk
SAVE_SECONDS = 30.0  # how often the totals are written: what a kill may cost of them
BATCH = 200  # entries that a list reads at a time
PAGE_LIMIT = 500
_NEWEST = (
    "SELECT rowid, key, store_time, LENGTH(value), SUBSTR(value, 1, ?) FROM Cache "
    "WHERE raw = 1 AND TYPEOF(value) = 'blob' AND (store_time, rowid) < (?, ?) "
    "ORDER BY store_time DESC, rowid DESC LIMIT ?"
)
_Place = tuple[float, int]  # (when it was stored, row): where a list goes on, downwards
_TOP: _Place = (1e18, 0)


class CacheHit(NamedTuple):
    """An answer made earlier. `age` in seconds; `seconds` is what it took then."""

    age: float
    chunks: tuple[Chunk, ...]
    seconds: float


class ResponseCache:
    def __init__(self, folder: Path, limit_bytes: int, clock: Clock, max_entries: int = MAX_ENTRIES) -> None:
        self._clock = clock
        self._store = CacheStore(folder, limit_bytes, clock, max_entries)
        self._totals, self._saved, self._saved_at = CacheTotals(), CacheTotals(), clock.monotonic()
        self._memory: OrderedDict[str, tuple[StoredAnswer, int]] = OrderedDict()
        self._memory_bytes = 0

    async def start(self) -> None:
        """Open the store. One that cannot be opened leaves the cache off, and says why in `stats`."""
        await self._store.run(lambda _: self._totals.load(self._file, self._clock.now()))

    async def close(self) -> None:
        """Wait for the writes under way and close. Calling it again does nothing."""
        await self._store.run(lambda _: self._save())
        await self._store.close()

    @property
    def on(self) -> bool:
        return self._store.on

    # Answers

    def get(self, key: str) -> CacheHit | None:
        """The answer kept under the key, checked bit by bit; None if there is none, or none that can be trusted."""
        answer = self.held(key)
        if answer is None and (answer := self._store.read(key)) is not None:
            self._remember(key, answer)
        if answer is None:
            self._totals.misses += 1
            return None
        return self.hit(answer)

    def held(self, key: str) -> StoredAnswer | None:
        """The answer where it is in memory. Counts nothing."""
        found = self._memory.get(key)
        if found is None:
            return None
        self._memory.move_to_end(key)
        return found[0]

    def hit(self, answer: StoredAnswer) -> CacheHit:
        """Count an answer that is given again."""
        usage = answer.usage
        self._totals.hits += 1
        self._totals.seconds_saved += answer.seconds
        self._totals.tokens_saved += usage.output_tokens if usage else 0
        self._save_at_times()
        return CacheHit(max(0.0, self._clock.now() - answer.stored_at), answer.chunks, answer.seconds)

    def joined(self) -> None:
        """Count a request that found no entry and shares a running generation instead."""
        self._totals.joined += 1

    async def put(self, key: str, chunks: Sequence[Chunk], origin: Origin, *, seconds: float) -> bool:
        """Keep a complete answer. False if it is not one to keep, is too large, or the cache is off."""
        if not complete(chunks) or not self._store.limit:
            return False
        answer = StoredAnswer(tuple(chunks), origin, self._clock.now(), seconds)
        self._remember(key, answer)
        written = await self._store.write(key, answer)
        if written is False:
            self._forget(key)
        self._totals.stored += written is True
        self._totals.refused += written is False
        self._save_at_times()
        return written is True

    # What is in it. All of these raise `CacheOff` while the cache is off.

    async def entries(
        self, principal: str, *, model: str = "", text: str = "", before: str = "", limit: int = 50
    ) -> CachePage:
        """The newest entries, or those after `before` (the `next` of the page before): of a model, with a text in
        their question or model, in any case. Raises `BadRequest` for a `before` that is none."""
        found: list[CacheEntry] = []
        place, wanted = _place(before), min(max(1, limit), PAGE_LIMIT)
        async with contextlib.aclosing(self._walk(place, principal, model, text)) as walk:
            async for entry, at in walk:
                if len(found) == wanted:
                    return CachePage(tuple(found), f"{place[0]!r}-{place[1]}")
                found.append(entry)
                place = at
        return CachePage(tuple(found), "")

    async def open(self, key: str, principal: str) -> CachedText | None:
        """One entry with what was answered; None if there is none of this principal, or it was damaged."""
        [*rows] = await self._store.select("SELECT LENGTH(value) FROM Cache WHERE key = ? AND raw = 1", (key,))
        answer = self._store.read(key) if rows else None
        if answer is None or answer.origin.principal != principal:
            return None
        return _opened(key, answer, rows[0][0])

    async def delete(self, key: str, principal: str) -> bool:
        """Whether there was such an entry."""
        if await self.open(key, principal) is None:
            return False
        self._forget(key)
        return await self._store.delete([key]) > 0

    async def purge(self, principal: str, *, model: str) -> int:
        """Delete all answers of one model; how many there were."""
        async with contextlib.aclosing(self._walk(_TOP, principal, model, "")) as walk:
            keys = [entry.key async for entry, _ in walk]
        gone = 0
        for begin in range(0, len(keys), BATCH):
            batch = keys[begin : begin + BATCH]
            for key in batch:
                self._forget(key)
            gone += await self._store.delete(batch)
        return gone

    async def clear(self) -> int:
        """Delete everything; the number of entries that were on disk. The totals stay."""
        self._memory.clear()
        self._memory_bytes = 0
        return await self._store.clear()

    async def export(self, principal: str, *, model: str = "") -> AsyncGenerator[CachedText, None]:
        """Every entry, newest first, read as it is asked for."""
        async with contextlib.aclosing(self._walk(_TOP, principal, model, "")) as walk:
            async for entry, _ in walk:
                answer = self._store.read(entry.key)
                if answer is not None:
                    yield _opened(entry.key, answer, entry.size)

    def forget_digest(self, digest: str) -> None:
        """Delete the answers of content that no host has any more; those on disk soon, unless the cache is off."""
        for key in [key for key, (answer, _) in self._memory.items() if answer.origin.digest == digest]:
            self._forget(key)
        self._store.later(lambda disk: disk.evict(digest))

    async def stats(self) -> CacheStats:
        """Cheap enough to be asked every second. While the cache is off it holds nothing that could be told."""
        now, totals = self._clock.now(), self._totals
        entries, size, younger = await self._store.measure([now - age for age in AGE_BANDS]) or (0, 0, [])
        return CacheStats(
            entries=entries, bytes=size, limit=self._store.limit, entry_limit=self._store.entry_limit,
            hits=totals.hits, misses=totals.misses, joined=totals.joined, stored=totals.stored,
            refused=totals.refused, damaged=totals.damaged + self._store.damaged,
            seconds_saved=totals.seconds_saved, tokens_saved=totals.tokens_saved, since=totals.since,
            ages=_bands(entries, younger), off="" if self.on else self._store.why,
            on_again_in=self._store.on_again_in,
        )  # fmt: skip

    async def _walk(
        self, place: _Place, principal: str, model: str, text: str
    ) -> AsyncGenerator[tuple[CacheEntry, _Place], None]:
        """Entries that fit, newest first, each with its place."""
        needle, wanted = text.casefold(), canonical(model) if model else ""
        while rows := await self._store.select(_NEWEST, (CARD_LIMIT, *place, BATCH)):
            for row, key, stored, size, top in rows:
                place = (stored, row)
                entry = entry_of(key, top, size) if isinstance(key, str) else None
                if entry is None or entry.principal != principal or (wanted and canonical(entry.model) != wanted):
                    continue
                if not needle or needle in f"{entry.question}\n{entry.model}".casefold():
                    yield entry, place

    # Totals

    @property
    def _file(self) -> Path:
        return self._store.folder / TOTALS

    def _save_at_times(self) -> None:
        now = self._clock.monotonic()
        if now - self._saved_at >= SAVE_SECONDS:
            self._saved_at = now
            self._store.later(lambda _: self._save())

    def _save(self) -> None:
        self._totals.damaged, self._store.damaged = self._totals.damaged + self._store.damaged, 0
        if self._totals != self._saved:
            self._totals.save(self._file)
            self._saved = CacheTotals(**{name: getattr(self._totals, name) for name in CacheTotals.__slots__})

    # Memory

    def _remember(self, key: str, answer: StoredAnswer) -> None:
        self._forget(key)
        size = answer.raw_size + 200 * len(answer.chunks)  # 200: the objects themselves
        self._memory[key] = (answer, size)
        self._memory_bytes += size
        while self._memory_bytes > MEMORY_LIMIT:
            self._forget(next(iter(self._memory)))

    def _forget(self, key: str) -> None:
        self._memory_bytes -= self._memory.pop(key, (None, 0))[1]


def _bands(entries: int, younger: Sequence[int]) -> tuple[AgeBand, ...]:
    """From the entries that are younger than each of `AGE_BANDS`."""
    bands = [AgeBand(age, count - less) for age, count, less in zip(AGE_BANDS, younger, [0, *younger], strict=False)]
    return (*bands, AgeBand(None, entries - younger[-1])) if bands else ()


def _place(before: str) -> _Place:
    stored, _, row = before.partition("-")
    try:
        return (float(stored), int(row)) if before else _TOP
    except ValueError:
        raise BadRequest(f"before: {before[:40]!r} is not the `next` of a page", "before") from None


def _opened(key: str, answer: StoredAnswer, size: int) -> CachedText:
    origin, usage = answer.origin, answer.usage
    entry = CacheEntry(
        key=key, model=origin.model, digest=origin.digest, endpoint=origin.endpoint, principal=origin.principal,
        question=origin.question, stored_at=answer.stored_at, seconds=answer.seconds,
        prompt_tokens=usage.prompt_tokens if usage else 0, output_tokens=usage.output_tokens if usage else 0, size=size,
    )  # fmt: skip
    text, thinking = ("".join(getattr(chunk, name) for chunk in answer.chunks) for name in ("text", "thinking"))
    return CachedText(entry, text, thinking, answer.chunks[-1].done_reason)
