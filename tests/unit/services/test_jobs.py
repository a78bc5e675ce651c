"""Jobs on the running loop, with work that tests control by events."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from app.core.errors import BadRequest, StoreError
from app.services.jobs import JobHandle, JobNotFound, Jobs, JobState, JobView
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio


async def test_the_same_key_gives_the_job_that_runs_already() -> None:
    jobs, gate = Jobs(), asyncio.Event()

    async def work(handle: JobHandle) -> None:
        handle.progress(1, 4, "one of four")
        await gate.wait()

    first = jobs.start("pull", "pull m", "Pulling m", work)
    await asyncio.sleep(0)
    again = jobs.start("pull", "pull m", "Pulling m", work)
    assert (again.id, again.fraction, again.detail) == (first.id, 0.25, "one of four")
    gate.set()
    await jobs.stop()


async def test_a_cancelled_job_has_stopped_when_cancel_returns_and_can_be_tried_again() -> None:
    jobs, gate, ended = Jobs(), asyncio.Event(), []

    async def work(handle: JobHandle) -> None:
        try:
            await gate.wait()
        finally:
            ended.append(handle)

    view = jobs.start("pull", "k", "t", work)
    await asyncio.sleep(0)
    await jobs.cancel(view.id)
    assert ended and jobs.get(view.id).state is JobState.CANCELLED
    gate.set()
    jobs.retry(view.id)
    while jobs.get(view.id).active:
        await asyncio.sleep(0)
    assert jobs.get(view.id).state is JobState.DONE


async def test_a_failure_keeps_its_sentence_and_a_bug_keeps_its_details_to_the_log() -> None:
    jobs = Jobs()

    async def fails(handle: JobHandle) -> None:
        raise StoreError("the disk is full")

    async def breaks(handle: JobHandle) -> None:
        raise KeyError("secret")

    ids = [jobs.start("x", name, name, work).id for name, work in (("a", fails), ("b", breaks))]
    while any(jobs.get(i).active for i in ids):
        await asyncio.sleep(0)
    assert jobs.get(ids[0]).error == "the disk is full"
    assert jobs.get(ids[1]).state is JobState.FAILED and "secret" not in jobs.get(ids[1]).error


async def test_finished_jobs_are_forgotten_oldest_first() -> None:
    jobs = Jobs()

    async def nothing(handle: JobHandle) -> None:
        return

    for number in range(80):
        jobs.start("x", str(number), "t", nothing)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    keys = [view.key for view in jobs.list()]
    assert keys[0] == "79" and len(keys) <= 52


async def test_the_rate_is_measured_and_what_was_there_before_does_not_count() -> None:
    clock, gate = FakeClock(), asyncio.Event()
    jobs = Jobs(clock)
    handles: list[JobHandle] = []

    async def work(handle: JobHandle) -> None:
        handles.append(handle)
        await gate.wait()

    job = jobs.start("pull", "k", "t", work, host="one", model="m:latest")
    await asyncio.sleep(0)
    for second in range(5):
        handles[0].progress(5000 + 100 * second, 10_000, "Downloading", moved=100 * second)
        clock.advance(1.0)
    view = jobs.get(job.id)
    assert (view.rate, view.eta, view.host, view.model) == (100.0, 46.0, "one", "m:latest")
    handles[0].say("Connection lost")
    assert (jobs.get(job.id).rate, jobs.get(job.id).eta, jobs.get(job.id).completed) == (None, None, 5400)
    handles[0].progress(5400, 10_000, "Downloading")
    assert jobs.get(job.id).rate is None  # one telling is no measurement
    await jobs.stop()


async def test_a_step_that_counts_nothing_counts_its_time_down() -> None:
    clock, gate = FakeClock(), asyncio.Event()
    jobs = Jobs(clock)

    async def work(handle: JobHandle) -> None:
        handle.say("the host quantizes")
        handle.expect(30.0)
        await gate.wait()

    job = jobs.start("make", "k", "t", work)
    await asyncio.sleep(0)
    clock.advance(12.0)
    assert jobs.get(job.id).eta == 18.0
    clock.advance(60.0)
    assert jobs.get(job.id).eta == 0.0
    await jobs.cancel(job.id)
    assert jobs.get(job.id).eta is None and jobs.get(job.id).ended_at == clock.now()


async def test_watchers_get_every_job_once_and_then_what_changed() -> None:
    jobs, gate = Jobs(), asyncio.Event()

    async def work(handle: JobHandle) -> None:
        await gate.wait()

    first = jobs.start("x", "first", "t", work)
    second = jobs.start("x", "second", "t", work)
    watching = jobs.watch()
    assert [view.id for view in await anext(watching)] == [first.id, second.id]
    await jobs.cancel(second.id)
    assert [(view.id, view.state) for view in await anext(watching)] == [(second.id, JobState.CANCELLED)]
    await watching.aclose()
    await jobs.stop()


async def test_a_job_that_was_interrupted_is_gone_on_with_or_given_up() -> None:
    jobs, ran, given_up = Jobs(), [], []

    async def work(handle: JobHandle) -> None:
        ran.append(handle)

    async def dismissed() -> None:
        given_up.append(1)

    old = JobView("", "pull", "k", "Getting m", JobState.RUNNING, 5.0)
    one = jobs.restore(old, work, dismissed)
    two = jobs.restore(replace(old, key="other"), work, dismissed)
    assert one.state is JobState.INTERRUPTED and not one.active and ran == []
    jobs.retry(one.id)
    while jobs.get(one.id).active:
        await asyncio.sleep(0)
    assert jobs.get(one.id).state is JobState.DONE and len(ran) == 1
    await jobs.cancel(two.id)
    assert jobs.get(two.id).state is JobState.CANCELLED and given_up == [1]
    with pytest.raises(BadRequest, match="is done"):
        jobs.retry(one.id)
    with pytest.raises(JobNotFound):
        jobs.get("999")


async def test_a_new_start_takes_the_place_of_what_failed_under_the_same_key() -> None:
    jobs = Jobs()

    async def fails(handle: JobHandle) -> None:
        raise StoreError("the disk is full")

    first = jobs.start("pull", "k", "t", fails)
    while jobs.get(first.id).active:
        await asyncio.sleep(0)
    jobs.start("pull", "k", "t", fails)
    assert len(jobs.list()) == 1
    await jobs.stop()


async def test_work_that_swallows_a_cancelling_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.jobs.CANCEL_AGAIN_SECONDS", 0.01)
    jobs, begun = Jobs(), asyncio.Event()

    async def deaf_at_first(_handle: JobHandle) -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    job = jobs.start("pull", "k", "deaf", deaf_at_first)
    await begun.wait()
    await asyncio.wait_for(jobs.cancel(job.id), 5)
    assert jobs.get(job.id).state is JobState.CANCELLED


async def test_a_paused_job_rests_at_its_next_step_and_goes_on_when_it_is_told_to() -> None:
    jobs, steps = Jobs(), []

    async def work(handle: JobHandle) -> None:
        for step in range(3):
            await handle.unpaused()
            steps.append(step)
            handle.progress(step, 3, "working")
            await asyncio.sleep(0)

    view = jobs.start("scorecard", "k", "Comparing", work, pausable=True)
    await asyncio.sleep(0)
    assert jobs.pause(view.id).state is JobState.PAUSED
    for _ in range(5):
        await asyncio.sleep(0)
    assert steps == [0] and jobs.get(view.id).state is JobState.PAUSED and jobs.get(view.id).active
    assert jobs.resume(view.id).state is JobState.RUNNING
    while jobs.get(view.id).active:
        await asyncio.sleep(0)
    assert steps == [0, 1, 2] and jobs.get(view.id).state is JobState.DONE


async def test_a_job_begun_paused_does_nothing_until_it_is_resumed_and_can_be_cancelled_meanwhile() -> None:
    jobs, done = Jobs(), []

    async def work(handle: JobHandle) -> None:
        await handle.unpaused()
        done.append(1)

    view = jobs.start("scorecard", "k", "Comparing", work, pausable=True, paused=True)
    for _ in range(5):
        await asyncio.sleep(0)
    assert jobs.get(view.id).state is JobState.PAUSED
    await jobs.cancel(view.id)
    assert (done, jobs.get(view.id).state) == ([], JobState.CANCELLED)


async def test_what_has_no_place_to_rest_cannot_be_paused() -> None:
    jobs, gate = Jobs(), asyncio.Event()

    async def work(handle: JobHandle) -> None:
        await gate.wait()

    view = jobs.start("pull", "k", "Getting m", work)
    with pytest.raises(BadRequest, match="Getting m cannot be paused"):
        jobs.pause(view.id)
    await jobs.stop()
