"""The response cache as pages and routes show it: frozen values, nothing that touches the disk."""

from __future__ import annotations

from dataclasses import dataclass

AGE_BANDS = (60.0, 3600.0, 86_400.0, 7 * 86_400.0, 30 * 86_400.0)
"""Seconds: the upper ends of the histogram's bands; the last band has none."""


@dataclass(frozen=True, slots=True)
class AgeBand:
    """`entries` that are older than the band before and at most `upto` seconds; None: all that are older still."""

    upto: float | None
    entries: int


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What the cache holds and what it was good for.

    `bytes` are all its files, the write-ahead log included; `limit` is LOUPE_CACHE_BYTES. `off` says why the cache is
    off now, "" if it is on; `on_again_in` are the seconds until it tries again, None where it does not. The counts go
    over restarts, since `since` (seconds since the epoch): `joined` requests shared a running generation, `refused`
    answers were too large to keep, `damaged` entries were not as they had been written and are gone.
    """

    entries: int
    bytes: int
    limit: int
    entry_limit: int
    hits: int
    misses: int
    joined: int
    stored: int
    refused: int
    damaged: int
    seconds_saved: float
    tokens_saved: int
    since: float
    ages: tuple[AgeBand, ...] = ()
    off: str = ""
    on_again_in: float | None = None

    @property
    def hit_rate(self) -> float | None:
        """Hits of all look-ups, 0 to 1; None before the first one."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One kept answer. `question` is the last thing the user said, cut to 2,000 characters; `size` in bytes on disk.

    `stored_at` in seconds since the epoch; `seconds` is what the answer took when it was made.
    """

    key: str
    model: str
    digest: str
    endpoint: str
    principal: str
    question: str
    stored_at: float
    seconds: float
    prompt_tokens: int
    output_tokens: int
    size: int


@dataclass(frozen=True, slots=True)
class CachePage:
    """Entries, newest first; `next` is the `before` that continues the list, "" at its end."""

    entries: tuple[CacheEntry, ...]
    next: str


@dataclass(frozen=True, slots=True)
class CachedText:
    """An entry with what was answered."""

    entry: CacheEntry
    text: str
    thinking: str
    done_reason: str
