"""The batching lab: studies begun, listed, paused, cancelled, deleted. Each one is a job of the server.

On our embedded runtime it measures in runtimes of its own beside it, one for each setup, over the same model files, so
that nothing of what people use is changed or restarted; any other host is measured as it is set up. A study that the
end of the process cut off is kept with what it had.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from app.comparison.batching import advice
from app.comparison.batching.frame import Frame
from app.comparison.batching.options_run import OptionsRun, changes_answers
from app.comparison.batching.site import Around, Grounds, unload
from app.comparison.batching.slots_run import SlotsRun
from app.comparison.batching.study import OPTIONS, SLOTS, UNDER_WAY, AskedStudy, Study
from app.comparison.batching.study_store import StudyNotFound, StudyStore
from app.comparison.comparisons import Needs
from app.comparison.courtesy import Courtesy
from app.comparison.machine import busy_share, environment
from app.core.errors import BadRequest, LoupeError, ModelNotFound
from app.core.hosts import HostAddress
from app.core.measures import Memory
from app.core.ports import Backend
from app.core.runtime_setup import PER_REQUEST, VARIABLES, RuntimeSetup
from app.models.memory_report import memory_of
from app.services.jobs import JobHandle, JobState, JobView

KIND = "batching study"
FLOW = "batching"
BESIDE = ("scorecard", "training data", "load", "batch")  # kinds of jobs at their host that come first
LOOK_SECONDS = 0.5
BUSY = 0.25  # of the processor, taken by others before anything is measured
USUAL_CONTEXT = 4096  # tokens a slot, where nobody asks for another


class HostAsItIs:
    """Grounds of a host that is not ours to set up."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def open(self, setup: RuntimeSetup) -> Backend:
        return self._backend

    async def close(self) -> None:
        """It stays."""


@dataclass(frozen=True, slots=True)
class LabNeeds:
    """`own` makes the grounds of a model in our runtime's store; `in_force` says how that runtime is set up; `tidy`
    takes away, at the start, what grounds of a process that was killed have left."""

    needs: Needs
    own: Callable[[str], Grounds]
    in_force: Callable[[], RuntimeSetup]
    tidy: Callable[[], None]


