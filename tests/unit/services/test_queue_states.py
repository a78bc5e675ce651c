"""The queue under every order of events that Hypothesis thinks of: what must hold holds after each."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.core.generation import Priority
from app.services.request_queue import QueueLimits
from proving.event_world import Host, Work, World

FLOWS, MODELS = ("a", "b", "c"), ("m:1", "m:2", "m:3")


class QueueStates(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = self.loop.run_until_complete(self._made())
        self.paused = False

    async def _made(self) -> World:
        hosts = [Host("one", 1, room=1, load=2.0), Host("two", 2, room=2, load=1.0)]
        return World(hosts, limits=QueueLimits(6, per_client=3), models=MODELS)

    def do(self, act) -> None:
        async def acting() -> None:
            act()

        self.loop.run_until_complete(acting())

    @property
    def open_works(self) -> list[Work]:
        return [work for work in self.world.works if work.ended is None and not work.left]

    @rule(
        flow=some.sampled_from(FLOWS), model=some.sampled_from(MODELS), priority=some.sampled_from(list(Priority)),
        prompt=some.integers(1, 400), answer=some.integers(1, 300),
    )  # fmt: skip
    def ask(self, flow: str, model: str, priority: Priority, prompt: int, answer: int) -> None:
        free = any(host.busy < host.slots for host in self.world.hosts.values())
        refused = len(self.world.refused)
        self.do(lambda: self.world.ask(flow, prompt=prompt, answer=answer, model=model, priority=priority))
        if free and not self.paused and not self.world.queue.waiting:
            assert len(self.world.refused) == refused, "work that could start at once was refused"

    @rule(seconds=some.floats(0.01, 40))
    def time_passes(self, seconds: float) -> None:
        self.do(lambda: self.world.clock.run(self.world.clock.monotonic() + seconds))

    @rule(which=some.integers(0, 20))
    def leave(self, which: int) -> None:
        if self.open_works:
            self.do(lambda: self.world.leave(self.open_works[which % len(self.open_works)]))

    @rule(which=some.integers(0, 20), priority=some.sampled_from(list(Priority)))
    def move(self, which: int, priority: Priority) -> None:
        waiting = [work.ticket for work in self.open_works if work.ticket and work.ticket.position]
        if waiting:
            self.do(lambda: self.world.queue.move(waiting[which % len(waiting)].ask.id, priority))

    @rule()
    def pause(self) -> None:
        self.paused = True
        self.do(self.world.queue.pause)

    @rule()
    def resume(self) -> None:
        self.paused = False
        self.do(self.world.queue.resume)
        self.do(self.world.look)

    @invariant()
    def slots_are_kept(self) -> None:
        hosts = self.world.hosts.values()
        assert all(0 <= host.busy <= host.slots for host in hosts)
        assert sum(host.busy for host in hosts) == self.world.queue.running

    @invariant()
    def no_slot_is_idle_while_somebody_waits(self) -> None:
        if self.world.queue.waiting and not self.paused:
            assert all(host.busy == host.slots for host in self.world.hosts.values())

    @invariant()
    def bounds_are_kept(self) -> None:
        assert self.world.queue.waiting <= 6
        rows = self.world.queue.snapshot().waiting
        assert all(sum(row.flow == flow for row in rows) <= 3 for flow in FLOWS)

    @invariant()
    def positions_are_one_to_n_and_ranges_are_honest(self) -> None:
        rows = self.world.queue.snapshot().waiting
        assert [row.position for row in rows] == list(range(1, self.world.queue.waiting + 1))
        for row in rows:
            assert row.why
            if row.eta is not None:
                assert 0 <= row.eta.low <= row.eta.likely <= row.eta.high <= 3 * row.eta.low + 1e-9

    @invariant()
    def a_flow_is_first_come_first_served_for_each_model(self) -> None:
        last: dict[tuple[str, Priority, str], int] = {}
        for row in self.world.queue.snapshot().waiting:
            ticket = self.world.queue.find(row.id)
            assert ticket is not None
            key = (row.flow, row.priority, row.model)
            if row.id not in self._moved():
                assert ticket.serial > last.get(key, 0)
                last[key] = ticket.serial

    def _moved(self) -> set[str]:
        """Those that were put into the other class, and so to its end."""
        tickets = [work.ticket for work in self.world.works if work.ticket]
        return {ticket.ask.id for ticket in tickets if ticket.priority is not ticket.ask.priority or ticket.moved}

    def teardown(self) -> None:
        try:
            self.resume()
            self.do(lambda: self.world.clock.run(self.world.clock.monotonic() + 3600))
            assert (self.world.queue.running, self.world.queue.waiting) == (0, 0), "somebody starved"
        finally:
            self.loop.close()


TestQueueStates = QueueStates.TestCase
TestQueueStates.settings = settings(max_examples=25, stateful_step_count=30)
