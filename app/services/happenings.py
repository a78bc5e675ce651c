"""What happened in the service, as marks on a time axis: models that were loaded or went, requests that failed, hosts
that came, went or were lost. Found by looking once a second at what is there, so nothing on the way of a request knows
of it. Others may add marks of their own (`add`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from app.core.hosts import ANSWERING, HostState, HostStatus
from app.services.request_log import RequestLog

KINDS = ("load", "unload", "error", "host", "alert")
NEWEST = 1000  # requests that are looked through for failures
_WORDS = {
    HostState.OFFLINE: "does not answer", HostState.MISCONFIGURED: "is not used", HostState.WARMING: "is starting",
    HostState.UNKNOWN: "was not asked yet",
}  # fmt: skip


class Happening(NamedTuple):
    """`at` in seconds since the epoch; `kind` is one of `KINDS`; `text` says it in a few words."""

    at: float
    kind: str
    text: str


class Happenings:
    """Belongs to the event loop of what it looks at."""

    def __init__(self, statuses: Callable[[], Sequence[HostStatus]], log: RequestLog) -> None:
        self._statuses, self._log = statuses, log
        self._hosts: dict[str, HostStatus] | None = None
        self._last = ""  # the newest request that was seen
        self._added: list[Happening] = []

    def add(self, at: float, kind: str, text: str) -> None:
        """A mark of somebody else's, such as an alert."""
        self._added.append(Happening(at, kind, text))

    def since_last(self, now: float) -> tuple[Happening, ...]:
        """What is different from the last look. The first one knows of no difference."""
        added, self._added = self._added, []
        hosts = {status.address.name: status for status in self._statuses()}
        before, self._hosts = self._hosts, hosts
        failed = self._failed()
        if before is None:
            return tuple(added)
        told = [*_of_hosts(before, hosts), *_of_models(before, hosts), *failed]
        return (*added, *(Happening(now, kind, text) for kind, text in told))

    def _failed(self) -> list[tuple[str, str]]:
        """One mark for all that failed alike."""
        new = []
        for record in self._log.recent(NEWEST):
            if record.id == self._last:
                break
            new.append(record)
        if new:
            self._last = new[0].id
        codes = Counter(
            (record.model or record.endpoint, record.status)
            for record in new
            if record.status not in ("ok", "cancelled")
        )
        return [
            ("error", f"{f'{number} requests' if number > 1 else 'a request'} to {model} failed: {code}")
            for (model, code), number in codes.items()
        ]


def _of_hosts(before: dict[str, HostStatus], now: dict[str, HostStatus]) -> list[tuple[str, str]]:
    found = [("host", f"host {name} was added") for name in now.keys() - before.keys()]
    found += [("host", f"host {name} was removed") for name in before.keys() - now.keys()]
    for name in sorted(before.keys() & now.keys()):
        was, state = before[name].state, now[name].state
        if (state in ANSWERING) != (was in ANSWERING):
            found.append(("host", f"host {name} {'answers' if state in ANSWERING else _WORDS.get(state, str(state))}"))
        if before[name].draining != now[name].draining:
            found.append(("host", f"host {name} {'is drained' if now[name].draining else 'takes requests again'}"))
    return sorted(found)


def _of_models(before: dict[str, HostStatus], now: dict[str, HostStatus]) -> list[tuple[str, str]]:
    """Of hosts that answered both times: what a lost host had loaded did not go by itself."""
    found = []
    for name in sorted(before.keys() & now.keys()):
        if before[name].state in ANSWERING and now[name].state in ANSWERING:
            was, has = set(before[name].loaded), set(now[name].loaded)
            found += [("unload", f"{model} left the memory of {name}") for model in sorted(was - has)]
            found += [("load", f"{model} was loaded on {name}") for model in sorted(has - was)]
    return found
