"""What each key has used, and what its limits still allow.

Counted are the requests that a model answers. Tokens are the host's own counts; of an answer that was broken off what
had come of it, and the prompt as the queue estimates it. An answer from the cache costs no tokens. The day is the UTC
one. All of it runs on the event loop; the figures of the day are written within a second, so a restart goes on with
them.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.core.generation import Json
from app.core.ports import Clock
from app.services.access_keys import LOCAL, AccessKey, AccessKeys
from app.services.key_errors import KeyGone, KeyLimitReached, ModelNotForKey
from app.services.small_file import read_small, write_small

log = structlog.get_logger(__name__)
FILE = "key-usage.json"
MINUTE, DAY = 60.0, 86_400
WRITE_SECONDS = 1.0
BUSY_SECONDS = 1.0  # Retry-After of one that has as many at once as it may


@dataclass(slots=True)
class UsageOfKey:
    """`day` counts from the epoch. `running` and the starts of the last minute are of this process."""

    day: int = 0
    requests_today: int = 0
    tokens_today: int = 0
    requests: int = 0
    tokens: int = 0
    last_used: float | None = None
    running: int = 0

    def kept(self) -> list[Json]:
        return [self.day, self.requests_today, self.tokens_today, self.requests, self.tokens, self.last_used]


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key and what it has used."""

    key: AccessKey
    usage: UsageOfKey

    def told(self) -> dict[str, Json]:
        """For routes and command line. Times in seconds since the epoch; `today` is the UTC day."""
        usage = self.usage
        return {
            **self.key.told(), "last_used": usage.last_used, "running": usage.running,
            "requests_today": usage.requests_today, "tokens_today": usage.tokens_today, "requests": usage.requests,
            "tokens": usage.tokens,
        }  # fmt: skip


class Seat:
    """One request of a key that is being answered: a context manager. Without a key it counts nothing."""

    __slots__ = ("_usage",)

    def __init__(self, usage: UsageOfKey | None) -> None:
        self._usage = usage
        if usage is not None:
            usage.running += 1

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        if self._usage is not None:
            self._usage.running -= 1
            self._usage = None


FREE_SEAT = Seat(None)


class KeyUsage:
    def __init__(self, keys: AccessKeys, folder: Path, clock: Clock) -> None:
        self._keys, self._file, self._clock = keys, folder / FILE, clock
        self._usages: dict[str, UsageOfKey] = {}
        self._starts: dict[str, deque[float]] = {}
        self._changed, self._stopping = asyncio.Event(), asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def load(self) -> None:
        """What was written last. Blocks."""
        told = read_small(self._file)
        rows = told.get("keys") if isinstance(told, dict) else None
        self._usages |= _read(rows) if isinstance(rows, dict) else {}

    async def start(self) -> None:
        await asyncio.to_thread(self.load)
        self._writing = asyncio.create_task(self._write_on(), name="key usage")

    async def stop(self) -> None:
        if self._writing is not None:  # not cancelled: a file that is being written would meet the last one
            self._stopping.set()
            self._changed.set()
            await self._writing
            self._writing = None

    # What a request may do

    def enter(self, principal: str, model: str) -> Seat:
        """A request begins: count it, or raise `KeyGone`, `ModelNotForKey` or `KeyLimitReached`. The owner may all."""
        if principal == LOCAL:
            return FREE_SEAT
        return Seat(self._admit(principal, model))

    def may_enter(self, principal: str, model: str) -> bool:
        """As `enter`, for a request that is answered on the spot: counted where True, untouched where not."""
        if principal == LOCAL:
            return True
        try:
            self._admit(principal, model)
        except (KeyGone, ModelNotForKey, KeyLimitReached):
            return False
        return True

    def _admit(self, principal: str, model: str) -> UsageOfKey:
        visitor, key = self._keys.visitor(principal), self._keys.key_of(principal)
        usage = self._of(principal)
        if visitor is None:
            raise KeyGone
        if not visitor.may_use(model):
            raise ModelNotForKey(model)
        if key is not None:  # people who signed in at a provider have none, and no limits
            self._check(key, usage)
        usage.requests_today += 1
        usage.requests += 1
        usage.last_used = self._clock.now()
        self._changed.set()
        return usage

    def _check(self, key: AccessKey, usage: UsageOfKey) -> None:
        limits, now = key.limits, self._clock.monotonic()
        if limits.tokens_a_day is not None and usage.tokens_today >= limits.tokens_a_day:
            left = DAY - self._clock.now() % DAY
            raise KeyLimitReached(
                f"this key may use {limits.tokens_a_day} tokens a day, and has used {usage.tokens_today}; it goes "
                "on at midnight UTC, or ask for a key with more",
                left,
            )
        if limits.at_once is not None and usage.running >= limits.at_once:
            raise KeyLimitReached(
                f"this key may have {limits.at_once} requests at once; wait for one of them to end", BUSY_SECONDS
            )
        if limits.per_minute is None:
            return
        starts = self._starts.get(key.id)
        if starts is None or starts.maxlen != limits.per_minute:
            starts = self._starts[key.id] = deque(starts or (), maxlen=limits.per_minute)
        if len(starts) == limits.per_minute and (wait := starts[0] + MINUTE - now) > 0:
            raise KeyLimitReached(f"this key may make {limits.per_minute} requests a minute; slow down", wait)
        starts.append(now)

    def charge(self, principal: str, tokens: int) -> None:
        """A model has read and written so many tokens for this principal."""
        if principal == LOCAL or not tokens:
            return
        usage = self._of(principal)
        usage.tokens_today += tokens
        usage.tokens += tokens
        self._changed.set()

    def _of(self, principal: str) -> UsageOfKey:
        usage = self._usages.get(principal)
        if usage is None:
            usage = self._usages[principal] = UsageOfKey()
        today = int(self._clock.now() // DAY)
        if usage.day != today:
            usage.day, usage.requests_today, usage.tokens_today = today, 0, 0
        return usage

    def views(self) -> tuple[KeyView, ...]:
        """Every key with its figures, the newest first."""
        return tuple(self.view(key) for key in self._keys.list())

    def view(self, key: AccessKey) -> KeyView:
        return KeyView(key, self._of(key.principal))

    # The file

    async def _write_on(self) -> None:
        last = False
        while not last:
            await self._changed.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), WRITE_SECONDS)
            last = self._stopping.is_set()
            await self._write()

    async def _write(self) -> None:
        self._changed.clear()
        known = {key.principal for key in self._keys.list()}
        rows = {principal: usage.kept() for principal, usage in self._usages.items() if principal in known}
        try:
            if rows:
                await asyncio.to_thread(write_small, self._file, json.dumps({"keys": rows}))
        except OSError as error:
            log.warning("the figures of the keys cannot be written", error=error.strerror)


def _read(rows: Mapping[str, Json]) -> dict[str, UsageOfKey]:
    """What `kept` has written; a row of another form begins anew."""
    found: dict[str, UsageOfKey] = {}
    for principal, row in rows.items():
        if isinstance(row, list) and len(row) == 6 and all(isinstance(value, int | float) for value in row):
            with suppress(ValueError, OverflowError):  # NaN, Infinity
                day, requests_today, tokens_today, requests, tokens = (int(float(str(value))) for value in row[:5])
                found[principal] = UsageOfKey(day, requests_today, tokens_today, requests, tokens, float(str(row[5])))
    return found
