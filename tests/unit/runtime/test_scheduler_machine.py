"""The scheduler under whatever order of events: requests, leaving, loads that end or fail, crashes, time, unloading.

After every step: never more models than allowed, never more memory than the budget but for a single model, none
evicted that a request holds, and at the end every request has had exactly one outcome.
"""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.core.errors import GenerationFailed, LoupeError, ModelLoadFailed
from app.runtime.memory_budget import PROCESS
from tests.scheduling import GIB, Bench, FakeWorker, Machine, Request, a_model, settle

BUDGET, MOST, QUEUE = 6 * GIB, 3, 4
DEADLINE = 10.0  # seconds that a step may take; nothing in it waits for time to pass
SIZES = {"a": 1 * GIB, "b": 2 * GIB, "c": 3 * GIB, "d": 5 * GIB, "e": 7 * GIB}  # e surely does not fit
MODELS = st.sampled_from(sorted(SIZES))


class SchedulerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.machine = Machine(held=True, sizes={name: size - PROCESS for name, size in SIZES.items()})
        self.bench = self.loop.run_until_complete(self._made())
        self.requests: list[Request] = []
        self.evicted: list[str] = []

    async def _made(self) -> Bench:
        return Bench(self.machine, memory=BUDGET, max_loaded=MOST, max_queue=QUEUE, crash_limit=3)

    def run(self, work) -> None:
        self.loop.run_until_complete(asyncio.wait_for(work, DEADLINE))
        for worker in self.machine.workers:
            worker.on_kill = self._killed

    def _killed(self, worker: FakeWorker) -> None:
        if any(request.holds is worker for request in self.requests):
            self.evicted.append(worker.config.model.name)

    @property
    def holding(self) -> list[Request]:
        return [request for request in self.requests if request.holds is not None]

    @property
    def waiting(self) -> list[Request]:
        return [request for request in self.requests if not request.task.done() and request.runner is None]

    @rule(
        model=MODELS,
        context=st.sampled_from([512, 1024]),
        keep_alive=st.sampled_from([None, None, -1, 0, 60]),
    )
    def ask(self, model: str, context: int, keep_alive: int | None) -> None:
        async def work() -> None:
            self.requests.append(await self.bench.ask(model, keep_alive, num_ctx=context))

        self.run(work())

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.run(data.draw(st.sampled_from(self.holding)).finish())

    @precondition(lambda self: self.holding or self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.run(data.draw(st.sampled_from(self.holding + self.waiting)).leave())

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave_as_the_load_ends(self, data: st.DataObject) -> None:
        for loading in self.machine.starting.values():
            loading.set_result(None)
        self.run(data.draw(st.sampled_from(self.waiting)).leave())

    @precondition(lambda self: self.machine.starting)
    @rule(outcome=st.sampled_from(["loaded", "loaded", "loaded", "failed", "aborted", "no memory"]))
    def end_of_the_load(self, outcome: str) -> None:
        (name,) = self.machine.starting
        failure = None
        if outcome != "loaded":
            reason = "failed to allocate buffer" if outcome == "no memory" else "broken"
            failure = ModelLoadFailed(name, reason, crashed=outcome == "aborted")
        self.run(self.bench.loaded(name, failure))

    @precondition(lambda self: self.machine.living)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.machine.living))
        worker.crash()

        async def work() -> None:
            await settle()
            for request in [request for request in self.requests if request.holds is worker]:
                await request.finish(GenerationFailed("worker", "gone"))

        self.run(work())

    @rule(seconds=st.sampled_from([1, 61, 301]))
    def pass_time(self, seconds: int) -> None:
        self.run(self.bench.advance(seconds))

    @rule(model=MODELS)
    def unload(self, model: str) -> None:
        async def work() -> None:
            self.bench.scheduler.unload(a_model(model))
            await settle()

        self.run(work())

    @invariant()
    def there_are_no_more_models_than_allowed(self) -> None:
        assert len(self.machine.living) + len(self.machine.starting) <= MOST

    @invariant()
    def the_budget_is_kept_but_for_a_single_model(self) -> None:
        names = [*self.machine.names(), *self.machine.starting]
        assert len(names) == 1 or sum(SIZES[name] for name in names) <= BUDGET

    @invariant()
    def one_file_has_one_worker_and_one_load_at_a_time(self) -> None:
        names = [*self.machine.names(), *self.machine.starting]
        assert len(set(names)) == len(names)
        assert len(self.machine.starting) <= 1

    @invariant()
    def no_model_in_use_was_evicted(self) -> None:
        assert self.evicted == []

    @invariant()
    def holds_are_counted(self) -> None:
        for runner in {id(request.runner): request.runner for request in self.holding}.values():
            assert runner is not None
            assert runner.refs == sum(request.runner is runner for request in self.holding)

    @invariant()
    def the_line_is_bounded(self) -> None:
        assert len(self.waiting) <= QUEUE + 1

    @invariant()
    def somebody_goes_on(self) -> None:
        """Whoever waits does so for a load under way or for a request that holds a model."""
        assert not self.waiting or self.machine.starting or self.holding

    def teardown(self) -> None:
        async def work() -> None:
            while self.holding or self.machine.starting:
                for request in self.holding:
                    await request.finish()
                for name in list(self.machine.starting):
                    await self.bench.loaded(name)
            await self.bench.advance(10**4)

        try:
            self.run(work())
            assert self.waiting == []
            for request in self.requests:
                if (error := request.error()) is not None:
                    assert isinstance(error, LoupeError)
            assert all(row.expires_ns > self.bench.clock.epoch * 1e9 for row in self.bench.scheduler.rows())
            self.run(self.bench.scheduler.close())
            assert self.machine.living == []
            assert asyncio.all_tasks(self.loop) == set()
        finally:
            self.loop.close()


SchedulerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)
TestTheSchedulerUnderWhateverOrderOfEvents = SchedulerMachine.TestCase
