"""What the Service screen and the chat say of cache, queue and hosts. Pure: values in, words out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.services.cache_views import AgeBand, CacheEntry, CacheStats
from app.ui import view_models as vm

_UNITS = ((86_400.0, "day"), (3600.0, "hour"), (60.0, "minute"))


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the cache with what it means; `note` is the quiet line under it."""

    name: str
    value: str
    note: str


def cache_figures(stats: CacheStats, now: float) -> tuple[Figure, ...]:
    asked = stats.hits + stats.misses
    since = f"in the last {vm.ago(now - stats.since).removesuffix(' ago')}" if 2 < now - stats.since < now else "so far"
    rate = vm.percent(stats.hit_rate)
    joined = f", {vm.count(stats.joined, 'request')} shared an answer" if stats.joined else ""
    return (
        Figure("Entries", vm.grouped(stats.entries), f"{vm.size(stats.bytes)} of {vm.size(stats.limit)}"),
        Figure("Hit rate", rate, f"{vm.grouped(stats.hits)} of {vm.count(asked, 'look-up')}{joined}"),
        Figure("Time saved", vm.duration(stats.seconds_saved) if stats.hits else vm.UNKNOWN, since),
        Figure("Tokens saved", vm.grouped(stats.tokens_saved) if stats.hits else vm.UNKNOWN, since),
    )


def cache_off(stats: CacheStats) -> tuple[str, str] | None:
    """(what is wrong, what happens next) where the cache is off."""
    if not stats.off:
        return None
    if stats.on_again_in is None:
        return "The cache is off", f"{vm.sentence(stats.off)} Chats are answered without it."
    again = vm.about(stats.on_again_in)
    return (
        "The cache is off for a moment",
        f"{vm.sentence(stats.off)} Chats go on without it; it tries again in {again}.",
    )


def band_label(band: AgeBand) -> str:
    """Up to 1 hour; older."""
    if band.upto is None:
        return "older"
    seconds, unit = next((each for each in _UNITS if band.upto >= each[0]), (1.0, "second"))
    return f"up to {vm.count(round(band.upto / seconds), unit)}"


def band_shares(bands: Sequence[AgeBand]) -> tuple[float, ...]:
    """Each band's bar in percent of the longest."""
    most = max((band.entries for band in bands), default=0)
    return tuple(100 * band.entries / most if most else 0.0 for band in bands)


def entry_facts(entry: CacheEntry, now: float) -> str:
    """Model, age, what it saves each time, size."""
    facts = (
        vm.ago(now - entry.stored_at),
        f"took {vm.duration(entry.seconds)}",
        vm.count(entry.output_tokens, "token"),
        vm.kibibytes(entry.size),
    )
    return " · ".join(facts)


def host_name(address: str) -> str:
    """What a host is called that nobody gave a name: after its address."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", address.rpartition("://")[2]).strip("-._")[:63]


def deleted_words(number: int) -> str:
    return f"{vm.count(number, 'cached answer')} deleted" if number else "There was nothing to delete"
