"""Going on through a lost connection: how often, what is said, and what is not tried again."""

from __future__ import annotations

import pytest

from app.core.errors import HostProtocolError, HostRefused, HostTimeout, HostUnreachable, LoupeError
from app.services.jobs import JobHandle, Jobs, JobState
from app.services.perseverance import WAITS, persevere

pytestmark = pytest.mark.anyio


class Trial:
    """Attempts that fail as scripted, then succeed; `paused` are the waits between them."""

    def __init__(self, *errors: LoupeError | None) -> None:
        self.errors, self.paused, self.said, self.moved = list(errors), [], [], 0

    async def attempt(self) -> None:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    async def run(self) -> tuple[JobState, str]:
        jobs = Jobs()

        async def work(handle: JobHandle) -> None:
            async def pause(seconds: float) -> None:
                self.paused.append(seconds)
                self.said.append(jobs.list()[0].detail)

            await persevere(self.attempt, handle, moved=lambda: self.moved, pause=pause)

        job = jobs.start("pull", "k", "t", work)
        async for _ in jobs.watch():
            if not jobs.get(job.id).active:
                break
        return jobs.get(job.id).state, jobs.get(job.id).error


async def test_a_lost_connection_is_tried_again_after_growing_waits_and_the_job_says_so() -> None:
    trial = Trial(HostProtocolError("h", "it hung up"), HostUnreachable("h", "refused"))
    assert await trial.run() == (JobState.DONE, "")
    assert trial.paused == list(WAITS[:2])
    assert trial.said[0].startswith(f"Connection lost, trying again (1 of {len(WAITS)})")


async def test_what_the_host_refuses_is_not_tried_again() -> None:
    trial = Trial(HostRefused("h", 500, "pull model manifest: file does not exist"))
    assert await trial.run() == (JobState.FAILED, "pull model manifest: file does not exist")
    assert trial.paused == []


async def test_a_busy_host_is_waited_for() -> None:
    trial = Trial(HostRefused("h", 503, "server busy"))
    assert await trial.run() == (JobState.DONE, "")


async def test_after_six_tries_in_vain_it_fails_with_the_hosts_name_in_the_sentence() -> None:
    trial = Trial(*[HostUnreachable("attic", "refused")] * 7)
    state, error = await trial.run()
    assert state is JobState.FAILED and "attic" in error
    assert trial.paused == list(WAITS)


async def test_progress_between_two_losses_begins_the_count_anew() -> None:
    trial = Trial(*[HostUnreachable("h")] * 9)
    plain = trial.attempt

    async def attempt() -> None:
        trial.moved += 1
        await plain()

    trial.attempt = attempt  # type: ignore[method-assign]
    assert (await trial.run())[0] is JobState.DONE
    assert trial.paused == [WAITS[0]] * 9


async def test_what_was_waited_for_in_vain_for_hours_is_not_begun_again_where_that_is_said() -> None:
    jobs, tries = Jobs(), []

    async def attempt() -> None:
        tries.append(1)
        raise HostTimeout("h", "stall", 21600.0)

    async def work(handle: JobHandle) -> None:
        await persevere(attempt, handle, again=lambda error: not isinstance(error, HostTimeout))

    job = jobs.start("make", "k", "t", work)
    async for _ in jobs.watch():
        if not jobs.get(job.id).active:
            break
    assert len(tries) == 1 and "took longer than 21600 s" in jobs.get(job.id).error
