"""What the tests of getting and making models have in common: the services over one host, and waiting for a job."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.backends.ollama_http import OllamaHttp
from app.backends.quantizer_process import QuantizerProcess
from app.core.hosts import HostAddress
from app.core.ports import SystemClock
from app.services.host_pool import HostPool
from app.services.jobs import Jobs, JobState, JobView
from app.services.model_jobs import ModelJobs, Workshop

SECONDS = 60.0


@dataclass(slots=True)
class Work:
    """`paused` are the waits between tries, which take no time here; `changes` counts how often models changed."""

    jobs: Jobs
    models: ModelJobs
    pool: HostPool
    data: Path
    paused: list[float]
    changes: int = 0

    async def until(self, job: JobView, check: Callable[[JobView], bool], seconds: float = SECONDS) -> JobView:
        """The first view of the job that `check` accepts; fails when it ends before, or after `seconds`."""
        async with asyncio.timeout(seconds):
            async for _ in self.jobs.watch():
                view = self.jobs.get(job.id)
                if check(view):
                    return view
                assert view.active, f"{view.title} ended: {view.state} {view.error}"
        raise AssertionError

    async def over(self, job: JobView, seconds: float = SECONDS) -> JobView:
        return await self.until(job, lambda view: not view.active, seconds)

    async def done(self, job: JobView, seconds: float = SECONDS) -> JobView:
        view = await self.over(job, seconds)
        assert view.state is JobState.DONE, f"{view.title}: {view.state} {view.error}"
        return view


@asynccontextmanager
async def working(data: Path, *urls: str, start: bool = True) -> AsyncIterator[Work]:
    """The services over hosts named one, two, …"""
    names = ("one", "two", "three")
    backends = [OllamaHttp(HostAddress(name, url)) for name, url in zip(names, urls, strict=False)]
    pool, jobs, paused = HostPool(backends, SystemClock()), Jobs(), []

    async def pause(seconds: float) -> None:
        paused.append(seconds)
        await asyncio.sleep(0)

    def changed() -> None:
        work.changes += 1

    data.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  # a test may wait for its disk
    models = ModelJobs(jobs, pool, changed, Workshop(QuantizerProcess(dict(os.environ)), data), pause=pause)
    work = Work(jobs, models, pool, data, paused)
    await pool.start()
    if start:
        await models.start()
    try:
        yield work
    finally:
        await jobs.stop()
        await pool.stop()
