"""Load runs for the pages' tests: real jobs, runs with made-up requests. `calls` says what was asked; `refusal` is
raised."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.comparison.load_lab.figures import load_figures
from app.comparison.load_lab.gaps import Gaps
from app.comparison.load_lab.generator import FAILED, OK, REFUSED, UNFINISHED, Outcome
from app.comparison.load_lab.plan import Limits, LoadPlan
from app.comparison.load_lab.questions import shots
from app.comparison.load_lab.runs import DONE, RUNNING, LoadRun, LoadRunNotFound
from app.comparison.result_json import to_json
from app.comparison.results import Environment
from app.core.errors import LoupeError
from app.core.generation import Json
from app.services.jobs import JobHandle, Jobs, JobView

MODEL = "smollm2:135m-instruct-q4_K_M"
WHERE = Environment("0.1.0", "built-in", "loupe-runtime 0.1.0", "AMD EPYC, 2 cores, 23.4 GiB memory, no NVIDIA GPU")


def plan(**changes: Any) -> LoadPlan:
    return LoadPlan(
        **{"models": {MODEL: 1.0}, "rate": 4.0, "limits": Limits(1.0, 0.2), "seed": 11, **changes}
    ).checked()


def outcomes(asked: LoadPlan, slow: float = 1.0, *, whole: bool = True) -> tuple[list[Outcome], Gaps]:
    """As of a host that falls behind a little; one is refused, one fails; unless `whole` the last are given up."""
    dice, gaps, found = random.Random(3), Gaps(), []
    for shot in shots(asked):
        one = Outcome(shot.index, shot.model, shot.due, shot.prompt, shot.output, OK, shot.due + 0.0006)
        one.first = shot.due + slow * (0.08 + shot.due / 60 * dice.expovariate(3.0))
        one.end = one.first + slow * 64 * 0.012
        one.prompt_tokens, one.output_tokens, one.queue = 128, 64, one.first - shot.due - 0.05
        for _ in range(63):
            gaps.add(slow * 0.012 * dice.lognormvariate(0.0, 0.2))
        found.append(one)
    for place, status, error in ((40, REFUSED, "the queue is full"), (55, FAILED, "the model host has gone")):
        if len(found) > place:
            found[place].status, found[place].error, found[place].first = status, error, None
    for one in found[-6:] if not whole else ():
        one.status, one.first, one.end = UNFINISHED, None, one.due + 60.0
    return found, gaps


class FakeLoadLab:
    """`begin` makes a run whose job waits until it is cancelled."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.runs: dict[str, LoadRun] = {}
        self.kept: dict[str, list[Outcome]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.refusal: LoupeError | None = None

    def put(self, run_id: str, asked: LoadPlan | None = None, *, state: str = DONE, slow: float = 1.0, why: str = "",
            whole: bool = True, at: float = 1_700_000_000.0) -> LoadRun:  # fmt: skip
        asked = asked or plan()
        found, gaps = outcomes(asked, slow, whole=whole)
        figures = load_figures(found, gaps, asked.limits, seconds=asked.seconds, peak=9, cut=state != DONE)
        run = LoadRun(run_id, asked, WHERE, state, at, len(found), at + 75.0, digests={MODEL: "d" * 64},
                      figures=figures, why=why)  # fmt: skip
        self.runs[run_id], self.kept[run_id] = run, found
        return run

    def go(self, run_id: str) -> LoadRun:
        """A run under way, and its job."""
        run = self.put(run_id, state=RUNNING)

        async def work(handle: JobHandle) -> None:
            handle.progress(96, run.requests, f"96 of {run.requests} asked, 4 under way", rated=False)
            await asyncio.Event().wait()

        self._jobs.start("load", f"load {run_id}", f"Load on {run.title}", work, model=run.title)
        return run

    async def begin(self, asked: LoadPlan, asker: Any) -> LoadRun:
        if self.refusal is not None and not asked.anyway:
            raise self.refusal
        self.calls.append(("begin", asked, asker))
        return self.go(f"{len(self.runs) + 1:08x}")

    def list(self) -> tuple[LoadRun, ...]:
        return tuple(sorted(self.runs.values(), key=lambda run: -run.started_at))

    def get(self, run_id: str) -> LoadRun:
        if run_id not in self.runs:
            raise LoadRunNotFound(run_id)
        return self.runs[run_id]

    def job(self, run_id: str) -> JobView | None:
        return next((job for job in self._jobs.list() if job.key == f"load {run_id}"), None)

    async def rows(self, run_id: str) -> Sequence[Json]:
        return [to_json(one) for one in self.kept[run_id]]

    async def cancel(self, run_id: str) -> LoadRun:
        self.calls.append(("cancel", run_id))
        if (job := self.job(run_id)) is not None:
            await self._jobs.cancel(job.id)
        self.runs[run_id] = replace(self.runs[run_id], state="cancelled")
        return self.runs[run_id]

    async def delete(self, run_id: str) -> None:
        self.calls.append(("delete", run_id))
        del self.runs[run_id]
