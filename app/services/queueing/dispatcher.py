"""Giving slots away: from the schedule's order to leases of the hosts, and what each flow and class pays for them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from app.core.errors import LoupeError, QueueTimeout
from app.core.generation import Usage
from app.core.hosts import HostSeats
from app.core.ports import Clock
from app.services.host_lease import Lease
from app.services.queueing.residency import Fit
from app.services.queueing.schedule import NOMINAL_SECONDS, Schedule, cost
from app.services.queueing.tickets import Ticket
from app.services.queueing.views import Meter

NEWEST = 0.1  # weight of the newest request in the mean time that one takes


class Hosts(Protocol):
    """Who owns the slots, and calls `poke` when one may have become free. The host pool is one."""

    def seats(self) -> tuple[HostSeats, ...]: ...

    def reserve(
        self, model: str, avoid: str = "", among: Collection[str] | None = None, prefix: int = 0
    ) -> Lease | None:
        """A slot at once, None where none is free; raises what waiting cannot mend."""
        ...


class Dispatcher:
    """`running` holds who has a slot; `served(ticket, now)` is told of each one that gets it."""

    def __init__(
        self, schedule: Schedule, hosts: Hosts, clock: Clock, served: Callable[[Ticket, float], None],
        meter: Meter | None,
    ) -> None:  # fmt: skip
        self._schedule, self._hosts, self._clock = schedule, hosts, clock
        self._served, self._meter = served, meter
        self.running: dict[Ticket, None] = {}
        self.begun: Counter[str] = Counter()
        """How many requests each host was given so far."""
        self._written = 0  # tokens of answers that have ended
        self.paused = False
        self._dispatching = self._again = False

    def give_all(self) -> None:
        """Give every free slot to one who waits. Slots that are freed while this runs are given out by the same run."""
        if self._dispatching:
            self._again = True
            return
        if not len(self._schedule.lines):
            return
        self._dispatching = True
        try:
            while self._give_one():
                pass
        finally:
            self._dispatching = False

    def serve_alone(self, ticket: Ticket) -> bool:
        """Give a slot to one that has just come while nobody waits, so that there is no order to be found: most
        requests go this way, and it costs a fraction. False, with nothing changed, where it has to join the line."""
        if self.paused or self._dispatching or len(self._schedule.lines):
            return False
        now = ticket.entered
        self._pay(now)
        self._see()
        fit, hosts = self._schedule.fit(ticket.model, ticket.ask.host, False, now)
        try:
            lease = None if fit is Fit.FULL else self._hosts.reserve(ticket.ask.model, "", hosts, ticket.ask.prefix)
        except LoupeError:  # told to it when it is in the line
            return False
        if lease is None:
            return False
        self._schedule.seat(ticket, now)
        self._begin(ticket, lease, now)
        return True

    def _see(self) -> None:
        self._schedule.residency.see(self._hosts.seats(), [(one.host, one.model) for one in self.running])

    def _give_one(self) -> bool:
        """Give one slot away; False when nobody can be served now."""
        self._again = False
        if not len(self._schedule.lines):
            return False
        now = self._clock.monotonic()
        self._pay(now)
        self._see()
        if self._turn_away(now):
            return True
        for ticket, hosts in () if self.paused else self._schedule.candidates(now):
            with self._failing(ticket) as told:
                lease = self._hosts.reserve(ticket.ask.model, ticket.avoid, hosts, ticket.ask.prefix)
                if lease is not None:
                    self._start(ticket, lease, now)
                    return True
            if told:
                return True
        return self._again

    def _turn_away(self, now: float) -> bool:
        """Drop one whose client has gone, who no longer wants the slot, or whom no host can serve at any time."""
        places = self._schedule.residency.places.values()
        hopeless = [
            model
            for model in self._schedule.lines.models
            if not any(place.has(model) and not place.limited for place in places)
        ]
        for ticket in self._schedule.lines:
            patience = ticket.ask.patience
            if ticket.settled:
                return self.drop(ticket)
            if patience is not None and now - ticket.entered >= patience:
                ticket.settle(QueueTimeout(now - ticket.entered))
                return self.drop(ticket)
            if ticket.model in hopeless and not ticket.ask.host:
                with self._failing(ticket) as told:
                    lease = self._hosts.reserve(ticket.ask.model, ticket.avoid)
                    if lease is not None:
                        self._start(ticket, lease, now)
                        return True
                if told:
                    return True
        return False

    @contextlib.contextmanager
    def _failing(self, ticket: Ticket) -> Iterator[list[LoupeError]]:
        """What waiting cannot mend is told to the waiter, who leaves the line."""
        told: list[LoupeError] = []
        try:
            yield told
        except LoupeError as error:
            told.append(error)
            self.drop(ticket)
            ticket.settle(error)

    def _start(self, ticket: Ticket, lease: Lease, now: float) -> None:
        self._schedule.take(ticket, now)
        self._begin(ticket, lease, now)

    def _begin(self, ticket: Ticket, lease: Lease, now: float) -> None:
        self._served(ticket, now)
        ticket.lease, ticket.host, ticket.began, ticket.position = lease, lease.address.name, now, 0
        place = self._schedule.residency.places.get(ticket.host)
        swap = bool(place and place.goes(ticket.model))
        ticket.cold = place.use(ticket.model, now) if place else not lease.warm
        self.running[ticket] = None
        self.begun[ticket.host] += 1
        if self._meter is not None:
            self._meter.waited(ticket.priority, now - ticket.entered)
            if ticket.cold:
                self._meter.loaded(swap=swap)
        if not ticket.settle(lease):
            self.stop(ticket, None, finished=False)

    @property
    def written(self) -> int:
        """Tokens of all answers so far, of those that run too: their host's count where it has told one."""
        return self._written + sum(ticket.tokens for ticket in self.running)

    def stop(self, ticket: Ticket, usage: Usage | None, *, finished: bool) -> None:
        self._written += usage.output_tokens if usage is not None else ticket.tokens
        self._settle_account(ticket, usage)
        del self.running[ticket]
        lane, now = ticket.lane, self._clock.monotonic()
        self._schedule.give_back(lane)
        self._schedule.returns.answered(lane, now)
        if finished and ticket.began is not None and ticket.lease and ticket.lease.address.name == ticket.host:
            took = now - ticket.began
            if place := self._schedule.residency.places.get(ticket.host):
                place.served_at[ticket.model] = now
            self._schedule.pace.learn(ticket, took, usage)
            self._schedule.seconds += NEWEST * (took - self._schedule.seconds)
        if ticket.lease is not None:
            ticket.lease.release()

    def put_back(self, ticket: Ticket) -> None:
        """To the head of its line, and its slot to the host that failed it."""
        lease, ticket.lease = ticket.lease, None
        self._written += ticket.tokens
        self._settle_account(ticket, None)
        self.running.pop(ticket, None)
        self._schedule.give_back(ticket.lane)
        ticket.began, ticket.tokens, ticket.charged, ticket.charged_seconds = None, 0, 0.0, 0.0
        self._schedule.add(ticket, first=True)
        if lease is not None:
            lease.release()

    def drop(self, ticket: Ticket) -> bool:
        """Take it out of the line; False if it is in none."""
        if not self._schedule.lines.remove(ticket):
            return False
        ticket.position, ticket.eta = 0, None
        self._schedule.rest(ticket.lane)
        return True

    # Accounts

    def _pay(self, now: float) -> None:
        """Charge those that run: at first for what they are thought to take, then for what they have had beyond it.

        Done when somebody waits, since until then no counter is looked at.
        """
        for ticket in self.running:
            self._charge(ticket, cost(ticket.prompt_tokens, ticket.tokens))
            ran = now - (ticket.began if ticket.began is not None else now)
            due = ran if ticket.charged_seconds else max(ran, self._thought(ticket))
            if due > ticket.charged_seconds:
                self._schedule.classes.charge(ticket.priority, due - ticket.charged_seconds)
                ticket.charged_seconds = due

    def _thought(self, ticket: Ticket) -> float:
        """Seconds that one which has just got its slot is thought to take."""
        service = self._schedule.pace.service(ticket, ticket.host)
        return service.mean + service.load * ticket.cold if service else NOMINAL_SECONDS

    def _charge(self, ticket: Ticket, due: float) -> None:
        self._schedule.flows.charge(ticket.lane, due - ticket.charged)
        ticket.charged = due

    def _settle_account(self, ticket: Ticket, usage: Usage | None) -> None:
        """The host's own counts where there are any, else what has been seen of the answer."""
        ran = self._clock.monotonic() - ticket.began if ticket.began is not None else 0.0
        counted = (usage.prompt_tokens, usage.output_tokens) if usage else (ticket.prompt_tokens, ticket.tokens)
        self._charge(ticket, cost(*counted))
        self._schedule.classes.charge(ticket.priority, ran - ticket.charged_seconds)
