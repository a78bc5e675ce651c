"""Workers that die, hang or cannot be loaded: one clear error, and no endless restarts."""

from __future__ import annotations

import pytest

from app.core.errors import GenerationFailed, HostRefused, ModelKeepsCrashing, ModelLoadFailed
from app.runtime.worker_client import WorkerSilent
from tests.scheduling import Bench, Machine, a_model, bench, settle

pytestmark = pytest.mark.anyio
MODEL = "a"


async def crash(b: Bench, model=MODEL, why: str = "signal: SIGABRT") -> BaseException | None:
    """A worker that dies under a request; what the request ends with."""
    request = await b.ask(model)
    assert request.holds is not None
    request.holds.crash(why)
    await request.finish(GenerationFailed("worker", "the model runner has stopped"))
    return request.error()


async def test_a_worker_that_dies_is_replaced_for_the_next_request_and_the_error_says_why():
    async with bench() as b:
        failed = await crash(b, why="GGML_ASSERT(n > 0) failed")
        assert isinstance(failed, GenerationFailed)
        assert failed.message == "the model runner has stopped (GGML_ASSERT(n > 0) failed)"
        assert b.names() == set()
        await b.use(MODEL)
        assert len(b.machine.workers) == 2


async def test_an_error_of_a_request_whose_worker_lives_is_passed_on_as_it_is():
    async with bench() as b:
        request = await b.ask(MODEL)
        told = GenerationFailed("worker", "no such grammar")
        request.failure = told
        request.done.set()
        with pytest.raises(GenerationFailed) as caught:
            await request.task
        assert caught.value is told
        await b.use(MODEL)
        assert len(b.machine.workers) == 1


@pytest.mark.parametrize("kind", [HostRefused, GenerationFailed])
async def test_a_worker_that_ran_out_of_memory_ends_its_other_answers_and_is_replaced(kind):
    async with bench() as b:
        starved, other = await b.ask(MODEL), await b.ask(MODEL)
        said = '{"error":{"code":500,"message":"std::bad_alloc"}}'
        await starved.finish(HostRefused("worker", 500, said) if kind is HostRefused else kind("worker", said))
        told = starved.error()
        assert isinstance(told, GenerationFailed)
        assert "ran out of memory" in told.message and "num_ctx" in told.message
        next_one = await b.ask(MODEL)
        assert next_one.holds is None and other.holds is not None and other.holds.alive
        await other.finish()
        assert next_one.holds is b.machine.workers[1]


async def test_an_idle_worker_that_dies_is_no_error_for_anybody():
    async with bench() as b:
        await b.use(MODEL)
        b.machine.workers[0].crash()
        await b.use(MODEL)
        assert b.names() == {MODEL}


async def test_three_crashes_in_five_minutes_stop_the_restarts_and_say_why_until_when_and_what_to_do():
    async with bench() as b:
        for _ in range(3):
            await crash(b, why="GGML_ASSERT(n > 0) failed")
            await b.advance(60)
        refused = (await b.ask(MODEL)).error()
        assert isinstance(refused, ModelKeepsCrashing)
        assert refused.status == 503
        assert refused.retry_after == 120  # the first of the three is three minutes old
        assert "a:latest crashed 3 times within 5 minutes (GGML_ASSERT(n > 0) failed)" in refused.message
        assert "120 s" in refused.message and "pulling it anew" in refused.message
        await b.use("b")
        assert b.names() == {"b"}


async def test_an_idle_worker_that_died_counts_also_where_its_model_is_asked_for_before_its_last_words_are_read():
    async with bench(crash_limit=1) as b:
        await b.use(MODEL)
        worker = b.machine.workers[0]
        worker.may_be_read.clear()
        worker.crash()
        early = await b.ask(MODEL)
        assert early.holds is None
        worker.may_be_read.set()
        await settle()
        assert isinstance(early.error(), ModelKeepsCrashing)


async def test_after_its_time_a_model_that_crashed_is_tried_again_and_one_more_crash_stops_it_anew():
    async with bench() as b:
        for _ in range(3):
            await crash(b)
            await b.advance(60)
        await b.advance(119)
        assert isinstance((await b.ask(MODEL)).error(), ModelKeepsCrashing)
        await b.advance(1)
        await crash(b)
        assert isinstance((await b.ask(MODEL)).error(), ModelKeepsCrashing)


async def test_crashes_that_are_rare_stop_nothing():
    async with bench() as b:
        for _ in range(9):
            await crash(b)
            await b.advance(150)
        await b.use(MODEL)


async def test_unloading_a_model_that_crashed_gives_it_another_chance():
    async with bench() as b:
        for _ in range(3):
            await crash(b)
        b.scheduler.unload(a_model(MODEL))
        await b.use(MODEL)