class BatchingLab:
    """`list` and `get` may be called from any thread; the rest on the loop. `version` rises with every change."""

    def __init__(self, lab: LabNeeds, store: StudyStore) -> None:
        self._lab, self._needs, self._store = lab, lab.needs, store
        self._studies: dict[str, Study] = {}
        self._jobs: dict[str, str] = {}  # study → job
        self._turn = asyncio.Lock()
        self.version = 0

    async def start(self) -> None:
        """Read what is there."""
        await asyncio.to_thread(self._lab.tidy)
        for study in await asyncio.to_thread(self._store.studies):
            cut = study.state in UNDER_WAY
            self._studies[study.id] = replace(study, state="interrupted") if cut else study

    def list(self) -> tuple[Study, ...]:
        """The newest first."""
        return tuple(sorted(self._studies.values(), key=lambda study: study.started_at, reverse=True))

    def get(self, study_id: str) -> Study:
        """Raises `StudyNotFound`."""
        study = self._studies.get(study_id)
        if study is None:
            raise StudyNotFound(study_id)
        return study

    def job(self, study_id: str) -> JobView | None:
        """How far it is; None where no job remembers it."""
        job_id = self._jobs.get(self.get(study_id).id)
        return next((view for view in self._needs.jobs.list() if view.id == job_id), None)

    # -- doing ----------------------------------------------------------------------------------------------------

    async def begin(self, asked: AskedStudy) -> Study:
        """Raises `BadRequest` with what is wrong, `ModelNotFound`, `HostError`."""
        asked = await self._settled(asked.checked())
        backend = self._needs.way.pool.backend(asked.host)
        address = backend.address
        info = next(one for one in await backend.models() if one.name == asked.model)
        now = self._needs.clock.now()
        study = Study(
            id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(2)}", state="running",
            started_at=now, asked=asked, digest=info.digest,
            environment=await asyncio.to_thread(environment, address, await backend.version()),
        )  # fmt: skip
        await self._publish(study)
        what = "How many answers at once" if asked.kind == SLOTS else "Runtime options"
        job = self._needs.jobs.start(
            KIND, f"{KIND} {study.id}", f"{what}: {asked.model}", partial(self._work, study.id), host=asked.host,
            model=asked.model, pausable=True,
        )  # fmt: skip
        self._jobs[study.id] = job.id
        return study

    async def cancel(self, study_id: str) -> Study:
        """Stop at once; what was measured is kept."""
        job = self.job(study_id)
        if job is not None:
            await self._needs.jobs.cancel(job.id)
        if self.get(study_id).state in UNDER_WAY:  # it had not taken its first step
            await self._end(study_id, "cancelled")
        return self.get(study_id)

    def pause(self, study_id: str) -> JobView:
        """Rest before the next measurement. Raises `BadRequest` where it does not run."""
        job = self._running(study_id)
        self._set(replace(self.get(study_id), state="paused"))
        return self._needs.jobs.pause(job)

    def resume(self, study_id: str) -> JobView:
        job = self._running(study_id)
        self._set(replace(self.get(study_id), state="running"))
        return self._needs.jobs.resume(job)

    async def delete(self, study_id: str) -> None:
        """Forget it; one that runs is stopped."""
        await self.cancel(study_id)
        self._studies.pop(study_id, None)
        self._jobs.pop(study_id, None)
        self.version += 1
        await asyncio.to_thread(self._store.delete, study_id)

    # -- running --------------------------------------------------------------------------------------------------

    async def _work(self, study_id: str, handle: JobHandle) -> None:
        if (study := self.get(study_id)).state not in UNDER_WAY:  # it is tried again
            self._set(replace(study, state="running", ended_at=None, notes=()))
        try:
            if self._turn.locked():
                handle.say("Waiting for another study", waiting=True)
            async with self._turn:
                await self._measure(study_id, handle)
        except asyncio.CancelledError:
            await asyncio.shield(self._end(study_id, "interrupted" if handle.stopping else "cancelled"))
            raise
        except Exception as error:
            told = error.message if isinstance(error, LoupeError) else "something broke; the log has the details"
            await self._end(study_id, "failed", f"It failed: {told.rstrip('.')}.")
            raise
        await self._end(study_id, "done")

    async def _measure(self, study_id: str, handle: JobHandle) -> None:
        asked = self.get(study_id).asked
        await self._alone(asked.host, handle)
        way = self._needs.way
        backend = way.pool.backend(asked.host)
        courtesy = Courtesy(
            lambda: way.queue.pressing(asked.host, FLOW), handle.unpaused, partial(_give_way, handle), way.sleep
        )
        own = backend.address.embedded
        await courtesy.turn()
        if own:  # two of a model may be more than the memory
            for loaded in await backend.loaded():
                await unload(backend, loaded.name, courtesy)
            way.pool.look_again()
        grounds = self._lab.own(asked.model) if own else HostAsItIs(backend)
        around = Around(courtesy, partial(way.queue.activity, asked.host), self._needs.clock)
        frame = Frame(self.get(study_id), grounds, own, around, handle, self._publish)
        try:
            if backend.address.here:
                await _look_around(frame)
            await self._run(frame)
        finally:
            await grounds.close()

    async def _run(self, frame: Frame) -> None:
        asked = frame.asked
        if asked.kind == OPTIONS:
            sets = self._needs.sets()
            questions = sets[self._needs.usual_set].questions if any(map(changes_answers, asked.arms)) else ()
            await OptionsRun(frame, questions).run()
            await frame.tell(advice=advice.of_options(frame.study))
        else:
            await SlotsRun(frame).run()
            memory, free = await self._memory(frame.study)
            await frame.tell(advice=advice.of_slots(frame.study, memory, free))
        if frame.disturbed:
            note = f"{frame.disturbed} measurements were disturbed by other work at the host, also when made again."
            await frame.tell(notes=(*frame.study.notes, note))

    async def _alone(self, host: str, handle: JobHandle) -> None:
        """Returns when no other measuring is at work on the host."""
        jobs = self._needs.jobs
        while any(job.kind in BESIDE and job.host == host and job.state is JobState.RUNNING for job in jobs.list()):
            handle.say("Waiting for a comparison to end", waiting=True)
            await self._needs.way.sleep(LOOK_SECONDS)

    async def _memory(self, study: Study) -> tuple[Memory | None, int | None]:
        """What the model would take with as many slots as the knee; what is free where the host is this machine."""
        backend = self._needs.way.pool.backend(study.asked.host)
        if not study.knees:
            return None, None
        detail = await backend.show(study.asked.model)
        size = next((one.size for one in await backend.models() if one.name == study.asked.model), None)
        slots, kv_type = min(knee.slots for knee in study.knees), study.asked.base.kv_type or "f16"
        own = backend.address.embedded
        memory = memory_of(detail, size, context=USUAL_CONTEXT, slots=slots, kv_type=kv_type, own=own)
        return memory, self._needs.room.memory() if backend.address.here else None

    # -- small things ---------------------------------------------------------------------------------------------

    async def _settled(self, asked: AskedStudy) -> AskedStudy:
        """With the model's own name, its host, and what is in force there."""
        found = (await self._needs.look()).find(asked.model)
        if found is None:
            raise ModelNotFound(asked.model)
        variant = found[1]
        if variant.remote:
            raise BadRequest(f"{asked.model} is computed elsewhere: there is nothing of it here to measure", "model")
        if asked.host and asked.host not in variant.hosts:
            raise BadRequest(f"{asked.model} is not on {asked.host[:64]}", "host")
        host = asked.host or variant.host
        address = self._needs.way.pool.backend(host).address
        _check_reach(asked, address)
        base = self._lab.in_force() if address.embedded else RuntimeSetup()
        return replace(asked, model=variant.name, host=host, base=base)

    def _running(self, study_id: str) -> str:
        job = self.job(study_id)
        if job is None or not job.active:
            raise BadRequest("this study does not run", "study")
        return job.id

    async def _publish(self, study: Study) -> None:
        known = self._studies.get(study.id)
        state = known.state if known is not None and known.state == "paused" else study.state
        self._set(replace(study, state=state))
        await asyncio.to_thread(self._store.write, self._studies[study.id])

    def _set(self, study: Study) -> None:
        self._studies[study.id] = study
        self.version += 1

    async def _end(self, study_id: str, state: str, *why: str) -> None:
        study = self._studies.get(study_id)
        if study is not None:
            self._set(replace(study, state=state, ended_at=self._needs.clock.now(), notes=(*study.notes, *why)))
            await asyncio.to_thread(self._store.write, self._studies[study_id])


def _check_reach(asked: AskedStudy, address: HostAddress) -> None:
    """A host that is not ours takes only what can be told with a request."""
    if address.embedded:
        return
    for arm in asked.arms:
        fixed = sorted(set(arm.changes) - set(PER_REQUEST))
        if fixed:
            names = " and ".join(VARIABLES[name] for name in fixed)
            raise BadRequest(
                f"{address.name} is set up where it was started: set {names} there, start it again, and compare its "
                "scorecard with one from before; threads and batch can be measured from here",
                "arms",
            )


async def _look_around(frame: Frame) -> None:
    """Remark upon a machine that others keep busy: what they take of it now they may leave in the next round."""
    share = await asyncio.to_thread(busy_share)
    if share > BUSY:
        note = f"Other programs used {100 * share:.0f} % of the processor when it began: measure again when they rest."
        await frame.tell(notes=(*frame.study.notes, note))


def _give_way(handle: JobHandle, people_first: bool) -> None:
    if people_first:
        handle.say("Somebody is asking: people go first", waiting=True)
    else:
        handle.say("Going on")
