"""Who waits for a slot, in which order, and who is refused. One ticket per request, bounded, safe to cancel anywhere.

Order: nine interactive requests to one of the batch class while both wait; inside a class the flows take turns, and
inside a flow it is first come, first served. A request whose hosts are full does not hold up one whose host is free.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from app.core.errors import Cancelled, Draining, LoupeError, QueueFull
from app.core.generation import Priority
from app.core.ports import Clock
from app.services.host_lease import Lease
from app.services.queueing.views import Eta, QueueLimits, QueueSnapshot, RunningRow, WaitingRow

INTERACTIVE_PER_BATCH = 9  # Netflix's 90/10 partition of live and batch work
SMOOTHING = 0.3  # weight of the newest service time in the mean


class Ticket:
    """One request's place. Use it as an async context manager: leaving it frees whatever is held."""

    def __init__(self, queue: RequestQueue, flow: str, priority: Priority, model: str, entered: float) -> None:
        self._queue = queue
        self._future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self.flow, self.priority, self.model, self.entered = flow, priority, model, entered
        self.id = secrets.token_hex(8)
        self.position = 0
        """1 is next; 0 once it is admitted or gone."""
        self.avoid = ""
        """The host that has just failed this request; another one is to be preferred."""
        self.eta: Eta | None = None
        self.lease: Lease | None = None
        self.began: float | None = None

    async def admitted(self) -> Lease:
        """Wait for a slot. Raises what makes waiting pointless: `NoHealthyHost`, `ModelNotFound`, `Draining`."""
        try:
            return await self._future
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Leave the queue, or give the slot back. Calling it again does nothing."""
        self._queue.leave(self)

    release = cancel

    async def elsewhere(self, failed: str) -> Lease:
        """Give the slot back and wait, at the head of the line, for one that is not on the host `failed`."""
        self.avoid = failed
        self._future = asyncio.get_running_loop().create_future()
        self._queue.again(self)
        return await self.admitted()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def settle(self, outcome: Lease | LoupeError) -> bool:
        """Tell the waiter; False if it has gone already."""
        if self._future.done():
            return False
        if isinstance(outcome, LoupeError):
            self._future.set_exception(outcome)
            self._future.exception()  # a caller that has gone never reads it: that is no bug to be logged
        else:
            self._future.set_result(outcome)
        return True


class RequestQueue:
    """Belongs to one event loop; the attributes of tickets and `snapshot` may be read from any thread.

    `reserve(model, host to avoid)` takes a slot at once, returns None if all are taken, or raises what waiting cannot
    mend. Whoever owns the slots calls `poke` when one may have become free.
    """

    def __init__(
        self,
        max_waiting: int,
        clock: Clock,
        *,
        reserve: Callable[[str, str], Lease | None],
        max_per_flow: int = 16,
    ) -> None:
        self._limit, self._per_flow = max_waiting, max_per_flow
        self._clock, self._reserve = clock, reserve
        self._waiting: dict[Priority, OrderedDict[str, deque[Ticket]]] = {kind: OrderedDict() for kind in Priority}
        self._running: set[Ticket] = set()
        self._since_batch = 0
        self._service: dict[str, float] = {}
        self._views: tuple[WaitingRow, ...] = ()
        self._dispatching = self._again = self._closed = self._paused = self._draining = False

    @property
    def waiting(self) -> int:
        return sum(len(line) for flows in self._waiting.values() for line in flows.values())

    @property
    def running(self) -> int:
        return len(self._running)

    def enter(self, flow: str, priority: Priority, model: str) -> Ticket:
        """Take a place; the slot is there at once if one is free. Raises `QueueFull` or `Draining` without waiting."""
        if self._closed:
            raise Draining
        if self._draining:
            raise Draining("the queue is being drained: nothing new is taken until an operator opens it again")
        ticket = Ticket(self, flow, priority, model, self._clock.monotonic())
        self._waiting[priority].setdefault(flow, deque()).append(ticket)
        self.poke()
        if ticket.position:
            of_flow = sum(len(flows.get(flow, ())) for flows in self._waiting.values())
            if self.waiting > self._limit or of_flow > self._per_flow:
                ticket.cancel()
                raise self._full(of_flow)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Take a ticket out, wherever it is, and free its slot."""
        if ticket in self._running:
            self._running.discard(ticket)
            self._learn(ticket)
            if ticket.lease is not None:
                ticket.lease.release()
        else:
            self._remove(ticket)
            ticket.settle(Cancelled("stop"))
        ticket.position = 0
        self.poke()

    def again(self, ticket: Ticket) -> None:
        """Put a running request whose host failed back to the head of the line. It is never refused for the bound."""
        self._running.discard(ticket)
        lease, ticket.lease, ticket.began = ticket.lease, None, None
        flows = self._waiting[ticket.priority]
        flows.setdefault(ticket.flow, deque()).appendleft(ticket)
        flows.move_to_end(ticket.flow, last=False)
        if lease is not None:
            lease.release()
        self.poke()

    def poke(self) -> None:
        """Give free slots to those who wait. Slots that are freed while this runs are given out by the same run."""
        if self._dispatching:
            self._again = True
            return
        self._dispatching = True
        try:
            while self._admit_one():
                pass
        finally:
            self._dispatching = False
        self._number()

    def close(self) -> None:
        """Admit nobody any more; everyone who waits is told that the process goes down."""
        self._closed = True
        for ticket in list(self._order()):
            self._remove(ticket)
            ticket.settle(Draining())
            ticket.position = 0
        self._number()

    def snapshot(self) -> QueueSnapshot:
        now = self._clock.monotonic()
        running = tuple(
            RunningRow(
                ticket.id, ticket.flow, "local", ticket.model, ticket.priority,
                ticket.lease.address.name if ticket.lease else "", "running", now - (ticket.began or now), 0,
            )
            for ticket in tuple(self._running)
        )  # fmt: skip
        limits = QueueLimits(self._limit, self._per_flow, self._per_flow)
        return QueueSnapshot(self._views, running, limits, self._paused, self._draining)

    # Operations

    def pause(self) -> None:
        """Give nobody a slot until `resume`; what runs goes on, and requests are still taken."""
        self._paused = True

    def resume(self) -> None:
        """Dispatch again, and take new requests again."""
        self._paused = self._draining = False
        self.poke()

    def drain(self) -> None:
        """Take nothing new until `resume`; who waits is still served."""
        self._draining = True

    def cancel(self, ticket_id: str) -> bool:
        """End a request that waits; False if there is none of that id."""
        for ticket in self._order():
            if ticket.id == ticket_id:
                ticket.cancel()
                return True
        return False

    def move(self, ticket_id: str, priority: Priority) -> bool:
        """Put a waiting request at the end of its flow in the other class; False if none of that id waits."""
        for ticket in list(self._order()):
            if ticket.id == ticket_id:
                self._remove(ticket)
                ticket.priority = priority
                self._waiting[priority].setdefault(ticket.flow, deque()).append(ticket)
                self.poke()
                return True
        return False

    # Order

    def _order(self) -> Iterator[Ticket]:
        """Everyone who waits, in the order in which slots would go to them if all hosts were alike."""
        lines = {kind: self._turns(kind) for kind in Priority}
        heads = {kind: next(line, None) for kind, line in lines.items()}
        since = self._since_batch
        while any(heads.values()):
            kind = Priority.INTERACTIVE
            if heads[kind] is None or (since >= INTERACTIVE_PER_BATCH and heads[Priority.BATCH] is not None):
                kind = Priority.BATCH
            ticket = heads[kind]
            if ticket is None:
                return
            since = 0 if kind is Priority.BATCH else since + (heads[Priority.BATCH] is not None)
            yield ticket
            heads[kind] = next(lines[kind], None)

    def _turns(self, kind: Priority) -> Iterator[Ticket]:
        lines = [list(line) for line in self._waiting[kind].values()]
        for turn in range(max(map(len, lines), default=0)):
            for line in lines:
                if turn < len(line):
                    yield line[turn]

    def _admit_one(self) -> bool:
        """Give one slot away; False when nobody can be served now."""
        self._again = False
        if self._paused:
            return False
        full: set[tuple[str, str]] = set()
        for ticket in self._order():
            wanted = (ticket.model, ticket.avoid)
            if wanted in full:
                continue
            try:
                lease = self._reserve(*wanted)
            except LoupeError as error:
                self._remove(ticket)
                ticket.position = 0
                ticket.settle(error)
                return True
            if lease is None:
                full.add(wanted)
                continue
            self._start(ticket, lease)
            return True
        return self._again

    def _start(self, ticket: Ticket, lease: Lease) -> None:
        batch_waits = bool(self._waiting[Priority.BATCH])
        self._remove(ticket)
        flows = self._waiting[ticket.priority]
        if ticket.flow in flows:
            flows.move_to_end(ticket.flow)
        if ticket.priority is Priority.BATCH:
            self._since_batch = 0
        elif batch_waits:
            self._since_batch += 1
        ticket.position, ticket.lease, ticket.began = 0, lease, self._clock.monotonic()
        self._running.add(ticket)
        if not ticket.settle(lease):
            self.leave(ticket)

    def _remove(self, ticket: Ticket) -> None:
        flows = self._waiting[ticket.priority]
        line = flows.get(ticket.flow)
        if line is not None and ticket in line:
            line.remove(ticket)
            if not line:
                del flows[ticket.flow]

    # Estimates

    def _number(self) -> None:
        now = self._clock.monotonic()
        views = []
        ahead = sum(self._remaining(ticket, now) for ticket in self._running)
        known = bool(self._service)
        slots = max(1, len(self._running))
        for position, ticket in enumerate(self._order(), start=1):
            ticket.position = position
            likely = ahead / slots
            ticket.eta = Eta(likely, likely / 1.7, likely * 1.7) if known else None
            ahead += self._expected(ticket.model)
            views.append(
                WaitingRow(
                    ticket.id, ticket.flow, "local", ticket.model, ticket.priority, position, now - ticket.entered,
                    ticket.eta, "all slots are taken",
                )
            )  # fmt: skip
        self._views = tuple(views)

    def _expected(self, model: str) -> float:
        """Mean seconds of service, of this model or of all of them."""
        if model in self._service:
            return self._service[model]
        return sum(self._service.values()) / len(self._service) if self._service else 0.0

    def _remaining(self, ticket: Ticket, now: float) -> float:
        ran = now - ticket.began if ticket.began is not None else 0.0
        return max(0.0, self._expected(ticket.model) - ran)

    def _learn(self, ticket: Ticket) -> None:
        if ticket.began is None:
            return
        took = self._clock.monotonic() - ticket.began
        before = self._service.get(ticket.model)
        self._service[ticket.model] = took if before is None else before + SMOOTHING * (took - before)

    def _full(self, of_flow: int) -> QueueFull:
        """503 for the whole queue, 429 for one flow; Retry-After is jittered so that not all return together."""
        wait = sum(self._expected(view.model) for view in self._views) / max(1, len(self._running))
        jittered = wait * random.uniform(0.8, 1.2)
        error = QueueFull(self.waiting, self._limit, retry_after=min(60.0, max(1.0, jittered)))
        if of_flow > self._per_flow and self.waiting <= self._limit:
            error.status = 429
        return error
