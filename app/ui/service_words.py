"""What the Service screen and the chat say of cache, queue and hosts. Pure: values in, words out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.core.hosts import HostState, HostStatus
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


def band_labels(bands: Sequence[AgeBand]) -> tuple[str, ...]:
    """Up to 1 minute, 1 minute to 1 hour, …, over 30 days: each band begins where the one before it ends."""
    ends = [_age(band.upto) for band in bands if band.upto is not None]
    between = [f"{low} to {high}" for low, high in pairwise(ends)]
    return tuple([*(f"up to {end}" for end in ends[:1]), *between, *(f"over {end}" for end in ends[-1:])][: len(bands)])


def _age(upto: float) -> str:
    seconds, unit = next((each for each in _UNITS if upto >= each[0]), (1.0, "second"))
    return vm.count(round(upto / seconds), unit)


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


HOST_STATES = {
    HostState.HEALTHY: ("answers", "good"), HostState.BUSY: ("says it is busy", "warn"),
    HostState.WARMING: ("starting", "warn"), HostState.UNKNOWN: ("not asked yet", ""),
    HostState.OFFLINE: ("does not answer", "bad"), HostState.MISCONFIGURED: ("is not Ollama", "bad"),
    HostState.RATE_LIMITED: ("asks us to wait", "warn"),
}  # fmt: skip


def host_state(host: HostStatus) -> tuple[str, str]:
    """How a host is, and the tone: good, warn, bad or ""."""
    if host.draining:
        return ("draining" if host.busy_slots else "drained"), "warn"
    return HOST_STATES[host.state]


def host_facts(host: HostStatus) -> str:
    """Where it is, what it runs, how many answers at once, and who named it."""
    address = host.address
    facts = (
        "on this machine" if address.embedded else address.url,
        f"Ollama {host.version}" if host.version and not address.embedded else "",
        vm.count(address.slots, "slot"),
        f"{host.busy_slots} busy" if host.busy_slots else "",
        "" if address.embedded else "added here" if host.added else "from the settings",
    )
    return " · ".join(fact for fact in facts if fact)


def host_name(address: str) -> str:
    """What a host is called that nobody gave a name: after its address."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", address.rpartition("://")[2]).strip("-._")[:63]


def deleted_words(number: int) -> str:
    return f"{vm.count(number, 'cached answer')} deleted" if number else "There was nothing to delete"
