"""When each waiting request gets its slot: the schedule is played ahead with learned times.

It is played once with mean times, which gives the order, and a handful of times with lengths drawn at random and with
the requests that are expected meanwhile (`Returns`), which gives equally likely moments. When many wait there is one
play, and each slot carries the moments at which it may become free.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import cast

from app.services.queueing.lines import Lane
from app.services.queueing.pace import DRAWS, Service
from app.services.queueing.schedule import NOMINAL_SECONDS, Schedule, cost
from app.services.queueing.tickets import Ticket

PLAYED = 256  # positions that are played ahead; those behind them are numbered only
PATHS, STEPS = 15, 64  # plays with drawn times, and slots given in all of them together, about
FEWEST = 5  # paths; where so few cannot be afforded, there is none
SHORTEST = 0.01  # seconds that a running request still takes, at least

Played = list[tuple[Ticket, tuple[float, ...], bool]]


@dataclass(slots=True)
class _Slot:
    host: str
    mean: float
    moments: list[float]
    lane: Lane | None


def play(schedule: Schedule, running: Sequence[Ticket], now: float) -> Played:
    """Everyone who waits, in order: the equally likely seconds until its slot, and whether the model is loaded then.

    The seconds are empty for those whose turn cannot be foreseen.
    """
    ahead, slots = schedule.clone(), _slots(schedule, running, now)
    found: Played = []
    while slots and len(ahead.lines) and len(found) < PLAYED:
        slot = min(slots, key=lambda slot: slot.mean)
        ticket = _next(ahead, slot, now)
        if ticket is None:
            slots.remove(slot)
            continue
        found.append((ticket, tuple(slot.moments), _serve(ahead, slot, ticket, now)))
    rest = sorted(ahead.lines, key=lambda ticket: ticket.serial)
    return [*found, *((ticket, (), False) for ticket in rest)]


def wander(schedule: Schedule, running: Sequence[Ticket], now: float, played: Played) -> Played:
    """The same with moments from several plays; left as it is where too many wait for that."""
    paths = min(PATHS, STEPS // max(1, len(played)))
    if paths < FEWEST or not all(moments for _, moments, _ in played):
        return played
    slots, services = _slots(schedule, running, now), dict[tuple[int, str], Service]()
    drawn: dict[Ticket, list[float]] = {ticket: [] for ticket, _, _ in played}
    for path in range(paths):
        _Path(schedule.clone(), slots, now, path * DRAWS // paths, services).play(drawn)
    return [(ticket, tuple(drawn[ticket]) or moments, warm) for ticket, moments, warm in played]


def _next(ahead: Schedule, slot: _Slot, now: float) -> Ticket | None:
    """Who gets the slot when it is free."""
    if slot.lane is not None:
        ahead.give_back(slot.lane)
        slot.lane = None
    for place in ahead.residency.places.values():
        place.free = place.name == slot.host
    return next((ticket for ticket, _ in ahead.candidates(now + slot.mean)), None)


def _serve(ahead: Schedule, slot: _Slot, ticket: Ticket, now: float) -> bool:
    cold = _begin(ahead, slot, ticket, now)
    service = ahead.pace.service(ticket, slot.host) or _UNKNOWN
    load = service.load if cold else 0.0
    draws = service.decode if len(service.decode) == DRAWS else service.decode[:1] * DRAWS
    slot.moments = [moment + service.start + load + draw for moment, draw in zip(slot.moments, draws, strict=True)]
    _charge(ahead, slot, ticket, service.mean + load, service.tokens)
    return not cold


def _begin(ahead: Schedule, slot: _Slot, ticket: Ticket, now: float) -> bool:
    ahead.occupy(ticket, now + slot.mean)
    return ahead.residency.places[slot.host].use(ticket.model, now + slot.mean)


def _charge(ahead: Schedule, slot: _Slot, ticket: Ticket, seconds: float, tokens: float) -> None:
    slot.mean += max(seconds, 1e-6)
    slot.lane = ticket.lane
    ahead.flows.charge(ticket.lane, cost(ticket.prompt_tokens, tokens))
    ahead.classes.charge(ticket.priority, seconds)


_UNKNOWN = Service(NOMINAL_SECONDS, 0.0, (0.0,), 0.0)


class _Path:
    """One play with drawn times. `draw` picks from each set of equally likely lengths, and is the seed of the rest."""

    def __init__(
        self, ahead: Schedule, slots: Sequence[_Slot], now: float, draw: int, services: dict[tuple[int, str], Service]
    ) -> None:
        self._ahead, self._now, self._draw, self._dice = ahead, now, draw, Random(draw)
        self._services = services  # what requests take, looked up once for all plays
        self._slots = [_Slot(one.host, one.moments[draw], [], one.lane) for one in slots]
        self._serial = 1 << 40  # behind all that are there
        self._coming = list(ahead.returns.away(now, self._dice))
        for slot in self._slots:
            self._returns(slot.lane, now + slot.mean)
        heapq.heapify(self._coming)

    def play(self, drawn: dict[Ticket, list[float]]) -> None:
        """Until each ticket of `drawn` has its slot, or all that is allowed was played."""
        left, ahead = len(drawn), self._ahead
        for _ in range(3 * left + 8):
            slot = min(self._slots, key=lambda slot: slot.mean)
            self._arrive(self._now + slot.mean)
            ticket = _next(ahead, slot, self._now)
            if ticket is None:  # somebody waits for another host
                self._slots.remove(slot)
                if not self._slots:
                    return
                continue
            if ticket in drawn:
                drawn[ticket].append(slot.mean)
                left -= 1
                if not left:
                    return
            self._serve(slot, ticket)
        for ticket in drawn.keys() & set(ahead.lines):
            drawn[ticket].append(min(slot.mean for slot in self._slots))

    def _serve(self, slot: _Slot, ticket: Ticket) -> None:
        cold, key = _begin(self._ahead, slot, ticket, self._now), (id(ticket.ask), slot.host)
        service = self._services.get(key)
        if service is None:
            service = self._services[key] = self._ahead.pace.service(ticket, slot.host) or _UNKNOWN
        decode = service.decode[(self._draw + 7 * ticket.serial) % len(service.decode)]
        seconds = service.start + decode + (service.load if cold else 0.0)
        _charge(self._ahead, slot, ticket, seconds, decode / service.per_token if service.per_token else 0.0)
        self._returns(ticket.lane, self._now + slot.mean)

    def _returns(self, lane: Lane | None, ended: float) -> None:
        if lane is not None and (at := self._ahead.returns.after(lane, ended, self._dice)) is not None:
            heapq.heappush(self._coming, (at, lane))

    def _arrive(self, until: float) -> None:
        while self._coming and self._coming[0][0] <= until:
            at, lane = heapq.heappop(self._coming)
            self._serial += 1
            expected = self._ahead.returns.request(lane, at, self._serial, self._dice)
            self._ahead.add(cast(Ticket, expected))  # no more of a ticket is looked at here


def _slots(ahead: Schedule, running: Sequence[Ticket], now: float) -> list[_Slot]:
    slots = []
    for ticket in running:
        moments = _remaining(ahead, ticket, now)
        slots.append(_Slot(ticket.host, sum(moments) / len(moments), moments, ticket.lane))
    for place in ahead.residency.places.values():
        taken = sum(slot.host == place.name for slot in slots)
        slots += [_Slot(place.name, 0.0, [0.0] * DRAWS, None) for _ in range(max(0, place.slots - taken))]
    return slots


def _remaining(ahead: Schedule, ticket: Ticket, now: float) -> list[float]:
    """Equally likely seconds that a running request still takes, given how far it is."""
    service = ahead.pace.service(ticket, ticket.host) or _UNKNOWN
    ran = now - (ticket.began if ticket.began is not None else now)
    draws = service.decode if len(service.decode) == DRAWS else service.decode[:1] * DRAWS
    if ticket.tokens and service.per_token:
        decoded = ticket.tokens * service.per_token
        left = [draw - decoded for draw in draws if draw > decoded]
        if not left:  # longer than any answer seen: so old, so long it may go on
            left = [decoded * (draw + 0.5) / DRAWS for draw in range(DRAWS)]
            if ticket.ask.most_tokens:
                most = max(0.0, (ticket.ask.most_tokens - ticket.tokens) * service.per_token)
                left = [min(one, most) for one in left]
    else:
        start = service.start + (service.load if ticket.cold else 0.0)
        left = [start + draw - ran for draw in draws if start + draw > ran] or [ran * 0.25]
    return [max(SHORTEST, left[index * len(left) // DRAWS]) for index in range(DRAWS)]
