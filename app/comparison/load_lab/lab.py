"""Load runs as the pages, routes and the command line know them: begun, watched, ended, kept, deleted.

A run is a job of the server and goes the way of every request (queue, pool, attempt), with the answer cache left out
and as many flows as it has people. One runs at a time. It keeps off hosts that others use, and stops when somebody
comes, unless it was told to go on all the same.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from app.comparison.courtesy import Sleep
from app.comparison.host_bench import Way
from app.comparison.load_lab import runs, sources
from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.figures import LoadFigures, load_figures
from app.comparison.load_lab.generator import Generator, Probe
from app.comparison.load_lab.others import FLOW, KIND, HostUse
from app.comparison.load_lab.plan import LoadPlan
from app.comparison.load_lab.questions import Asking, Shot, shots
from app.comparison.load_lab.runs import HostInUse, LoadRun, LoadRunNotFound, LoadStore
from app.comparison.machine import environment
from app.comparison.results import Environment
from app.core.errors import BadRequest, ModelNotFound
from app.core.generation import CacheMode, Json
from app.core.ports import Clock
from app.services.chat import Caller
from app.services.jobs import JobHandle, Jobs, JobView

WARM_UP_TOKENS = 4
TELL_SECONDS = 0.5
LOOK_SECONDS = 0.5  # figures of a run under way are not taken more often: there may be many who look
CAME = "somebody came to use the host: what was measured by then is kept"
GONE = "Loupe was stopped while it ran"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who begins a run: whose chats may be used, whose limits hold, and whose own requests are nobody else's."""

    principal: str = "local"
    flow: str = "local"


@dataclass(frozen=True, slots=True)
class LoadNeeds:
    """What the lab stands on. `chats` gives the questions of a principal's own chats."""

    way: Way
    jobs: Jobs
    clock: Clock
    chats: Callable[[str], Awaitable[Sequence[Asking]]]
    sleep: Sleep = asyncio.sleep


@dataclass(slots=True)
class _Course:
    """A run under way: its questions, and what sends them."""

    shots: Sequence[Shot]
    hosts: Sequence[str]
    asker: Asker
    generator: Generator | None = None
    began: float = 0.0
    told: tuple[float, LoadFigures] | None = None  # when they were taken, and the figures


