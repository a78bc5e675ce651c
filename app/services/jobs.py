"""Work that outlives the page that asked for it: the starter family, pulls, quantizing, comparisons.

Owns the list of jobs and their progress; the work itself is a coroutine handed in. A job has a key: asking for the
same key twice while it runs gives the same job.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import structlog

from app.core.errors import BadRequest, LoupeError
from app.core.ports import Clock, SystemClock
from app.services.job_pace import Pace

log = structlog.get_logger(__name__)
KEPT = 50  # finished jobs that are remembered
CANCEL_AGAIN_SECONDS = 5.0
NEWS_GAP = 0.1  # seconds between two looks of a watcher, at least


class JobState(StrEnum):
    WAITING = "waiting"  # for another job's turn to end
    RUNNING = "running"
    PAUSED = "paused"  # by a person, until `resume`
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # Loupe was stopped while it ran; `retry` goes on with it


class JobNotFound(LoupeError):
    status = 404
    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id[:32]}")


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as pages see it. `completed` and `total` in the unit that `detail` names; total 0 means unknown.

    `detail` is the sentence of what it is doing now. `host` and `model` say where and what it is about, "" where it is
    about neither. `pausable`: `pause` and `resume` mean something to it. `rate` is measured, in units of `completed` a
    second; `eta` in seconds; None where unknown.
    """

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
    host: str = ""
    model: str = ""
    pausable: bool = False
    rate: float | None = None
    eta: float | None = None
    ended_at: float | None = None

    @property
    def fraction(self) -> float | None:
        return min(1.0, self.completed / self.total) if self.total else None

    @property
    def active(self) -> bool:
        return self.state in (JobState.WAITING, JobState.RUNNING, JobState.PAUSED)


class JobHandle:
    """What the work uses to tell how far it is."""

    def __init__(self, jobs: Jobs, job_id: str, clock: Clock) -> None:
        self._jobs, self._id, self._clock = jobs, job_id, clock
        self._pace = Pace(clock)

    @property
    def stopping(self) -> bool:
        """Whether the whole server goes down: what is cancelled now is to be gone on with."""
        return self._jobs.stopping

    @property
    def paused(self) -> bool:
        return self._id in self._jobs._paused

    async def unpaused(self) -> None:
        """Returns at once unless the job is paused, else when it is resumed. A job that is pausable awaits it often."""
        while event := self._jobs._paused.get(self._id):
            await event.wait()

    def progress(
        self, completed: int, total: int, detail: str, *, moved: int | None = None, rated: bool = True,
        left: float | None = None,
    ) -> None:  # fmt: skip
        """`moved` is what the rate is taken of, where part of `completed` was there before. Not `rated`: the unit means
        nothing to people, so only the time left is told; `left` is that, where the work itself knows better."""
        rate = self._pace.tell(completed if moved is None else moved, total)
        eta = left if left is not None else (total - completed) / rate if rate and total else None
        rate = rate if rated else None
        self._jobs._update(
            self._id, completed=completed, total=total, detail=detail, rate=rate, eta=eta, state=JobState.RUNNING
        )

    def say(self, detail: str, *, waiting: bool = False) -> None:
        """What happens now where nothing is counted: the bar stays where it is, the rate is unknown."""
        self._pace.forget()
        state = JobState.WAITING if waiting else JobState.RUNNING
        self._jobs._update(self._id, detail=detail, rate=None, eta=None, state=state)

    def expect(self, seconds: float | None) -> None:
        """How long what was just said will take, where that is known beforehand; `eta` counts down from it."""
        until = None if seconds is None else self._clock.monotonic() + seconds
        self._jobs._expect(self._id, until)


Work = Callable[[JobHandle], Awaitable[None]]


