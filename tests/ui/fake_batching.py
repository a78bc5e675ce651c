"""The batching lab and the runtime's setup for the pages' tests: studies made by hand, real jobs, `calls` that tell."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from app.comparison.batching import advice
from app.comparison.batching.study import (
    OPTIONS,
    ArmResult,
    AskedStudy,
    BatchTried,
    Knee,
    Point,
    Shape,
    Study,
)
from app.comparison.batching.study_store import StudyNotFound
from app.comparison.results import Environment, Estimate, Quality, Tier
from app.core.errors import LoupeError
from app.core.measures import Memory
from app.core.runtime_setup import RuntimeSetup
from app.services.jobs import JobHandle, Jobs, JobView

MODEL = "smollm2:135m-instruct-q4_K_M"
SHORT, LONG = Shape(64, 48), Shape(512, 32)
BASE = RuntimeSetup(slots=1, batch=128, kv_type="f16")
MACHINE = Environment("0.1.0", "embedded", "loupe 0.1.0 (llama.cpp b9551)", "AMD EPYC, 2 cores, 23.4 GiB memory",
                      {"embedded": True})  # fmt: skip


def estimate(value: float, share: float = 0.04, n: int = 3) -> Estimate:
    return Estimate(value, value * (1 - share), value * (1 + share), n)


def point(shape: Shape, slots: int) -> Point:
    """A machine of which four answers at once make the most."""
    rate = (41.3 if shape == SHORT else 18.7) * min(slots, 4) ** 0.45 * (1.01 if slots > 4 else 1)
    token = slots / rate
    return Point(
        shape, slots, (rate * 0.98, rate, rate * 1.02), estimate(rate), estimate(0.2 * slots), 0.25 * slots,
        estimate(token), estimate(token * shape.output), 0.3, slots,
    )  # fmt: skip


def swept(study_id: str = "20261127-031500-aaaa") -> Study:
    asked = AskedStudy(MODEL, host="embedded", base=BASE)
    points = tuple(point(shape, slots) for shape in (SHORT, LONG) for slots in (1, 2, 3, 4, 6, 8))
    knees = (Knee(SHORT, 4, 0.86, 1.0), Knee(LONG, 4, 0.74, 0.98))
    batches = (BatchTried(64, estimate(58), estimate(0.91), 0.2), BatchTried(128, estimate(64), None, 0.31),
               BatchTried(256, estimate(69), estimate(1.08, 0.02), 0.58))  # fmt: skip
    made = Study(
        study_id,
        "done",
        time.time() - 3600,
        asked,
        "d" * 64,
        MACHINE,
        points,
        knees,
        batches,
        ended_at=time.time() - 3410,
    )
    return replace(made, advice=advice.of_slots(made, Memory(4096, predicted=1 << 30), 14 << 30))


def compared(study_id: str = "20261127-031500-bbbb") -> Study:
    asked = AskedStudy(
        MODEL, OPTIONS, host="embedded", base=BASE, arms=(RuntimeSetup(threads=2), RuntimeSetup(kv_type="q4_0"))
    )
    quality = Quality(estimate(0.021, 0.4, 16), estimate(0.018, 0.4, 16), Estimate(0.93, 0.9, 0.95, 16),
                      Estimate(1.01, 0.98, 1.04, 16), 0.0, 380, 16)  # fmt: skip
    arms = (
        ArmResult(RuntimeSetup(), 6, estimate(41, n=6), estimate(210, n=6), estimate(1.21, n=6)),
        ArmResult(RuntimeSetup(threads=2), 6, estimate(58, n=6), estimate(330, n=6), estimate(0.82, n=6), None,
                  estimate(1.41, 0.03, 6), estimate(1.57, 0.05, 6), None, 0.0004, "faster"),
        ArmResult(RuntimeSetup(kv_type="q4_0"), 6, estimate(40.6, n=6), estimate(201, n=6), estimate(1.25, n=6), None,
                  estimate(0.99, 0.03, 6), estimate(0.96, 0.05, 6), None, 0.61, "no difference shown", quality,
                  Tier.CLOSE),
    )  # fmt: skip
    made = Study(study_id, "done", time.time() - 1800, asked, "d" * 64, MACHINE, arms=arms, ended_at=time.time() - 1600)
    return replace(made, advice=advice.of_options(made))


def running(study_id: str = "20261127-031500-cccc") -> Study:
    whole = swept(study_id)
    points = tuple(one for one in whole.points if one.shape == SHORT and one.slots < 6)
    return replace(whole, state="running", points=points, knees=(), batches=(), advice=None, ended_at=None)


class FakeBatching:
    """`begin` makes the study of `running`, and a job for it that waits until it is cancelled."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.studies: dict[str, Study] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.refusal: LoupeError | None = None

    def put(self, *studies: Study) -> None:
        self.studies.update({study.id: study for study in studies})

    def list(self) -> tuple[Study, ...]:
        return tuple(sorted(self.studies.values(), key=lambda study: -study.started_at))

    def get(self, study_id: str) -> Study:
        if study_id not in self.studies:
            raise StudyNotFound(study_id)
        return self.studies[study_id]

    def job(self, study_id: str) -> JobView | None:
        return next((job for job in self._jobs.list() if job.key == f"study {study_id}"), None)

    def run(self, study_id: str) -> None:
        async def work(handle: JobHandle) -> None:
            handle.progress(31, 96, "4 at once, 64 → 48 tokens", rated=False, left=84)
            await asyncio.Event().wait()

        self._jobs.start("batching study", f"study {study_id}", f"How many answers at once: {MODEL}", work, model=MODEL)

    async def begin(self, asked: AskedStudy) -> Study:
        self.calls.append(("begin", asked.checked()))
        if self.refusal is not None:
            raise self.refusal
        study = replace(running(), asked=replace(asked, host="embedded", base=BASE))
        self.put(study)
        self.run(study.id)
        return study

    async def cancel(self, study_id: str) -> Study:
        self.calls.append(("cancel", study_id))
        self.put(replace(self.get(study_id), state="cancelled"))
        return self.get(study_id)

    async def delete(self, study_id: str) -> None:
        self.calls.append(("delete", study_id))
        del self.studies[study_id]

    def pause(self, study_id: str) -> None:
        self.put(replace(self.get(study_id), state="paused"))

    def resume(self, study_id: str) -> None:
        self.put(replace(self.get(study_id), state="running"))


class FakeTuning:
    def __init__(self) -> None:
        self.kept = RuntimeSetup()
        self.why = ""

    @property
    def in_force(self) -> RuntimeSetup:
        return BASE.under(self.kept)

    def refusal(self, setup: RuntimeSetup) -> str:
        return self.why

    def apply(self, setup: RuntimeSetup) -> None:
        self.kept = self.kept.under(setup) if setup.changes else RuntimeSetup()