async def test_a_model_pulled_or_created_after_its_crashes_starts_anew():
    async with bench() as b:
        for _ in range(3):
            await crash(b)
        old, new = (a_model(MODEL, installed=b.clock.epoch + seconds) for seconds in (-1, 1))
        assert isinstance((await b.ask(old)).error(), ModelKeepsCrashing)
        await b.use(new)


async def test_two_names_of_one_file_crash_together():
    async with bench() as b:
        for name in ("one", "two", "one"):
            await crash(b, a_model(name, file="blob"))
        assert isinstance((await b.ask(a_model("two", file="blob"))).error(), ModelKeepsCrashing)


@pytest.mark.parametrize(("crashed", "stopped"), [(True, True), (False, False)])
async def test_loads_that_are_killed_count_as_crashes_and_those_that_fail_do_not(crashed: bool, stopped: bool):
    failures = [ModelLoadFailed(MODEL, "GGML_ASSERT(x)", crashed=crashed) for _ in range(4)]
    async with bench(Machine(failures={MODEL: list(failures)})) as b:
        errors = [(await b.ask(MODEL)).error() for _ in range(4)]
        assert errors[:3] == failures[:3]
        assert isinstance(errors[3], ModelKeepsCrashing) is stopped


async def test_without_a_limit_a_model_may_crash_as_often_as_it_likes():
    async with bench(crash_limit=0) as b:
        for _ in range(9):
            await crash(b)
        await b.use(MODEL)


async def test_a_worker_ended_by_us_has_not_crashed():
    async with bench() as b:
        for _ in range(9):
            await b.use(MODEL, 0)
        await b.use(MODEL)


# hanging


async def test_an_idle_worker_that_does_not_answer_is_replaced_before_a_request_is_given_to_it():
    async with bench() as b:
        await b.use(MODEL)
        b.machine.workers[0].well = False
        await b.advance(11)
        first, second = await b.ask(MODEL), await b.ask(MODEL)
        assert first.holds is second.holds is b.machine.workers[1]
        assert not b.machine.workers[0].alive


async def test_a_worker_that_was_well_a_moment_ago_is_not_asked():
    async with bench() as b:
        await b.use(MODEL)
        await b.advance(9)
        await b.use(MODEL)
        assert b.machine.workers[0].asked == 0
        await b.advance(11)
        await b.use(MODEL)
        assert b.machine.workers[0].asked == 1


async def test_one_that_leaves_while_the_worker_is_asked_holds_nothing():
    async with bench() as b:
        await b.use(MODEL)
        await b.advance(11)
        asked = b.machine.workers[0].may_answer
        asked.clear()
        first, second = await b.ask(MODEL, 0), await b.ask(MODEL, 0)
        await first.leave()
        asked.set()
        await settle()
        await second.finish()
        assert b.machine.names() == []


async def test_an_idle_worker_is_left_in_peace(wait_for_event):
    async with bench(hang_s=0.01) as b:
        await b.use("a")
        busy = await b.ask("b")
        await wait_for_event(lambda: busy.holds is not None and busy.holds.asked > 3)
        assert b.machine.workers[0].asked == 0


async def test_a_worker_that_died_under_a_request_leaves_no_timer_behind():
    async with bench() as b:
        request = await b.ask(MODEL)
        b.machine.workers[0].crash()
        await settle()
        await request.finish()
        assert b.clock.timers == 0


async def test_a_worker_that_does_not_answer_for_long_under_a_request_is_ended(wait_for_event):
    async with bench(hang_s=0.01) as b:
        request = await b.ask(MODEL)
        worker = request.holds
        assert worker is not None
        worker.well = False
        await wait_for_event(lambda: worker.asked)
        assert worker.alive  # not for long yet
        b.clock.advance(1)
        await wait_for_event(lambda: not worker.alive)
        await request.finish(GenerationFailed("worker", "the connection broke"))
        assert "did not answer for" in str(request.error())
        assert b.names() == set()


async def test_a_worker_that_says_nothing_in_an_answer_is_given_up():
    async with bench() as b:
        request = await b.ask(MODEL)
        await request.finish(WorkerSilent("worker", "the model runner said nothing for 600 s"))
        assert isinstance(request.error(), WorkerSilent)
        assert b.machine.names() == []


async def test_killing_at_once_ends_every_worker():
    async with bench() as b:
        await b.use("a")
        await b.use("b")
        b.scheduler.kill_now()
        assert b.machine.names() == []
        assert b.names() == set()


@pytest.fixture
def wait_for_event():
    """Lets the loop run until something holds; the test's own time limit is the deadline."""
    import asyncio

    async def wait(holds) -> None:
        while not holds():
            await asyncio.sleep(0.001)

    return wait
