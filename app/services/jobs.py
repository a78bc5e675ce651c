"""Work that outlives the page that asked for it: the starter family, pulls, quantizing.

Owns the list of jobs and their progress; the work itself is a coroutine handed in. A job has a key: asking for the
same key twice while it runs gives the same job.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import structlog

from app.core.errors import BadRequest, LoupeError
from app.core.ports import Clock, SystemClock

log = structlog.get_logger(__name__)
KEPT = 50  # finished jobs that are remembered


class JobState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as pages see it. `completed` and `total` in the unit that `detail` names; total 0 means unknown."""

    id: str
    kind: str
    key: str
    title: str
    state: JobState
    started_at: float
    completed: int = 0
    total: int = 0
    detail: str = ""
    error: str = ""

    @property
    def fraction(self) -> float | None:
        return min(1.0, self.completed / self.total) if self.total else None

    @property
    def active(self) -> bool:
        return self.state in (JobState.WAITING, JobState.RUNNING)


class JobHandle:
    """What the work uses to tell how far it is."""

    def __init__(self, jobs: Jobs, job_id: str) -> None:
        self._jobs, self._id = jobs, job_id

    def progress(self, completed: int, total: int, detail: str) -> None:
        self._jobs._update(self._id, completed=completed, total=total, detail=detail)


Work = Callable[[JobHandle], Awaitable[None]]


class Jobs:
    """Runs jobs on the server's loop. `version` rises with every change, so that a page can poll cheaply."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._views: dict[str, JobView] = {}
        self._work: dict[str, Work] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)
        self.version = 0

    def list(self) -> tuple[JobView, ...]:
        """The newest first."""
        return tuple(reversed(self._views.values()))

    def get(self, job_id: str) -> JobView:
        if job_id not in self._views:
            raise BadRequest(f"there is no job {job_id}", field="job")
        return self._views[job_id]

    def start(self, kind: str, key: str, title: str, work: Work) -> JobView:
        """Begin, or give back the one with this key that is already under way."""
        for view in self._views.values():
            if view.key == key and view.active:
                return view
        job_id = str(next(self._numbers))
        self._views[job_id] = JobView(job_id, kind, key, title, JobState.RUNNING, self._clock.now())
        self._work[job_id] = work
        self._forget_old()
        self._launch(job_id)
        return self._views[job_id]

    def retry(self, job_id: str) -> JobView:
        """Run a job that failed or was cancelled once more."""
        if self.get(job_id).active:
            return self.get(job_id)
        self._update(job_id, state=JobState.RUNNING, error="")
        self._launch(job_id)
        return self._views[job_id]

    async def cancel(self, job_id: str) -> None:
        """Returns when the work has stopped."""
        self.get(job_id)
        task = self._tasks.get(job_id)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def stop(self) -> None:
        tasks = set(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _launch(self, job_id: str) -> None:
        task = asyncio.create_task(self._run(job_id), name=f"job {self._views[job_id].key}")
        self._tasks[job_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job_id, None))

    async def _run(self, job_id: str) -> None:
        try:
            await self._work[job_id](JobHandle(self, job_id))
        except asyncio.CancelledError:
            self._update(job_id, state=JobState.CANCELLED)
            raise
        except LoupeError as error:
            log.warning("job failed", job=self._views[job_id].key, error=error.message)
            self._update(job_id, state=JobState.FAILED, error=error.message)
        except Exception:
            log.exception("job broke", job=self._views[job_id].key)
            self._update(job_id, state=JobState.FAILED, error="something broke; the log has the details")
        else:
            self._update(job_id, state=JobState.DONE)

    def _update(self, job_id: str, **changes: object) -> None:
        self._views[job_id] = replace(self._views[job_id], **changes)  # type: ignore[arg-type]  # checked by the fields
        self.version += 1

    def _forget_old(self) -> None:
        finished = [view.id for view in self._views.values() if not view.active]
        for job_id in finished[: max(0, len(finished) - KEPT)]:
            del self._views[job_id], self._work[job_id]
