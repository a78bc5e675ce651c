"""Which of the hosts that can take a request takes it. Pure: the pool asks, nothing here waits or remembers outcomes.

Where the model is loaded, else where it fits, else where nobody knows, else where another one must go; among those
the one that is predicted to finish first, the way there and back included. What is within a tenth of that is a tie,
and ties go to the emptier host, then to the one that holds the conversation's beginning, then to the nearest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from app.core.hosts import HostState
from app.services.host_room import Fit
from app.services.watched_host import WatchedHost, canonical

Predict = Callable[[str, str], float | None]
"""(host, model) to the seconds that a request would take there, a load included; None where nothing was measured."""

TIE = 1.1
TIE_SECONDS = 0.05  # differences that nobody notices
REMEMBERED = 1024  # conversations


class Conversations:
    """Which host answered a conversation last. `prefix` is any number that stands for its beginning; 0 for none."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[tuple[str, int], str] = OrderedDict()

    def remember(self, model: str, prefix: int, host: str) -> None:
        if prefix:
            self._hosts[model, prefix] = host
            self._hosts.move_to_end((model, prefix))
            if len(self._hosts) > REMEMBERED:
                self._hosts.popitem(last=False)

    def host(self, model: str, prefix: int) -> str:
        return self._hosts.get((model, prefix), "") if prefix else ""


def best(hosts: Sequence[WatchedHost], model: str, predict: Predict | None, sticky: str = "") -> WatchedHost | None:
    """The host that is to take a request for `model`; None of none. `sticky` names the one that holds its beginning."""
    if len(hosts) < 2:
        return hosts[0] if hosts else None
    places = {id(host): place(host, model) for host in hosts}
    first = min(places.values())
    alike = [host for host in hosts if places[id(host)] == first]
    seconds = _finishes(alike, model, predict)
    limit = min(seconds) * TIE + TIE_SECONDS
    tied = [host for host, finish in zip(alike, seconds, strict=True) if finish <= limit]
    return min(tied, key=lambda host: (_load(host), host.name != sticky, host.round_trip or 0.0))


def place(host: WatchedHost, model: str) -> tuple[bool, Fit]:
    """Ordered: the smaller the better."""
    name, info = canonical(model), host.find(model)
    fit = Fit.LOADED if name in host.warm else host.room.fit(name, info.size if info else 0)
    return host.state is HostState.BUSY, fit


def _finishes(hosts: Sequence[WatchedHost], model: str, predict: Predict | None) -> list[float]:
    """Seconds for each host; where nothing was measured, the mean of those where something was: it is worth a try."""
    told = [predict(host.name, model) if predict else None for host in hosts]
    known = [seconds for seconds in told if seconds is not None]
    mean = sum(known) / len(known) if known else 0.0
    return [
        (mean if seconds is None else seconds) + (host.round_trip or 0.0)
        for host, seconds in zip(hosts, told, strict=True)
    ]


def _load(host: WatchedHost) -> float:
    return host.busy_slots / max(1, host.backend.address.slots)
