"""The batching lab on the real embedded runtime: a sweep, an A/B with quality, and a setup applied under an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from app.bootstrap import Services, build
from app.comparison import speed
from app.comparison.batching import options_run
from app.comparison.batching.study import OPTIONS, AskedStudy, Shape, Study
from app.comparison.batching.study_store import StudyStore
from app.comparison.probes import Plan
from app.comparison.speed import Visit
from app.config import Settings
from app.core.errors import BadRequest
from app.core.generation import Chunk, GenerationRequest, Priority
from app.core.hosts import ANSWERING
from app.core.runtime_setup import RuntimeSetup
from app.services.chat import Caller
from app.services.jobs import JobState
from tests.starter_cache import linked_store

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
MODEL = "smollm2:135m-instruct-q4_0"


@asynccontextmanager
async def product(data: Path) -> AsyncIterator[Services]:
    if not (data / "models").exists():
        linked_store(data / "models", ("q4_0",))
    services = build(Settings(data=data, starter=False, drain_seconds=0.0))
    await services.start()
    try:
        await until(lambda: any(one.state in ANSWERING for one in services.pool.statuses()))
        yield services
    finally:
        await services.stop()


async def until(check: Callable[[], bool], seconds: float = 90.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.02)


async def over(services: Services, study: Study) -> Study:
    job = services.batching.job(study.id)
    assert job is not None
    await until(lambda: not services.jobs.get(job.id).active, 150)
    assert services.jobs.get(job.id).state is JobState.DONE, services.jobs.get(job.id).error
    return services.batching.get(study.id)


async def test_slots_are_swept_and_setups_compared_beside_the_runtime_that_people_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options_run, "TEXTS", Plan(texts=2, tokens=8, control=1))
    monkeypatch.setattr(speed, "TTFT_TOKENS", 32)
    monkeypatch.setattr(options_run, "VISIT", Visit(loads=0, ttfts=1, pairs=0, decodes=1))
    (tmp_path / "lab-killed" / "0" / "blobs").mkdir(parents=True)  # of a process that was killed
    (tmp_path / "lab-killed" / "0" / "blobs" / "sha256-1").symlink_to(tmp_path / "models")
    async with product(tmp_path) as services:
        pid, children = services.runtime.pid, len(psutil.Process().children())
        asked = AskedStudy(MODEL, most=2, shapes=(Shape(16, 8),), rounds=2)
        swept = await over(services, await services.batching.begin(asked))
        _check_sweep(swept)
        arm = RuntimeSetup(kv_type="q4_0")
        compared = await over(
            services, await services.batching.begin(AskedStudy(MODEL, OPTIONS, rounds=2, arms=(arm,)))
        )
        _check_arms(compared, arm)
        cancelled = await _asked_meanwhile(services)
        assert services.runtime.pid == pid  # nothing of what people use was started anew
        assert len(psutil.Process().children()) == children
        assert not left_over(tmp_path)
    kept = {study.id: study for study in StudyStore(tmp_path / "compare" / "batching").studies()}
    assert kept == {swept.id: swept, compared.id: compared, cancelled.id: cancelled}


def _check_sweep(swept: Study) -> None:
    assert [point.slots for point in swept.points] == [1, 2]
    assert all(1 <= point.at_once <= point.slots and len(point.rates) == 2 for point in swept.points)
    assert swept.knees[0].slots in (1, 2) and 0 < swept.knees[0].confidence <= swept.knees[0].near == 1
    assert swept.confirmed is not None and swept.confirmed.slots == swept.knees[0].slots
    assert swept.advice is not None and "tokens a second together" in swept.advice.sentence
    assert any("GiB" in note for note in swept.advice.notes)


def _check_arms(compared: Study, arm: RuntimeSetup) -> None:
    base, other = compared.arms
    assert (base.setup, other.setup) == (RuntimeSetup(), arm)
    assert other.decode_ratio is not None and other.verdict
    assert base.quality is None and other.quality is not None and other.tier is not None
    assert other.quality.kld.value > other.quality.floor == 0.0  # the same setup, asked twice, is the same


async def _asked_meanwhile(services: Services) -> Study:
    """A study that somebody's question cuts off, and that is cancelled then."""
    study = await services.batching.begin(AskedStudy(MODEL, most=2, shapes=(Shape(16, 2000),), rounds=2))
    await until(lambda: "at once" in _detail(services, study))
    answering = asyncio.ensure_future(_answer(services, "Once upon a time", 8, []))
    await until(lambda: "people go first" in _detail(services, study))
    assert (await answering).done_reason
    cancelled = await services.batching.cancel(study.id)
    assert cancelled.state == "cancelled"
    with pytest.raises(BadRequest, match="recommends no change"):
        cancelled.applicable()
    return cancelled


async def test_a_setup_is_applied_when_the_answers_that_run_have_ended_and_is_kept(tmp_path: Path) -> None:
    async with product(tmp_path) as services:
        chunks: list[Chunk] = []
        answering = asyncio.ensure_future(_answer(services, "Count on: 1, 2, 3, 4, 5, 6,", 64, chunks))
        await until(lambda: bool(chunks))
        job = services.tuning.apply(RuntimeSetup(slots=2, kv_type="q8_0", threads=1))
        waiting = asyncio.ensure_future(_answer(services, "Once upon a time", 4, []))
        assert (await answering).done_reason and (await waiting).done_reason  # nobody was cut off or refused
        await until(lambda: not services.jobs.get(job.id).active)
        assert services.jobs.get(job.id).state is JobState.DONE, services.jobs.get(job.id).error
        there = services.pool.statuses()[0].address  # what memory is predicted from
        assert (there.slots, there.kv_type) == (2, "q8_0")
        assert services.tuning.in_force == RuntimeSetup(slots=2, threads=1, batch=128, kv_type="q8_0")
        assert ("OLLAMA_NUM_PARALLEL", "2", "applied, runtime.json") in services.check._around.settings()
        assert any("2 slots" in line for line in services.runtime.log_tail)
    async with product(tmp_path) as services:
        assert services.tuning.kept == RuntimeSetup(slots=2, threads=1, kv_type="q8_0")
        assert services.pool.statuses()[0].address.slots == 2


def left_over(data: Path) -> list[Path]:
    return list(data.glob("lab-*"))


def _detail(services: Services, study: Study) -> str:
    job = services.batching.job(study.id)
    return job.detail if job is not None else ""


async def _answer(services: Services, prompt: str, tokens: int, chunks: list[Chunk]) -> Chunk:
    request = GenerationRequest("generate", {
        "model": MODEL, "prompt": prompt, "raw": True, "options": {"num_predict": tokens, "temperature": 0},
    })  # fmt: skip
    caller = Caller(flow="page 1", priority=Priority.INTERACTIVE)
    async with aclosing(services.chat.ask(request, caller)) as pieces:
        async for piece in pieces:
            chunks.append(piece)
    return chunks[-1]