class LoadLab:
    """`version` rises with every change. `list` and `get` may be called from any thread; the rest on the loop."""

    def __init__(self, needs: LoadNeeds, store: LoadStore) -> None:
        self._needs, self._store = needs, store
        self._use = HostUse(needs.way, needs.jobs, needs.clock)
        self._runs: dict[str, LoadRun] = {}
        self._jobs: dict[str, str] = {}  # run → job
        self._courses: dict[str, _Course] = {}
        self.version = 0

    async def start(self) -> None:
        """Read what is there. What the end of the process cut off is not gone on with: a load has its own time."""
        for run in await asyncio.to_thread(self._store.runs):
            cut = run.state == runs.RUNNING
            self._runs[run.id] = replace(run, state=runs.INTERRUPTED, why=GONE) if cut else run

    # -- looking --------------------------------------------------------------------------------------------------

    def list(self) -> tuple[LoadRun, ...]:
        """The newest first, as they were at their end."""
        return tuple(sorted(self._runs.values(), key=lambda run: run.started_at, reverse=True))

    def get(self, run_id: str) -> LoadRun:
        """With the figures so far where it goes on. Raises `LoadRunNotFound`."""
        run, course = self._kept(run_id), self._courses.get(run_id)
        if course is None or course.generator is None or run.state != runs.RUNNING:
            return run
        elapsed = max(0.0, self._needs.clock.monotonic() - course.began)
        if course.told is None or elapsed - course.told[0] >= LOOK_SECONDS:
            course.told = elapsed, _figures(course.generator, run.plan, elapsed, cut=True)
        return replace(run, figures=course.told[1])

    def _kept(self, run_id: str) -> LoadRun:
        run = self._runs.get(run_id)
        if run is None:
            raise LoadRunNotFound(run_id)
        return run

    def job(self, run_id: str) -> JobView | None:
        """How far it is; None where no job remembers it."""
        job_id = self._jobs.get(self._kept(run_id).id)
        return next((view for view in self._needs.jobs.list() if view.id == job_id), None)

    async def rows(self, run_id: str) -> Sequence[Json]:
        """Every request of a run that has ended."""
        return await asyncio.to_thread(self._store.rows, self._kept(run_id).id)

    # -- doing ----------------------------------------------------------------------------------------------------

    async def begin(self, plan: LoadPlan, asker: Asker) -> LoadRun:
        """Raises `BadRequest` with what is wrong, `ModelNotFound`, `HostInUse`, `HostError`."""
        plan = plan.checked()
        if (busy := self._under_way()) is not None:
            raise HostInUse(f"a load run of {busy.title} is under way")
        hosts, digests = await self._where(plan)
        if not plan.anyway and (why := await self._use.why_not(hosts, asker.flow)):
            raise HostInUse(why)
        own, plan = await self._drawn_from(plan, asker)
        coming = await asyncio.to_thread(shots, plan, own)
        if not coming:
            raise BadRequest("no request comes within that time; ask for a longer one or a higher rate", "seconds")
        there = await self._environment(hosts[0])
        now = self._needs.clock.now()
        run = LoadRun(
            id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(2)}",
            plan=replace(plan, questions=(), recording=()), environment=there, state=runs.RUNNING, started_at=now,
            requests=len(coming), own=len(own), digests=digests,
        )  # fmt: skip
        if (busy := self._under_way()) is not None:  # begun while this one was being made
            raise HostInUse(f"a load run of {busy.title} is under way")
        self._courses[run.id] = _Course(coming, hosts, asker)
        self._publish(run)
        await asyncio.to_thread(self._store.write, run)
        self._launch(run)
        return run

    async def cancel(self, run_id: str) -> LoadRun:
        """Stop at once; what was measured is kept."""
        job = self.job(run_id)
        if job is not None:
            await self._needs.jobs.cancel(job.id)
        return self.get(run_id)

    async def delete(self, run_id: str) -> None:
        """Forget it with all its rows; one that runs is stopped."""
        await self.cancel(run_id)
        self._forget(run_id)
        await asyncio.to_thread(self._store.delete, run_id)

    # -- running --------------------------------------------------------------------------------------------------

    def _launch(self, run: LoadRun) -> None:
        job = self._needs.jobs.start(
            KIND, f"{KIND} {run.id}", f"Load on {run.title}", partial(self._work, run.id), host=run.environment.host,
            model=run.title,
        )  # fmt: skip
        self._jobs[run.id] = job.id
        self.version += 1

    async def _work(self, run_id: str, handle: JobHandle) -> None:
        course = self._courses.get(run_id)
        if course is None:
            raise BadRequest("this load run is over; begin a new one", "run")
        try:
            await self._load(run_id, course, handle)
        except asyncio.CancelledError:
            state, why = (runs.INTERRUPTED, GONE) if handle.stopping else (runs.CANCELLED, "")
            await asyncio.shield(self._end(run_id, state, why))
            raise
        except Exception as error:
            await self._end(run_id, runs.FAILED, str(error))
            raise
        await self._end(run_id, runs.DONE)

    async def _load(self, run_id: str, course: _Course, handle: JobHandle) -> None:
        run = self.get(run_id)
        loads = {}
        for model in run.plan.models:
            handle.say(f"Loading {model}")
            loads[model] = await self._warm_up(model, run.plan, course)
        self._publish(replace(run, loads=loads))
        generator = course.generator = Generator(
            course.shots, partial(self._send, run.plan, course.asker), self._needs.clock, sleep=self._needs.sleep,
            stop=lambda: not run.plan.anyway and self._use.came(course.hosts),
        )  # fmt: skip
        course.began = self._needs.clock.monotonic()
        telling = asyncio.create_task(self._tell(generator, len(course.shots), handle))
        try:
            await generator.run(run.plan.lasts([shot.due for shot in course.shots]), run.plan.drain)
        finally:
            telling.cancel()

    async def _tell(self, generator: Generator, total: int, handle: JobHandle) -> None:
        while True:
            asked = len(generator.outcomes)
            handle.progress(asked, total, f"{asked} of {total} asked, {generator.at_once} under way", rated=False)
            await self._needs.sleep(TELL_SECONDS)

    async def _warm_up(self, model: str, plan: LoadPlan, course: _Course) -> float:
        """Seconds until the model has answered once, so that its load is nobody's first token."""
        shot = next((one for one in course.shots if one.model == model), None)
        if shot is None:
            return 0.0
        body = shot.request.body
        options: dict[str, Json] = {**shot.request.options, "num_predict": WARM_UP_TOKENS}
        began = self._needs.clock.monotonic()
        async with aclosing(
            self._needs.way.chat.ask(
                replace(shot.request, body={**body, "options": options}), self._caller(plan, course.asker, 0)
            )
        ) as chunks:
            async for _ in chunks:
                continue
        return self._needs.clock.monotonic() - began

    async def _send(self, plan: LoadPlan, asker: Asker, shot: Shot, probe: Probe) -> None:
        caller = self._caller(plan, asker, shot.user)
        try:
            async with aclosing(self._needs.way.chat.ask(shot.request, caller)) as chunks:
                async for chunk in chunks:
                    probe.saw(chunk)
        finally:
            probe.queued(sum(span.seconds for span in caller.trace.spans if span.name == "queue"))

    def _caller(self, plan: LoadPlan, asker: Asker, user: int) -> Caller:
        flow = f"{FLOW} {user + 1}"
        trace = self._needs.way.telemetry.trace(principal=asker.principal, flow=flow)
        return Caller(
            principal=asker.principal, flow=flow, cache_mode=CacheMode.BYPASS, host=plan.host, trace=trace
        )  # fmt: skip

    async def _end(self, run_id: str, state: str, why: str = "") -> None:
        run, course = self._runs.get(run_id), self._courses.pop(run_id, None)
        if run is None or course is None:
            return
        generator = course.generator
        if generator is not None:
            if generator.stopped and state == runs.DONE:
                state, why = runs.STOPPED, CAME
            run = replace(run, figures=_figures(generator, run.plan, generator.seconds, cut=state != runs.DONE))
            await asyncio.to_thread(self._store.append, run_id, generator.outcomes)
        self._publish(replace(run, state=state, why=why, ended_at=self._needs.clock.now()))
        await asyncio.to_thread(self._store.write, self._runs[run_id])
        for old in self.list()[runs.KEPT :]:
            self._forget(old.id)
            await asyncio.to_thread(self._store.delete, old.id)

    # -- what it stands on ----------------------------------------------------------------------------------------

    async def _where(self, plan: LoadPlan) -> tuple[Sequence[str], dict[str, str]]:
        """(the hosts that will feel it, the digest of each model)."""
        pool = self._needs.way.pool
        digests = {model: (await pool.resolve(model, fresh=True)).digest for model in plan.models}
        names = [status.address.name for status in pool.statuses()]
        if plan.host and plan.host not in names:
            raise BadRequest(f"there is no host {plan.host[:64]!r}; there is {', '.join(names)}", "host")
        for model in plan.models:
            if plan.host and not pool.offers(model, plan.host):
                raise BadRequest(f"{model} is not on {plan.host}", "host")
        hosts = [plan.host] if plan.host else [
            name for name in names if any(pool.offers(model, name) for model in plan.models)
        ]  # fmt: skip
        if not hosts:
            raise ModelNotFound(next(iter(plan.models)))
        return hosts, digests

    async def _drawn_from(self, plan: LoadPlan, asker: Asker) -> tuple[Sequence[Asking], LoadPlan]:
        """The questions of one's own, and the plan with the recording that it is to play."""
        own: Sequence[Asking] = tuple(Asking(text) for text in plan.questions)
        if plan.chats:
            own = await self._needs.chats(asker.principal)
        if plan.arrivals is Arrivals.RECORDED and not plan.recording:
            plan = replace(plan, recording=sources.of_requests(self._needs.way.telemetry.log))
        return own, plan

    async def _environment(self, host: str) -> Environment:
        backend = self._needs.way.pool.backend(host)
        return await asyncio.to_thread(environment, backend.address, await backend.version())

    def _under_way(self) -> LoadRun | None:
        return next((run for run in self._runs.values() if run.state == runs.RUNNING), None)

    def _publish(self, run: LoadRun) -> None:
        self._runs[run.id] = run
        self.version += 1

    def _forget(self, run_id: str) -> None:
        for kept in (self._runs, self._jobs, self._courses):
            kept.pop(run_id, None)
        self.version += 1


def _figures(generator: Generator, plan: LoadPlan, seconds: float, *, cut: bool) -> LoadFigures:
    outcomes = tuple(generator.outcomes)
    return load_figures(
        outcomes, generator.gaps, plan.limits, seconds=seconds, peak=generator.peak, cut=cut,
        counted=not cut and plan.counted(len(outcomes)),
    )  # fmt: skip
