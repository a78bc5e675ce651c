"""Jobs on the running loop, with work that tests control by events."""

from __future__ import annotations

import asyncio

import pytest

from app.core.errors import StoreError
from app.services.jobs import JobHandle, Jobs, JobState

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
