"""Training data as a job of the server: a teacher answers a set of questions, and what it said is kept on disk.

It goes on by itself after a restart, at the question it was at; people who chat go first.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace
from functools import partial

from app.comparison.comparisons import Needs
from app.comparison.host_bench import HostBench
from app.comparison.machine import environment
from app.comparison.question_set import QuestionSet, own_set
from app.comparison.teacher import OPTIONS, Form, Lesson, Teacher, lessons, manifest, training_data
from app.comparison.training_store import Teach, TrainingSet, TrainingSetNotFound, TrainingStore
from app.core.errors import BadRequest, ModelNotFound
from app.core.generation import Json
from app.services.jobs import JobHandle, JobView

KIND = "training data"


class Teaching:
    """`sets` and `get` may be called from any thread, the rest on the loop."""

    def __init__(self, needs: Needs, store: TrainingStore) -> None:
        self._needs, self._store = needs, store
        self._sets: dict[str, TrainingSet] = {}
        self._jobs: dict[str, str] = {}  # set → job

    async def start(self) -> None:
        """Read what is there, and go on with what the end of the process cut off."""
        for found in await asyncio.to_thread(self._store.sets):
            self._sets[found.id] = found
            if found.state == "running":
                self._launch(found)

    def sets(self) -> tuple[TrainingSet, ...]:
        """The newest first."""
        return tuple(sorted(self._sets.values(), key=lambda one: one.teacher.made_at, reverse=True))

    def get(self, set_id: str) -> TrainingSet:
        """Raises `TrainingSetNotFound`."""
        found = self._sets.get(set_id)
        if found is None:
            raise TrainingSetNotFound(set_id)
        return found

    def job(self, set_id: str) -> JobView | None:
        """How far it is; None where no job remembers it."""
        job_id = self._jobs.get(self.get(set_id).id)
        return next((view for view in self._needs.jobs.list() if view.id == job_id), None)

    async def data(self, set_id: str, form: Form) -> str:
        """The file for a trainer: what is answered so far."""
        return training_data(await self._lessons(set_id), form)

    async def manifest(self, set_id: str, form: Form) -> dict[str, Json]:
        """What belongs beside that file."""
        found = self.get(set_id)
        return manifest(found.teacher, await self._lessons(set_id), form)

    async def begin(self, asked: Teach) -> TrainingSet:
        """Raises `BadRequest`, `ModelNotFound`, `HostError`."""
        asked = asked.checked()
        questions = self._questions(asked)
        asked = replace(asked, host=await self._host(asked))
        now = self._needs.clock.now()
        teacher = replace(await self._teacher(asked), prompt_set=questions.identity, made_at=now)
        set_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(2)}"
        made = TrainingSet(set_id, asked, teacher, "running", len(questions.questions))
        await asyncio.to_thread(self._store.write, made)
        self._launch(made)
        return made

    async def cancel(self, set_id: str) -> TrainingSet:
        """Stop at once; what was answered is kept."""
        job = self.job(set_id)
        if job is not None:
            await self._needs.jobs.cancel(job.id)
        return self.get(set_id)

    async def delete(self, set_id: str) -> None:
        await self.cancel(set_id)
        self._sets.pop(set_id, None)
        self._jobs.pop(set_id, None)
        await asyncio.to_thread(self._store.delete, set_id)

    # -- work -----------------------------------------------------------------------------------------------------

    def _launch(self, made: TrainingSet) -> None:
        self._sets[made.id] = made
        title = f"Answers of {made.asked.model} as training data"
        job = self._needs.jobs.start(
            KIND, f"{KIND} {made.id}", title, partial(self._work, made.id), host=made.asked.host,
            model=made.asked.model, pausable=True,
        )  # fmt: skip
        self._jobs[made.id] = job.id

    async def _work(self, set_id: str, handle: JobHandle) -> None:
        try:
            await self._teach(set_id, handle)
        except asyncio.CancelledError:
            if handle.stopping:
                raise  # it stays under way: the next start goes on with it
            self._end(set_id, "cancelled")
            raise
        except Exception:
            self._end(set_id, "failed")
            raise
        self._end(set_id, "done")

    async def _teach(self, set_id: str, handle: JobHandle) -> None:
        made = self.get(set_id)
        asked, questions = made.asked, self._questions(made.asked).questions
        if (await self._teacher(asked)).digest != made.teacher.digest:
            raise BadRequest(f"{asked.model} was replaced since; begin a new training set", "model")
        bench = HostBench(self._needs.way, asked.host, handle.unpaused, partial(_give_way, handle))
        there = await self._lessons(set_id)
        made = self._count(made, there)
        said = {lesson.id for lesson in there}
        async for lesson in lessons(bench, asked.model, questions, system=asked.system, tokens=asked.tokens, done=said):
            await asyncio.to_thread(self._store.append, set_id, lesson)
            there.append(lesson)
            made = self._count(made, there)
            handle.progress(made.answered, made.total, f"{made.answered} of {made.total} questions answered")

    def _count(self, made: TrainingSet, there: list[Lesson]) -> TrainingSet:
        made = replace(made, answered=len(there), whole=sum(lesson.whole for lesson in there))
        self._sets[made.id] = made
        return made

    def _end(self, set_id: str, state: str) -> None:
        made = self._sets.get(set_id)
        if made is not None:
            self._sets[set_id] = replace(made, state=state)
            self._store.write(self._sets[set_id])

    async def _lessons(self, set_id: str) -> list[Lesson]:
        return await asyncio.to_thread(self._store.lessons, set_id)

    # -- what it stands on ----------------------------------------------------------------------------------------

    async def _host(self, asked: Teach) -> str:
        found = (await self._needs.look()).find(asked.model)
        if found is None:
            raise ModelNotFound(asked.model)
        variant = found[1]
        if variant.remote:
            raise BadRequest(f"{asked.model} is computed elsewhere: nobody knows which weights answer there", "model")
        if asked.host and asked.host not in variant.hosts:
            raise BadRequest(f"{asked.model} is not on {asked.host[:64]}", "host")
        return asked.host or variant.host

    async def _teacher(self, asked: Teach) -> Teacher:
        """Who answers under that name now."""
        found = (await self._needs.look()).find(asked.model)
        if found is None:
            raise ModelNotFound(asked.model)
        variant, backend = found[1], self._needs.way.pool.backend(asked.host)
        detail = await backend.show(variant.name)
        there = await asyncio.to_thread(environment, backend.address, await backend.version())
        return Teacher(
            model=variant.name, digest=variant.digest, quantization=variant.label, license=detail.license,
            server=there.server, loupe=there.loupe, prompt_set="", made_at=0.0,
            options={**OPTIONS, "num_predict": asked.tokens},
        )  # fmt: skip

    def _questions(self, asked: Teach) -> QuestionSet:
        if asked.questions:
            return own_set(asked.question_set or "own", "your questions", asked.questions)
        sets, name = self._needs.sets(), asked.question_set or self._needs.usual_set
        if name not in sets:
            raise BadRequest(f"there is no set of questions {name[:64]!r}; there is {', '.join(sets)}", "question_set")
        return sets[name]


def _give_way(handle: JobHandle, people_first: bool) -> None:
    if people_first:
        handle.say("Somebody is asking: people go first", waiting=True)
