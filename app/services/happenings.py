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
SAME_SECONDS = 30.0  # between two marks of the same failure
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
    """Belongs to the event loop of what it looks at. `spelled` gives a model's name as its host writes it."""

    def __init__(
        self, statuses: Callable[[], Sequence[HostStatus]], log: RequestLog, spelled: Callable[[str], str] = str
    ) -> None:
        self._statuses, self._log, self._spelled = statuses, log, spelled
        self._hosts: dict[str, HostStatus] | None = None
        self._last = ""  # the newest request that was seen
        self._untold: Counter[tuple[str, str]] = Counter()  # failures by model and code
        self._told_at: dict[tuple[str, str], float] = {}
        self._added: list[Happening] = []

    def add(self, at: float, kind: str, text: str) -> None:
        """A mark of somebody else's, such as an alert."""
        self._added.append(Happening(at, kind, text))

    def since_last(self, now: float) -> tuple[Happening, ...]:
        """What is different from the last look. The first one knows of no difference."""
        added, self._added = self._added, []
        hosts = {status.address.name: status for status in self._statuses()}
        before, self._hosts = self._hosts, hosts
        failed = self._failed(now)
        if before is None:
            return tuple(added)
        told = [*_of_hosts(before, hosts), *self._of_models(before, hosts), *failed]
        return (*added, *(Happening(now, kind, text) for kind, text in told))

    def _failed(self, now: float) -> list[tuple[str, str]]:
        """One mark for all that failed alike; while that goes on, one in half a minute says how many more did."""
        new = []
        for record in self._log.recent(NEWEST):
            if record.id == self._last:
                break
            new.append(record)
        if new:
            self._last = new[0].id
        self._untold.update(
            (record.model or record.endpoint, record.status)
            for record in new
            if record.status not in ("ok", "cancelled")
        )
        self._told_at = {kind: at for kind, at in self._told_at.items() if 0 <= now - at < SAME_SECONDS}
        codes = {kind: number for kind, number in self._untold.items() if kind not in self._told_at}
        for kind in codes:
            del self._untold[kind]
            self._told_at[kind] = now
        return [("error", _failure(model, code, number)) for (model, code), number in codes.items()]

    def _of_models(self, before: dict[str, HostStatus], now: dict[str, HostStatus]) -> list[tuple[str, str]]:
        """Of hosts that answered both times: what a lost host had loaded did not go by itself."""
        found = []
        for name in sorted(before.keys() & now.keys()):
            if before[name].state in ANSWERING and now[name].state in ANSWERING:
                was, has, host = set(before[name].loaded), set(now[name].loaded), _called(now[name])
                found += [
                    ("unload", f"{self._spelled(model)} left the memory of {host}") for model in sorted(was - has)
                ]
                found += [("load", f"{self._spelled(model)} was loaded on {host}") for model in sorted(has - was)]
        return found


def _failure(model: str, code: str, number: int) -> str:
    which = f"{number} requests" if number > 1 else "a request"
    return f"{which} to {model} failed: {code.replace('_', ' ')}"


def _called(host: HostStatus) -> str:
    return "the built-in runtime" if host.address.embedded else f"host {host.address.name}"


def _of_hosts(before: dict[str, HostStatus], now: dict[str, HostStatus]) -> list[tuple[str, str]]:
    found = [("host", f"{_called(now[name])} was added") for name in now.keys() - before.keys()]
    found += [("host", f"{_called(before[name])} was removed") for name in before.keys() - now.keys()]
    for name in sorted(before.keys() & now.keys()):
        was, state, host = before[name].state, now[name].state, _called(now[name])
        if (state in ANSWERING) != (was in ANSWERING):
            found.append(("host", f"{host} {'answers' if state in ANSWERING else _WORDS.get(state, str(state))}"))
        if before[name].draining != now[name].draining:
            found.append(("host", f"{host} {'is drained' if now[name].draining else 'takes requests again'}"))
    return sorted(found)
