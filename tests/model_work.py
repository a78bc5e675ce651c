"""What the tests of getting and making models have in common: the services over one host, and waiting for a job."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.backends.ollama_http import OllamaHttp
from app.backends.quantizer_process import QuantizerProcess
from app.core.hosts import HostAddress
from app.core.ports import SystemClock
from app.services.host_pool import HostPool
from app.services.jobs import Jobs, JobState, JobView
from app.services.model_jobs import ModelJobs, Workshop
from tests.stub_registry import Answer, Published, StubRegistry

SECONDS = 60.0


@dataclass(slots=True)
class Work:
    """`paused` are the waits between tries, which last while `go_on` is cleared; `changes` counts news of models."""

    jobs: Jobs
    models: ModelJobs
    pool: HostPool
    data: Path
    paused: list[float] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
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
    pool, jobs = HostPool(backends, SystemClock()), Jobs()

    async def pause(seconds: float) -> None:
        work.paused.append(seconds)
        await work.go_on.wait()

    def changed() -> None:
        work.changes += 1

    data.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  # a test may wait for its disk
    models = ModelJobs(jobs, pool, changed, Workshop(QuantizerProcess(dict(os.environ)), data), pause=pause)
    work = Work(jobs, models, pool, data)
    work.go_on.set()
    await pool.start()
    if start:
        await models.start()
    try:
        yield work
    finally:
        await jobs.stop()
        await pool.stop()


@dataclass(frozen=True, slots=True)
class ThreadedRegistry:
    """A registry on a loop of its own, for tests whose product runs in processes."""

    registry: StubRegistry
    loop: asyncio.AbstractEventLoop

    def publish(self, model: str, weights: int) -> tuple[str, Published]:
        """Its name to pull by (over http), and what was published."""
        made = self.registry.publish(f"library/{model}", "q8_0", weights)
        return f"http://{self.registry.name(f'library/{model}:q8_0')}", made

    def open(self, answer: Answer) -> None:
        """Let an answer that is held go on."""
        self.loop.call_soon_threadsafe(answer.gate.set)


@contextmanager
def registry_in_a_thread() -> Iterator[ThreadedRegistry]:
    loop, registry = asyncio.new_event_loop(), StubRegistry()
    thread = threading.Thread(target=loop.run_forever, name="registry", daemon=True)
    thread.start()
    running = registry.running()

    def on_loop(work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(10)

    on_loop(running.__aenter__())
    try:
        yield ThreadedRegistry(registry, loop)
    finally:
        on_loop(running.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
