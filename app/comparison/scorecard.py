"""One comparison being measured, step by step, so that it can rest between two requests and go on after a restart.

Raw rows are kept text by text and speeds visit by visit; the scorecard is made anew from them after every step. People
go first (`HostBench`), a pause is waited out before the next request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from app.comparison import probes, validity, validity_after
from app.comparison.bench import Bench
from app.comparison.forcing import TextRows, rows_from_json, rows_to_json
from app.comparison.kept import tasks_of
from app.comparison.measured import Found, card_of
from app.comparison.plan import DEEP, QUALITY_SECONDS, Asked, Kind, Step, steps_of
from app.comparison.progress import CONTROL, Measured, Progress, Raw
from app.comparison.question_set import Question, QuestionSet
from app.comparison.result_json import Unreadable, from_json, to_json
from app.comparison.results import ProbeText, Scorecard
from app.comparison.scorecard_store import ScorecardStore
from app.comparison.speed import (
    DEEP_VISITS,
    QUICK_VISITS,
    Joules,
    SpeedSamples,
    measure_answers,
    measure_depths,
    measure_load,
    measure_sustained,
    no_joules,
)
from app.comparison.subjects import Subject
from app.comparison.task_bank import make_tasks
from app.comparison.tasks import outcome_to_json, run_tasks
from app.core.ports import Clock
from app.models.wishes import Wish
from app.services.jobs import JobHandle
from app.services.watched_host import canonical

ROOM = 256  # tokens of the context for template and answer
PARTS = 100  # of a step, in the job's progress


@dataclass(slots=True)
class Frame:
    """Everything that one comparison is measured with. `publish` is handed each new state of the scorecard; `idle`
    tells the seconds in which it waited for others so far; `bandwidth` measures this machine's memory, bytes/s (None
    where nobody can tell)."""

    card: Scorecard
    asked: Asked
    subjects: Sequence[Subject]
    reference: int
    questions: QuestionSet
    bench: Bench
    store: ScorecardStore
    clock: Clock
    server: tuple[str, str]
    publish: Callable[[Scorecard], None]
    wish: Wish
    idle: Callable[[], float] = lambda: 0.0
    joules: Joules = no_joules
    bandwidth: Callable[[], float | None] = lambda: None
    progress: Progress = field(default_factory=Progress)
    raw: Raw = field(default_factory=Raw)


class ScorecardRun:
    def __init__(self, frame: Frame, handle: JobHandle) -> None:
        self._frame, self._handle = frame, handle
        self._steps = steps_of(frame.asked.depth, len(frame.subjects), frame.reference)
        self._step = self._steps[0]
        self._total = sum(step.weight for step in self._steps) * PARTS
        self._before = 0
        self._began = self._idle = 0.0

    async def run(self) -> None:
        """Measure what is left. Raises `LoupeError`s of the host; what was measured is kept."""
        if self._frame.progress.bandwidth is None:
            await self._read_memory()
        for step in self._steps:
            if step.key not in self._frame.progress.done:
                await self._one(step)
            self._before += step.weight * PARTS
        if validity_after.above_the_limit(self._frame.card):
            await self._doubt_the_limit()

    async def _one(self, step: Step) -> None:
        frame, self._step = self._frame, step
        self._began, self._idle = frame.clock.monotonic(), frame.idle()
        self._tell(0.0)
        kinds: dict[Kind, Callable[[Step, Subject], Awaitable[None]]] = {
            Kind.SPEED: self._speed, Kind.ANSWERS: self._answers, Kind.QUALITY: self._quality, Kind.DEPTH: self._depth,
            Kind.TASKS: self._tasks,
        }  # fmt: skip
        await kinds[step.kind](step, frame.subjects[step.variant])
        progress = frame.progress
        progress.seconds += frame.clock.monotonic() - self._began - (frame.idle() - self._idle)
        self._began, self._idle = frame.clock.monotonic(), frame.idle()
        progress.done = (*progress.done, step.key)
        await self._keep()
        self._tell(1.0)

    async def _read_memory(self) -> bool:
        """Whether it could be measured. The best of all times counts."""
        progress, told = self._frame.progress, await asyncio.to_thread(self._frame.bandwidth)
        if told is not None:
            progress.bandwidth = max(progress.bandwidth or 0.0, told)
        return told is not None

    async def _doubt_the_limit(self) -> None:
        """Before a speed is called wrong the limit is measured again; where that cannot be, nothing is said of it."""
        progress = self._frame.progress
        progress.bandwidth_sure = await self._read_memory()
        if not progress.bandwidth_sure:
            progress.bandwidth = None
        await self._keep()

    # -- steps ----------------------------------------------------------------------------------------------------

    async def _speed(self, step: Step, subject: Subject) -> None:
        """One visit; it counts as a whole, so one that was interrupted is made anew."""
        frame, bench, options = self._frame, self._frame.bench, self._frame.asked.options
        visit = (DEEP_VISITS if frame.asked.depth == DEEP else QUICK_VISITS)[step.round]
        measured = frame.progress.of(subject.digest)
        samples: SpeedSamples = from_json(SpeedSamples, to_json(measured.samples))
        await self._alone(subject)
        self._tell(0.05, "loading")
        await measure_load(bench, subject.name, options, visit, samples)
        await self._look(subject, measured)
        if measured.pangram is None:
            measured.pangram = await probes.pangram_tokens(bench, subject.name, options)
        self._tell(0.4, "reading and writing speed")
        samples.short_pairs = self._short_pairs()
        await measure_answers(bench, subject.name, options, visit, samples, frame.joules)
        measured.samples = samples

    async def _answers(self, _: Step, subject: Subject) -> None:
        """The reference's answers and its rows, from an earlier comparison where nothing differs, and the control."""
        frame = self._frame
        if validity.too_old(frame.server):
            return
        plan = frame.progress.plan = frame.progress.plan or self._plan()
        options = frame.asked.options
        key = probes.reference_key(subject.digest, frame.server, frame.questions.identity, options, plan)
        if not frame.progress.texts:
            await self._recall(key, subject)
        texts = list(frame.progress.texts)
        questions, frame.progress.too_long = self._fitting(subject)
        known = {text.id for text in texts}
        asked = probes.answered(frame.bench, subject.name, questions, plan, options, done=known)
        async for text, row in asked:
            await self._add(subject.digest, row)
            texts.append(text)
            frame.progress.texts = tuple(texts)
            await self._note()
            self._tell(0.9 * len(texts) / plan.texts, f"its own answers, {len(texts)} of {plan.texts}")
        await self._rows(subject.name, subject.digest, texts, 0.9)
        kept = [to_json(frame.progress.texts), *(rows_to_json(one) for one in frame.raw.of(subject.digest))]
        await asyncio.to_thread(frame.store.keep_reference, key, kept)
        await self._rows(subject.name, CONTROL, texts[: plan.control], 0.9)

    async def _quality(self, _: Step, subject: Subject) -> None:
        frame = self._frame
        if subject.digest in validity.withheld(frame.subjects, frame.reference, frame.progress, frame.server):
            return
        await self._rows(subject.name, subject.digest, frame.progress.texts, 0.0)

    async def _depth(self, _: Step, subject: Subject) -> None:
        frame, options = self._frame, self._frame.asked.options
        measured = frame.progress.of(subject.digest)
        await self._alone(subject)
        measured.depths = await measure_depths(frame.bench, subject.name, options, measured.samples)
        self._tell(0.4, "a minute without a break")
        measured.sustained = await measure_sustained(frame.bench, subject.name, options)

    async def _tasks(self, _: Step, subject: Subject) -> None:
        frame = self._frame
        tasks = make_tasks(frame.asked.seed)
        there = frame.raw.outcomes.setdefault(subject.digest, [])
        done = {one.task_id for one in there}
        async for outcome in run_tasks(frame.bench, subject.name, tasks, frame.asked.options, done=done):
            there.append(outcome)
            row = outcome_to_json(outcome)
            await asyncio.to_thread(frame.store.append, frame.card.id, tasks_of(subject.digest), row)
            self._tell(len(there) / len(tasks), f"task {len(there)} of {len(tasks)}")

    # -- parts of steps -------------------------------------------------------------------------------------------

    def _short_pairs(self) -> bool | None:
        """How the first variant was measured, so are all. A deep comparison has the time for long prompts."""
        known = (one.samples.short_pairs for one in self._frame.progress.variants.values())
        return False if self._frame.asked.depth == DEEP else next((one for one in known if one is not None), None)

    def _plan(self) -> probes.Plan:
        frame = self._frame
        first = frame.subjects[frame.reference]
        order = [first, *(one for one in frame.subjects if one is not first)]
        speeds = [_usual(frame.progress.of(subject.digest)) for subject in order]
        deep = frame.asked.depth == DEEP
        return probes.plan(speeds, QUALITY_SECONDS, available=len(frame.questions.questions), deep=deep)

    def _fitting(self, subject: Subject) -> tuple[Sequence[Question], int]:
        """The questions that leave room for an answer, and how many do not: a host would cut those off in silence."""
        frame = self._frame
        tokens = frame.progress.of(subject.digest).pangram or len(probes.PANGRAM)
        room = frame.asked.context - ROOM
        whole = frame.questions.questions
        kept = [one for one in whole if len(one.text) * tokens / len(probes.PANGRAM) <= room]
        return kept, len(whole) - len(kept)

    async def _recall(self, key: str, subject: Subject) -> None:
        frame = self._frame
        kept = await asyncio.to_thread(frame.store.reference, key)
        try:
            texts = from_json(tuple[ProbeText, ...], kept[0]) if kept else ()
            rows = [rows_from_json(row) for row in kept[1:] if isinstance(row, dict)]
        except (Unreadable, ValueError):
            return
        if not texts or len(rows) < len(texts):
            return
        frame.progress.texts = texts
        for row in rows:
            await self._add(subject.digest, row)

    async def _rows(self, model: str, digest: str, texts: Sequence[ProbeText], since: float) -> None:
        frame, share = self._frame, (0.9 if since else 1.0) - since
        if digest == CONTROL:
            share = 0.1
        done = {row.text_id for row in frame.raw.of(digest)}
        rows: AsyncIterator[TextRows] = probes.measure(frame.bench, model, texts, frame.asked.options, done=done)
        async for row in rows:
            await self._add(digest, row)
            there = len(frame.raw.of(digest))
            self._tell(since + share * there / len(texts), f"quality, text {there} of {len(texts)}")

    async def _add(self, digest: str, row: TextRows) -> None:
        frame = self._frame
        await asyncio.to_thread(frame.store.append, frame.card.id, digest, rows_to_json(row))
        frame.raw.of(digest).append(row)

    async def _alone(self, subject: Subject) -> None:
        """Unload the other variants: they would take memory, and on a GPU push layers of this one out."""
        others = {canonical(name) for one in self._frame.subjects if one is not subject for name in one.names}
        for row in await self._frame.bench.loaded():
            if canonical(row.name) in others:
                await self._frame.bench.unload(row.name)

    async def _look(self, subject: Subject, measured: Measured) -> None:
        """What the host reports of the loaded variant."""
        for row in await self._frame.bench.loaded():
            if row.digest == subject.digest or canonical(row.name) == canonical(subject.name):
                measured.context, measured.size, measured.on_gpu = row.context_length, row.size, row.size_vram

    # -- keeping and telling --------------------------------------------------------------------------------------

    async def _note(self) -> None:
        frame = self._frame
        await asyncio.to_thread(frame.store.write, frame.card.id, "progress", to_json(frame.progress))

    async def _keep(self) -> None:
        frame = self._frame
        await self._note()
        found = Found(frame.subjects, frame.reference, frame.progress, frame.raw, frame.server)
        frame.card = await asyncio.to_thread(card_of, frame.card, found, frame.wish)
        frame.publish(frame.card)
        await asyncio.to_thread(frame.store.write_card, frame.card)

    def _tell(self, share: float, what: str = "") -> None:
        """How far it is, what is measured now, and what is left."""
        step, frame = self._step, self._frame
        place = self._steps.index(step) + 1
        doing = what or {
            Kind.SPEED: f"speed, round {step.round + 1} of 2", Kind.ANSWERS: "its own answers", Kind.QUALITY: "quality",
            Kind.DEPTH: "speed with a long conversation before it", Kind.TASKS: "tasks",
        }[step.kind]  # fmt: skip
        completed = self._before + round(step.weight * PARTS * min(1.0, share))
        detail = f"{frame.subjects[step.variant].name}: {doing} (step {place} of {len(self._steps)})"
        self._handle.progress(completed, self._total, detail, rated=False, left=self._left(completed))

    def _left(self, completed: int) -> float | None:
        """Seconds, by what was done so far; none while that is little."""
        if completed < self._total / 20:
            return None
        frame = self._frame
        spent = frame.progress.seconds + frame.clock.monotonic() - self._began - (frame.idle() - self._idle)
        return spent / completed * (self._total - completed)


def _usual(measured: Measured) -> float:
    speeds = [speed for one in measured.samples.decodes for speed in one]
    return median(speeds) if speeds else 0.0