class Jobs:
    """Runs jobs on the server's loop. `version` rises with every change, so that a page can poll cheaply."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._views: dict[str, JobView] = {}
        self._work: dict[str, Work] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._dismissed: dict[str, Callable[[], Awaitable[None]]] = {}
        self._paused: dict[str, asyncio.Event] = {}
        self._until: dict[str, float] = {}  # when a step that counts nothing is expected to end
        self._changed_at: dict[str, int] = {}  # the version of each job's last change
        self._numbers = itertools.count(1)
        self._news = asyncio.Event()
        self.version = 0
        self.stopping = False

    def list(self) -> tuple[JobView, ...]:
        """The newest first."""
        return tuple(self._seen(view) for view in reversed(list(self._views.values())))

    def get(self, job_id: str) -> JobView:
        """Raises `JobNotFound`."""
        if job_id not in self._views:
            raise JobNotFound(job_id)
        return self._seen(self._views[job_id])

    def runs_on(self, host: str) -> bool:
        """Whether a job is at work on the host of that name."""
        return any(job.host == host and job.state is JobState.RUNNING for job in self.list())

    def start(
        self, kind: str, key: str, title: str, work: Work, *, host: str = "", model: str = "", pausable: bool = False,
        paused: bool = False,
    ) -> JobView:  # fmt: skip
        """Begin, or give back the one with this key that is already under way. `paused`: it begins with a pause."""
        for view in self._views.values():
            if view.key == key and view.active:
                return self._seen(view)
        self._drop(key)
        job_id = self._add(
            JobView(
                "", kind, key, title, JobState.RUNNING, self._clock.now(), host=host, model=model, pausable=pausable
            ),
            work,
        )
        if paused:
            self.pause(job_id)
        self._launch(job_id)
        return self._views[job_id]

    def restore(self, view: JobView, work: Work, dismissed: Callable[[], Awaitable[None]]) -> JobView:
        """List a job that an earlier process left unfinished; `retry` goes on with it, `cancel` dismisses it."""
        job_id = self._add(replace(view, state=JobState.INTERRUPTED), work)
        self._dismissed[job_id] = dismissed
        return self._views[job_id]

    def retry(self, job_id: str) -> JobView:
        """Run a job that failed, was cancelled or was interrupted once more."""
        view = self.get(job_id)
        if view.active:
            return view
        if view.state is JobState.DONE:
            raise BadRequest(f"{view.title} is done", field="job")
        self._update(job_id, state=JobState.RUNNING, error="", ended_at=None, started_at=self._clock.now())
        self._launch(job_id)
        return self._views[job_id]

    def pause(self, job_id: str) -> JobView:
        """Let it rest at the next place where it can. Raises `BadRequest` where it has none, or is over."""
        view = self.get(job_id)
        if not (view.pausable and view.active):
            raise BadRequest(f"{view.title} cannot be paused", field="job")
        if job_id not in self._paused:
            self._paused[job_id] = asyncio.Event()
            self._update(job_id, state=JobState.PAUSED, rate=None, eta=None)
        return self.get(job_id)

    def resume(self, job_id: str) -> JobView:
        """Undo `pause`."""
        view = self.get(job_id)
        if (event := self._paused.pop(job_id, None)) is not None:
            event.set()
            if view.active:
                self._update(job_id, state=JobState.RUNNING)
        return self.get(job_id)

    async def cancel(self, job_id: str) -> None:
        """Returns when the work has stopped. One that was interrupted is given up."""
        if self.get(job_id).state is JobState.INTERRUPTED:
            self._end(job_id, JobState.CANCELLED)
            await self._dismissed[job_id]()
        task = self._tasks.get(job_id)
        while task is not None and not task.done():  # a library may take the request for its own timeout: ask again
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_AGAIN_SECONDS)

    async def watch(self) -> AsyncGenerator[tuple[JobView, ...], None]:
        """All jobs, oldest first, then those that changed, each time some did; at most ten times a second."""
        seen = -1
        while True:
            news, now = self._news, self.version
            changed = tuple(self._seen(view) for view in self._views.values() if self._changed_at[view.id] > seen)
            if changed or seen < 0:
                yield changed
            seen = now
            await news.wait()
            await asyncio.sleep(NEWS_GAP)

    async def stop(self) -> None:
        self.stopping = True
        tasks = set(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _add(self, view: JobView, work: Work) -> str:
        job_id = str(next(self._numbers))
        self._views[job_id], self._work[job_id] = replace(view, id=job_id), work
        self._update(job_id)
        self._forget_old()
        return job_id

    def _launch(self, job_id: str) -> None:
        task = asyncio.create_task(self._run(job_id), name=f"job {self._views[job_id].key}")
        self._tasks[job_id] = task
        task.add_done_callback(lambda _: self._over(job_id))

    async def _run(self, job_id: str) -> None:
        try:
            await self._work[job_id](JobHandle(self, job_id, self._clock))
        except asyncio.CancelledError:
            self._end(job_id, JobState.CANCELLED)
            raise
        except LoupeError as error:
            log.warning("job failed", job=self._views[job_id].key, error=error.message)
            self._end(job_id, JobState.FAILED, error.message)
        except Exception:
            log.exception("job broke", job=self._views[job_id].key)
            self._end(job_id, JobState.FAILED, "something broke; the log has the details")
        else:
            self._end(job_id, JobState.DONE)

    def _over(self, job_id: str) -> None:
        self._tasks.pop(job_id, None)
        if job_id in self._views and self._views[job_id].active:  # cancelled before its first step
            self._end(job_id, JobState.CANCELLED)

    def _end(self, job_id: str, state: JobState, error: str = "") -> None:
        self._until.pop(job_id, None)
        self._paused.pop(job_id, None)
        self._update(job_id, state=state, error=error, rate=None, eta=None, ended_at=self._clock.now())

    def _expect(self, job_id: str, until: float | None) -> None:
        self._until.pop(job_id, None)
        if until is not None:
            self._until[job_id] = until
        self._update(job_id)

    def _seen(self, view: JobView) -> JobView:
        """The view with the time left as of now, where that is counted down and not measured."""
        until = self._until.get(view.id)
        if until is None or view.eta is not None:
            return view
        return replace(view, eta=max(0.0, until - self._clock.monotonic()))

    def _update(self, job_id: str, **changes: object) -> None:
        if job_id in self._paused and changes.get("state") in (JobState.RUNNING, JobState.WAITING):
            changes["state"] = JobState.PAUSED  # what was begun before the pause still tells how far it is
        self._views[job_id] = replace(self._views[job_id], **changes)  # type: ignore[arg-type]  # checked by the fields
        self.version += 1
        self._changed_at[job_id] = self.version
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _drop(self, key: str) -> None:
        """What was interrupted, failed or cancelled under this key is being gone on with: one row for one thing."""
        for view in list(self._views.values()):
            if view.key == key and view.state is not JobState.DONE:
                self._forget(view.id)

    def _forget_old(self) -> None:
        finished = [view.id for view in self._views.values() if not view.active]
        for job_id in finished[: max(0, len(finished) - KEPT)]:
            self._forget(job_id)

    def _forget(self, job_id: str) -> None:
        del self._views[job_id], self._work[job_id], self._changed_at[job_id]
        self._dismissed.pop(job_id, None)
