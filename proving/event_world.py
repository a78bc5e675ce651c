"""A simulated day at the queue: a clock of events, hosts that only pretend, and requests of known length.

After Kubernetes' test of fair queuing: nothing waits for real, a run of hours takes seconds, and the same seed gives
the same run. The queue is the product's own; only time and the hosts are played.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from app.core.errors import QueueFull
from app.core.generation import Priority, Usage
from app.core.hosts import HostSeats
from app.services.host_lease import Lease
from app.services.request_queue import Ask, QueueLimits, RequestQueue, SwapRule, Ticket

UNBOUNDED = QueueLimits(10**6, 10**6, 10**6, 1e9, 1e9)
PREFILL, DECODE = 1e-3, 2e-3  # seconds a token: as the queue's weights have it, one to two


class EventClock:
    """Time goes from one event to the next."""

    def __init__(self) -> None:
        self._now, self._number = 0.0, itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def monotonic(self) -> float:
        return self._now

    now = monotonic

    def at(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(seconds, self._now), next(self._number), call))

    def step(self) -> bool:
        """Carry the next event out; False where there is none."""
        if not self._events:
            return False
        self._now, _, call = heapq.heappop(self._events)
        call()
        return True

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.step()
        self._now = until


@dataclass(slots=True)
class Host:
    """`room` models may be loaded at once; a load takes `load` seconds."""

    name: str
    slots: int = 1
    room: int = 1
    load: float = 0.0
    busy: int = 0
    peak: int = 0
    loaded: list[str] = field(default_factory=list)
    loads: int = 0


@dataclass(slots=True)
class Work:
    """One request and how it fared; `service` is the time in its slot without the load."""

    flow: str
    model: str
    priority: Priority
    prompt: int
    answer: int
    arrived: float
    limited: bool
    service: float = 0.0
    done: Callable[[Work], None] | None = None
    left: bool = False
    began: float | None = None
    ended: float | None = None
    ticket: Ticket | None = None

    @property
    def waited(self) -> float | None:
        return None if self.began is None else self.began - self.arrived


class World:
    """The queue, its hosts and its clock. Two controls: `limited` False, hosts give slots that they do not have;
    `fcfs`, all requests are of one flow and class. `foretell` False leaves estimates out, which take most time.
    """

    def __init__(
        self, hosts: Sequence[Host] = (), *, limits: QueueLimits = UNBOUNDED, rule: SwapRule | None = None,
        models: Collection[str] | None = None, limited: bool = True, fcfs: bool = False, foretell: bool = True,
    ) -> None:  # fmt: skip
        self.clock = EventClock()
        self.hosts = {host.name: host for host in hosts or [Host("one")]}
        self._models, self._limited, self._fcfs = models, limited, fcfs
        self.queue = RequestQueue(self, self.clock, limits=limits, rule=rule)
        if not foretell:
            self.queue._picture.draw = lambda *_, **__: None  # type: ignore[method-assign]
        self.refused: list[QueueFull] = []
        self.works: list[Work] = []
        self._waiting: dict[int, Work] = {}
        self.violations = 0

    # Hosts, as the queue sees them

    def seats(self) -> tuple[HostSeats, ...]:
        return tuple(
            HostSeats(
                host.name, host.slots, host.slots - host.busy if self._limited else 1, False, False, self._models,
                frozenset(host.loaded), self.clock.monotonic(),
            )
            for host in self.hosts.values()
        )  # fmt: skip

    def reserve(
        self, model: str, avoid: str = "", among: Collection[str] | None = None, prefix: int = 0
    ) -> Lease | None:
        free = [
            host for host in self.hosts.values()
            if (host.busy < host.slots or not self._limited) and (among is None or host.name in among)
        ]  # fmt: skip
        if not free:
            return None
        host = min(free, key=lambda host: (model not in host.loaded, host.busy / host.slots))
        host.busy += 1
        host.peak = max(host.peak, host.busy)
        self.violations += host.busy > host.slots
        lease = SimpleNamespace(address=SimpleNamespace(name=host.name), warm=model in host.loaded)
        lease.release = lambda: self._freed(host, lease)
        return cast(Lease, lease)

    def _freed(self, host: Host, lease: Any) -> None:
        host.busy -= 1
        lease.release = lambda: None

    # Requests

    def ask(
        self, flow: str, *, prompt: int = 100, answer: int = 100, model: str = "m:1",
        priority: Priority = Priority.INTERACTIVE, limited: bool = False, done: Callable[[Work], None] | None = None,
    ) -> Work | None:  # fmt: skip
        """A request arrives now; None if it was refused. `done` is called when it has been answered.

        `limited`: it tells the length of its answer (`num_predict`).
        """
        work = Work(flow, model, priority, prompt, answer, self.clock.monotonic(), limited)
        asked = Ask(
            model=model, flow="all" if self._fcfs else flow,
            priority=Priority.INTERACTIVE if self._fcfs else priority,
            prompt_chars=4 * prompt, most_tokens=answer if limited else None,
        )  # fmt: skip
        try:
            work.ticket = self.queue.enter(asked)
        except QueueFull as error:
            self.refused.append(error)
            return None
        self.works.append(work)
        self._waiting[id(work)] = work
        work.service, work.done = PREFILL * prompt + DECODE * answer, done
        self.look()
        return work

    def look(self) -> None:
        """Begin whatever has been given a slot."""
        for key, work in list(self._waiting.items()):
            ticket = work.ticket
            if ticket is None:
                continue
            if ticket.lease is not None:
                del self._waiting[key]
                self._begin(work, ticket)
            elif ticket.settled:
                del self._waiting[key]

    def _begin(self, work: Work, ticket: Ticket) -> None:
        work.began = self.clock.monotonic()
        host = self.hosts[ticket.host]
        load = 0.0
        if work.model in host.loaded:
            host.loaded.remove(work.model)
        else:
            host.loads, load = host.loads + 1, host.load
            host.loaded = host.loaded[-(host.room - 1) :] if host.room > 1 else []
        host.loaded.append(work.model)
        self.clock.at(work.began + load + work.service, lambda: self._end(work, ticket, load))

    def _end(self, work: Work, ticket: Ticket, load: float) -> None:
        if work.left:
            return
        work.ended = self.clock.monotonic()
        usage = Usage(
            load_ns=round(load * 1e9), prompt_tokens=work.prompt, prefill_ns=round(PREFILL * work.prompt * 1e9),
            output_tokens=work.answer, decode_ns=round(DECODE * work.answer * 1e9),
        )  # fmt: skip
        ticket.finish(usage)
        self.look()
        if work.done is not None:
            work.done(work)

    def leave(self, work: Work) -> None:
        """Its client goes away."""
        work.left = True
        if work.ticket is not None:
            work.ticket.cancel()
        self._waiting.pop(id(work), None)
        self.look()

    def backlog(self, flow: str, seconds: float, **request: Any) -> None:
        """Keep a flow backlogged: as soon as one of its four requests is answered it asks the next."""

        def again(_: Work) -> None:
            if self.clock.monotonic() < seconds:
                self.ask(flow, done=again, **request)

        for _ in range(4):
            self.ask(flow, done=again, **request)

    def slot_seconds(self, key: Callable[[Work], str], since: float = 0.0) -> Mapping[str, float]:
        """Time in slots by `key`, of what began after `since`."""
        found: dict[str, float] = {}
        for work in self.works:
            if work.began is not None and work.ended is not None and work.began >= since:
                found[key(work)] = found.get(key(work), 0.0) + work.ended - work.began
        return found
