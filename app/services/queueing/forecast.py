"""When each waiting request gets its slot: the schedule is played ahead with learned times, and the outcome corrected
by how true earlier forecasts were.

The order is played once, with mean times; each slot carries a handful of equally likely moments at which it may become
free (Monte Carlo along the way of one slot). The range is then set by the errors seen at that position: wide enough for
nine in ten where that keeps within a factor of three, else the factor of three that held most often.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from app.services.queueing.lines import Lane
from app.services.queueing.pace import DRAWS, Service
from app.services.queueing.schedule import NOMINAL_SECONDS, Schedule, cost
from app.services.queueing.tickets import Ticket
from app.services.queueing.views import Eta

PLAYED = 256  # positions that are played ahead; those behind them are numbered only
WIDEST = 3.0  # high over low
SHARE = 0.9  # of the errors that the range is to hold, where it may be wide enough
ERRORS_KEPT, ERRORS_ENOUGH = 80, 10
NARROWEST = 0.12  # logarithm of the factor that no forecast is surer than
SOON = 0.02  # seconds; shorter waits are not told apart


@dataclass(slots=True)
class _Slot:
    host: str
    mean: float
    moments: list[float]
    lane: Lane | None


def play(schedule: Schedule, running: Sequence[Ticket], now: float) -> list[tuple[Ticket, tuple[float, ...], bool]]:
    """Everyone who waits, in order: the equally likely seconds until its slot, and whether the model is loaded then.

    The seconds are empty for those whose turn cannot be foreseen.
    """
    ahead = schedule.clone()
    slots = _slots(ahead, running, now)
    found: list[tuple[Ticket, tuple[float, ...], bool]] = []
    while slots and len(ahead.lines) and len(found) < PLAYED:
        slot = min(slots, key=lambda slot: slot.mean)
        if slot.lane is not None:
            ahead.give_back(slot.lane)
            slot.lane = None
        for place in ahead.residency.places.values():
            place.free = place.name == slot.host
        ticket = next((ticket for ticket, _ in ahead.candidates(now + slot.mean)), None)
        if ticket is None:
            slots.remove(slot)
            continue
        found.append((ticket, tuple(slot.moments), _serve(ahead, slot, ticket, now)))
    rest = sorted(ahead.lines, key=lambda ticket: ticket.serial)
    return [*found, *((ticket, (), False) for ticket in rest)]


def _serve(ahead: Schedule, slot: _Slot, ticket: Ticket, now: float) -> bool:
    ahead.lines.remove(ticket)
    ahead.holding[ticket.lane] += 1
    cold = ahead.residency.places[slot.host].use(ticket.model, now + slot.mean)
    service = ahead.pace.service(ticket, slot.host) or _UNKNOWN
    extra = service.start + (service.load if cold else 0.0)
    seconds = service.mean + (service.load if cold else 0.0)
    draws = service.decode if len(service.decode) == DRAWS else service.decode[:1] * DRAWS
    slot.moments = [moment + extra + draw for moment, draw in zip(slot.moments, draws, strict=True)]
    slot.mean += max(seconds, 1e-6)
    slot.lane = ticket.lane
    ahead.flows.charge(ticket.lane, cost(ticket.prompt_tokens, service.tokens))
    ahead.classes.charge(ticket.priority, seconds)
    return not cold


_UNKNOWN = Service(NOMINAL_SECONDS, 0.0, (0.0,), 0.0)


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
    return [max(SOON / 2, left[index * len(left) // DRAWS]) for index in range(DRAWS)]


class Calibration:
    """How true forecasts were, by position: the logarithm of actual over foretold, in units of the stated spread."""

    def __init__(self) -> None:
        self._errors: dict[int, deque[float]] = {}

    def estimate(self, moments: Sequence[float]) -> tuple[float, float]:
        """(likely seconds, spread) as played, before any correction."""
        ordered = sorted(moments)
        low, middle, high = (max(SOON, ordered[int(share * (len(ordered) - 1))]) for share in (0.1, 0.5, 0.9))
        return middle, max(NARROWEST, math.log(high / low) / 2)

    def eta(self, position: int, likely: float, spread: float) -> Eta:
        errors = sorted(self._errors.get(_bucket(position), ()))
        if len(errors) < ERRORS_ENOUGH:
            low, middle, high = -1.2, 0.0, 1.2
        else:
            low, high = errors[int((1 - SHARE) / 2 * len(errors))], errors[-1 - int((1 - SHARE) / 2 * len(errors))]
            middle = errors[len(errors) // 2]
            low, high = min(low, -0.5), max(high, 0.5)
        width = math.log(WIDEST) / spread
        if high - low > width:
            low = _best_start(errors, width) if len(errors) >= ERRORS_ENOUGH else (low + high - width) / 2
            high = low + width
        middle = min(max(middle, low), high)
        first = likely * math.exp(low * spread)
        return Eta(likely * math.exp(middle * spread), first, min(likely * math.exp(high * spread), WIDEST * first))

    def learn(self, position: int, likely: float, spread: float, actual: float) -> None:
        """A request that was told so has waited `actual` seconds since."""
        kept = self._errors.setdefault(_bucket(position), deque(maxlen=ERRORS_KEPT))
        kept.append(math.log(max(SOON, actual) / max(SOON, likely)) / spread)


def _bucket(position: int) -> int:
    """Positions that share their errors: each of the first four alone, then by powers of two."""
    return position if position <= 4 else 1 << (position - 1).bit_length()


def _best_start(errors: Sequence[float], width: float) -> float:
    """The beginning of the window of that width that holds most of the sorted errors, with room on both sides."""
    best, held = 0, 0
    for first in range(len(errors)):
        last = first
        while last < len(errors) and errors[last] <= errors[first] + width:
            last += 1
        if last - first > held:
            best, held = first, last - first
    return (errors[best] + errors[best + held - 1] - width) / 2
