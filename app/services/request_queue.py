"""Who waits for a slot, in which order, and who is refused. One ticket per request, bounded, safe to cancel anywhere.

The parts are in `queueing`: `admission` (who is refused), `schedule` (who is next), `forecast` (when), `pace` (what was
learned). A request whose hosts are full does not hold up one whose host is free, and no slot is idle while somebody
waits whom it could serve.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from app.core.errors import Cancelled, Draining
from app.core.generation import Priority, Usage
from app.core.ports import Clock
from app.services.queueing.admission import Admission, QueueDrained
from app.services.queueing.dispatcher import Dispatcher, Hosts
from app.services.queueing.pace import Pace
from app.services.queueing.picture import Picture
from app.services.queueing.residency import Residency, SwapRule
from app.services.queueing.schedule import Schedule
from app.services.queueing.tickets import Ask, RequestNotFound, Ticket
from app.services.queueing.views import Meter, QueueLimits, QueueSnapshot
from app.services.watched_host import canonical

__all__ = ["Ask", "QueueLimits", "RequestNotFound", "RequestQueue", "SwapRule", "Ticket"]
TICK_SECONDS = 0.5  # how often estimates are made anew, and the late are looked for, while somebody waits
ENDLESS = 86_400.0  # a bound of a day or more is none, and nothing is foretold for it
DUE = 2 / 3  # of the longest wait: who has waited for that is overtaken by nobody who came later
VERDICT_SECONDS = 0.25  # how long a refusal holds for others like it while nothing has changed


@dataclass(slots=True)
class _Verdict:
    """What was foretold to one that was refused."""

    change: int
    at: float
    wait: float


class RequestQueue:
    """Belongs to one event loop; the attributes of tickets and `snapshot` may be read from any thread."""

    def __init__(
        self, hosts: Hosts, clock: Clock, *, limits: QueueLimits | None = None, rule: SwapRule | None = None,
        meter: Meter | None = None,
    ) -> None:  # fmt: skip
        self._clock, self._meter = clock, meter
        self.pace = Pace()
        self._admission = Admission(limits or QueueLimits(), self.pace)
        due = {kind: DUE * self._admission.longest(kind) for kind in Priority}
        self._schedule = Schedule(self.pace, Residency(rule or SwapRule()), due=due)
        self._picture = Picture(self._schedule, clock, meter)
        self._dispatcher = Dispatcher(self._schedule, hosts, clock, self._picture.served, meter)
        self._serial = 0
        self._verdicts: dict[tuple[Priority, str, str], _Verdict] = {}
        self._closed = self._draining = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._schedule.lines)

    @property
    def running(self) -> int:
        return len(self._dispatcher.running)

    @property
    def paused(self) -> bool:
        """Whether an operator lets nothing begin."""
        return self._dispatcher.paused

    @property
    def written(self) -> int:
        """Tokens that models have written since the start, those of running answers too."""
        return self._dispatcher.written

    # The way of a ticket

    def enter(self, ask: Ask) -> Ticket:
        """Take a place; the slot is there at once if one is free. Raises `QueueFull` or `Draining` without waiting."""
        if self._closed:
            raise Draining
        if self._draining:
            raise QueueDrained
        self._serial += 1
        tokens = self.pace.prompt_tokens(ask.prompt_chars)
        ticket = Ticket(self, ask, self._serial, self._clock.monotonic(), tokens)
        self._schedule.returns.came(ticket)
        if not self._dispatcher.serve_alone(ticket):
            self._schedule.add(ticket)
            self._dispatcher.give_all()
        if ticket.settled:
            self._changed()
        else:
            self._admit(ticket)
        return ticket

    def leave(self, ticket: Ticket, usage: Usage | None = None, *, finished: bool = False) -> None:
        """Take a ticket out, wherever it is, and free its slot. `finished`: the queue may learn from it."""
        before = self._picture.change
        if ticket in self._dispatcher.running:
            self._dispatcher.stop(ticket, usage, finished=finished)
        elif self._dispatcher.drop(ticket):
            ticket.settle(Cancelled("stop"))
        else:
            return
        if self._picture.change == before:  # else whoever owns the slot has told us that it is free
            self.poke()

    def again(self, ticket: Ticket) -> None:
        """Put a running request whose host failed back to the head of the line. It is never refused for a bound."""
        self._dispatcher.put_back(ticket)
        self.poke()

    def poke(self) -> None:
        """Give free slots to those who wait."""
        self._dispatcher.give_all()
        self._changed()

    def close(self) -> None:
        """Admit nobody any more; everyone who waits is told that the process goes down."""
        self._closed = True
        for ticket in list(self._schedule.lines):
            self._dispatcher.drop(ticket)
            ticket.settle(Draining())
        self._changed()
        if self._timer is not None:
            self._timer.cancel()

    def snapshot(self) -> QueueSnapshot:
        return self._picture.snapshot(
            tuple(self._dispatcher.running),
            self._admission.bounds(),
            paused=self._dispatcher.paused,
            draining=self._draining,
        )

    def activity(self, host: str) -> tuple[int, int]:
        """(requests that run there, requests that it was given so far): whoever measures asks before and after."""
        return sum(ticket.host == host for ticket in self._dispatcher.running), self._dispatcher.begun[host]

    def pressing(self, host: str, flow: str) -> bool:
        """Whether a person waits for a slot, or has one on the host, `flow` left out."""
        waiting = (ticket for ticket in self._schedule.lines if ticket.ask.host in ("", host))
        running = (ticket for ticket in self._dispatcher.running if ticket.host == host)
        return any(
            ticket.priority is Priority.INTERACTIVE and ticket.flow != flow
            for ticket in itertools.chain(waiting, running)
        )

    def awaited(self, host: str) -> frozenset[str]:
        """The models that people wait for, for as far as that host may serve them."""
        lines = self._schedule.lines
        return frozenset(
            ticket.ask.model
            for flow in lines.flows(Priority.INTERACTIVE)
            for ticket in lines.of(Priority.INTERACTIVE, flow)
            if ticket.ask.host in ("", host)
        )

    def refresh(self) -> None:
        """Bring positions and estimates up to date, which under load is otherwise done a few times a second."""
        self._picture.draw(tuple(self._dispatcher.running), paused=self._dispatcher.paused)

    async def changes(self) -> None:
        """Wait for the next change."""
        await self._picture.changes()

    def jitter(self, draw: Callable[[], float]) -> None:
        """Take the random part of `Retry-After` from here: a number from 0 to 1 for each refusal."""
        self._admission.draw = draw

    # Operations

    def pause(self) -> None:
        """Give nobody a slot until `resume`; what runs goes on, and requests are still taken."""
        self._dispatcher.paused = True
        self._changed()

    def drain(self) -> None:
        """Take nothing new until `resume`; who waits is still served."""
        self._draining = True
        self._changed()

    def resume(self) -> None:
        """End `pause` and `drain`."""
        self._dispatcher.paused = self._draining = False
        self.poke()

    def cancel(self, ticket_id: str) -> None:
        """End a request that waits or runs. Raises `RequestNotFound`."""
        running = (ticket for ticket in self._dispatcher.running if ticket.ask.id == ticket_id)
        ticket = self.find(ticket_id) or next(running, None)
        if ticket is None:
            raise RequestNotFound(ticket_id)
        ticket.end()

    def move(self, ticket_id: str, priority: Priority) -> None:
        """Put a waiting request at the end of its flow in the other class. Raises `RequestNotFound`."""
        ticket = self.find(ticket_id)
        if ticket is None:
            raise RequestNotFound(ticket_id, "waits")
        if ticket.priority is priority:
            return
        self._dispatcher.drop(ticket)
        ticket.priority, ticket.moved = priority, True
        ticket.told.clear()
        self._schedule.add(ticket)
        self.poke()

    def predict(self, host: str, model: str) -> float | None:
        """Seconds that a request for the model would take there, a load included; None where nothing was measured."""
        name = canonical(model)
        typical = self.pace.typical(host, name)
        if typical is None or self._schedule.residency.has_loaded(host, name):
            return typical
        return typical + self.pace.load(host, name)

    def find(self, ticket_id: str) -> Ticket | None:
        """The waiting request of that id."""
        return next((ticket for ticket in self._schedule.lines if ticket.ask.id == ticket_id), None)

    # Admission

    def _admit(self, ticket: Ticket) -> None:
        """Let the ticket wait, or refuse it."""
        lines = self._schedule.lines
        of_flow = [*lines.of(Priority.INTERACTIVE, ticket.flow), *lines.of(Priority.BATCH, ticket.flow)]
        status, wait = self._admission.counted(ticket, of_flow, len(lines)), self._picture.longest
        reason = "count" if status == 503 else "flow"
        if status is None and (wait := self._wait_of(ticket)) > self._admission.longest(ticket.priority):
            status, reason = 503, "wait"
        if status is None and self._admission.too_much_to_read(ticket, lines.prompt_tokens):
            status, reason = 503, "prompt tokens"
        if status is None:
            self._changed()
            return
        self._dispatcher.drop(ticket)
        self._picture.refused()
        if self._meter is not None:
            self._meter.refused(reason)
        raise self._admission.refusal(status, self.waiting, wait, reason, ticket)

    def _wait_of(self, ticket: Ticket) -> float:
        """Seconds that are foretold, 0 while nothing is known. In a flood one forecast serves many that are alike."""
        longest = self._admission.longest(ticket.priority)
        if longest >= ENDLESS:
            return 0.0
        flows, alone = self._schedule.flows, len(list(self._schedule.lines.of(*ticket.lane))) == 1
        known = "" if alone and flows.of(ticket.lane) <= flows.floor else ticket.flow
        key, now = (ticket.priority, ticket.model, known), self._clock.monotonic()
        verdict = self._verdicts.get(key)
        if verdict is not None and verdict.change == self._picture.change and now - verdict.at < VERDICT_SECONDS:
            return verdict.wait
        wait = self._picture.foretell(ticket, tuple(self._dispatcher.running), longest)
        if wait > longest:
            if len(self._verdicts) > self._admission.limits.waiting:
                self._verdicts.clear()
            self._verdicts[key] = _Verdict(self._picture.change, now, wait)
        return wait

    # What is told

    def _changed(self) -> None:
        self._picture.changed(tuple(self._dispatcher.running), paused=self._dispatcher.paused)
        if self._timer is None and len(self._schedule.lines) and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.poke()
