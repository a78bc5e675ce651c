"""What each host has loaded, and what a further load would cost those who wait.

A host's own word (`/api/ps`) counts; between two of its answers we go by what was sent there. How many models a host
can hold is learned: one, until it was seen with more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from app.core.hosts import HostSeats

TURN_PER_LOAD = 2.0  # somebody overdue lets the present model run this many times as long as its load took


class Fit(IntEnum):
    """What it takes to serve a model on a host now; the smaller the better."""

    WARM = 0  # it is loaded
    FREE = 1  # it is loaded nowhere, and loading it here drives out nothing that anybody waits for
    COPY = 2  # the same, but another host has it
    SWAP = 3  # what somebody waits for has to go, and may
    HELD = 4  # … and may not yet
    FULL = 5  # no slot


@dataclass(slots=True)
class Place:
    """One host as the queue believes it to be. `resident` in the order of use, the oldest first."""

    name: str
    slots: int
    free: int = 0
    models: object = None
    resting: bool = False
    limited: bool = False
    resident: list[str] = field(default_factory=list)
    room: int = 1
    loaded_at: float = float("-inf")
    swapped_at: float = float("-inf")
    served_at: dict[str, float] = field(default_factory=dict)
    """When a request for the model last ended well there: then it was loaded."""

    def clone(self) -> Place:
        return replace(self, resident=list(self.resident))

    def has(self, model: str) -> bool:
        return self.models is None or model in self.models  # type: ignore[operator]

    def goes(self, model: str) -> list[str]:
        """What has to leave for the model, by our belief."""
        return [] if model in self.resident else self.resident[: max(0, len(self.resident) + 1 - self.room)]

    def use(self, model: str, now: float) -> bool:
        """A request for the model is sent there; whether it is to be loaded first."""
        cold = model not in self.resident
        going = self.goes(model)
        self.resident = [kept for kept in self.resident if kept not in (*going, model)] + [model]
        if cold:
            self.loaded_at = now
        if going:
            self.swapped_at = now
        return cold

    def told(self, loaded: frozenset[str], asked: float, running: Collection[str]) -> None:
        """What the host says to have loaded, having been asked at `asked`. While it loads a model, it does not name
        that one yet, and may still name what has to go: whose requests run, or have ended well since, is there."""
        self.room = max(self.room, len(loaded))
        if not running and len(loaded) == len(self.resident) and loaded.issuperset(self.resident):
            return  # as it was believed
        if asked > self.loaded_at:
            there = [model for model in self.resident if model in loaded or self.served_at.get(model, asked) > asked]
            self.resident = sorted(loaded.difference(there)) + there
        sure = [model for model in self.resident if model in running]
        sure += sorted(set(running).difference(sure))
        others = [model for model in self.resident if model not in sure]
        self.resident = others[max(0, len(others) + len(sure) - self.room) :] + sure


@dataclass(frozen=True, slots=True)
class SwapRule:
    """At most one swap in `hold` seconds, unless somebody has waited longer than `overdue` seconds."""

    hold: float = 30.0
    overdue: float = 60.0


class Residency:
    """The hosts that can be used, by name."""

    def __init__(self, rule: SwapRule = SwapRule()) -> None:
        self.rule = rule
        self.places: dict[str, Place] = {}

    def clone(self) -> Residency:
        copy = Residency(self.rule)
        copy.places = {name: place.clone() for name, place in self.places.items()}
        return copy

    def see(self, seats: Iterable[HostSeats], running: Iterable[tuple[str, str]] = ()) -> None:
        """Take over what the pool knows now. A host that is away is forgotten, and so is what it had loaded.

        `running`: (host, model) of the requests that hold slots. Their models are there, or will be in a moment.
        """
        known, self.places, busy = self.places, {}, dict[str, set[str]]()
        for name, model in running:
            busy.setdefault(name, set()).add(model)
        for seat in seats:
            place = known.get(seat.name) or Place(seat.name, seat.slots)
            place.slots, place.free, place.models = seat.slots, seat.free, seat.models
            place.resting, place.limited = seat.resting, seat.limited
            place.told(seat.loaded, seat.loaded_at, busy.get(seat.name, ()))
            self.places[seat.name] = place

    def has_loaded(self, host: str, model: str) -> bool:
        place = self.places.get(host)
        return place is not None and model in place.resident

    def fit(self, place: Place, model: str, waiting: Mapping[str, int], now: float, load: float, overdue: bool) -> Fit:
        """`waiting`: how many wait for each model; `load`: seconds that loading takes here."""
        if model in place.resident:
            return Fit.WARM
        if not any(waiting.get(other) for other in place.goes(model)):
            elsewhere = any(model in other.resident for other in self.places.values())
            return Fit.COPY if elsewhere else Fit.FREE
        since = now - place.swapped_at
        if overdue and since >= min(self.rule.hold, TURN_PER_LOAD * load):
            return Fit.WARM  # its turn has come, whatever it costs
        return Fit.SWAP if since >= self.rule.hold else Fit.HELD
