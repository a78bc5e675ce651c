"""Single-flight with the cache, over any order of joining, leaving, finishing and failing, and its bounds."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from app.core.errors import GenerationFailed, LoupeError, ReaderTooSlow
from app.core.generation import CacheMode, Chunk, GenerationRequest
from app.core.ports import SystemClock
from app.services import shared_work
from app.services.chat import Caller, ChatService
from app.services.host_pool import HostPool
from app.services.request_queue import RequestQueue
from app.services.response_cache import ResponseCache
from app.services.retry_policy import RetryBudget
from app.services.shared_work import SharedWorks
from app.services.telemetry import Telemetry
from tests.fakes import FakeBackend, answer, chat, chunk, settle

FAILED = "no memory"


class Run:
    """One generation at the host, which goes on when it is told to."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[Chunk | LoupeError] = asyncio.Queue()
        self.said: list[str] = []
        self.state = "running"  # then: finished, failed, abandoned


class ToldBackend(FakeBackend):
    def __init__(self) -> None:
        super().__init__(slots=64)
        self.runs: list[Run] = []

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk, None]:
        run = Run()
        self.runs.append(run)
        try:
            while True:
                step = await run.steps.get()
                if isinstance(step, LoupeError):
                    raise step
                yield step
                if step.done:
                    return
        finally:
            if run.state == "running":
                run.state = "abandoned"


class Reader:
    """One caller, and the run that it must be reading (None: an entry, whose text is `expected`)."""

    def __init__(self, task: asyncio.Task[str], caller: Caller) -> None:
        self.task, self.caller = task, caller
        self.run: Run | None = None
        self.expected = ""


class SingleFlight(RuleBasedStateMachine):
    """The model: at most one run can be joined (`current`), at most one text is kept (`kept`)."""

    readers = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.host = ToldBackend()
        self.current: Run | None = None
        self.kept: str | None = None
        self.alive: list[Reader] = []
        self.work(self.begin())

    def work(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def begin(self) -> None:
        clock = SystemClock()
        self.pool = HostPool([self.host], clock)
        self.queue = RequestQueue(self.pool, clock)
        self.pool.on_change(self.queue.poke)
        self.cache = ResponseCache(Path(self.folder.name) / "cache", 64 << 20, clock)
        self.telemetry = Telemetry(clock)
        self.chat = ChatService(self.cache, self.queue, self.pool, self.telemetry, RetryBudget(clock))
        await self.cache.start()
        await self.pool.start()

    async def rest(self) -> None:
        await settle()
        await self.cache.stats()  # goes through the thread that writes, after what was to be written
        await settle()

    async def read(self, caller: Caller) -> str:
        request = chat(options={"temperature": 0, "num_ctx": 1024})
        async with aclosing(self.chat.ask(request, caller)) as chunks:
            return "".join([piece.text async for piece in chunks])

    @rule(target=readers, mode=st.sampled_from([CacheMode.USE, CacheMode.USE, CacheMode.REFRESH]))
    def ask(self, mode: CacheMode) -> Any:
        caller = Caller(flow=f"flow {len(self.alive)}", cache_mode=mode, trace=self.telemetry.trace())
        runs = len(self.host.runs)
        reader = Reader(self.loop.create_task(self.read(caller)), caller)
        self.work(self.rest())
        return self.check_outcome(reader, runs)

    def check_outcome(self, reader: Reader, runs: int) -> Any:
        mode, outcome = reader.caller.cache_mode, reader.caller.trace.cache.outcome
        if mode is CacheMode.USE and self.kept is not None:
            assert (outcome, len(self.host.runs)) == ("hit", runs)
            assert reader.task.result() == self.kept
            return multiple()
        if mode is CacheMode.USE and self.current is not None:
            assert (outcome, len(self.host.runs)) == ("joined", runs)
            reader.run = self.current
        else:
            assert outcome == ("refresh" if mode is CacheMode.REFRESH else "miss")
            assert len(self.host.runs) == runs + 1, "a request that finds nothing is sent to the host once"
            reader.run = self.current = self.host.runs[-1]
        self.alive.append(reader)
        return reader

    @rule(reader=consumes(readers))
    def leave(self, reader: Reader) -> None:
        if reader not in self.alive:
            return
        self.alive.remove(reader)
        reader.task.cancel()
        self.work(self.rest())
        assert reader.task.cancelled()
        if reader.run is not None and not self.followers(reader.run):
            assert reader.run.state == "abandoned", "the last one who leaves ends the work"
            if self.current is reader.run:
                self.current = None

    @rule(target=readers, reader=consumes(readers))
    def leave_as_another_comes(self, reader: Reader) -> Any:
        """Nobody may join what the last one is just leaving."""
        if reader not in self.alive or reader.run is None:
            return multiple()
        left = reader.run
        self.alive.remove(reader)
        reader.task.cancel()
        if not self.followers(left) and self.current is left:
            self.current = None
        return self.ask(CacheMode.USE)

    @rule(reader=readers, text=st.sampled_from(["a", "b", ""]))
    def say(self, reader: Reader, text: str) -> None:
        if reader in self.alive and reader.run is not None:
            reader.run.said.append(text)
            reader.run.steps.put_nowait(chunk(text))
            self.work(self.rest())

    @rule(reader=readers)
    def finish(self, reader: Reader) -> None:
        run = reader.run
        if reader not in self.alive or run is None:
            return
        run.state = "finished"
        run.steps.put_nowait(answer()[-1])
        self.work(self.rest())
        said = "".join(run.said)
        for follower in self.followers(run):
            assert follower.task.result() == said
        self.settled(run)
        if self.current is run:
            self.current = None
            self.kept = said or self.kept  # an answer without text is not kept

    @rule(reader=readers)
    def fail(self, reader: Reader) -> None:
        run = reader.run
        if reader not in self.alive or run is None:
            return
        run.state = "failed"
        run.steps.put_nowait(GenerationFailed("one", FAILED))
        self.work(self.rest())
        for follower in self.followers(run):
            error = follower.task.exception()
            assert isinstance(error, GenerationFailed) and error.message == FAILED
        self.settled(run)
        self.current = None if self.current is run else self.current

    def followers(self, run: Run) -> list[Reader]:
        return [reader for reader in self.alive if reader.run is run]

    def settled(self, run: Run) -> None:
        self.alive = [reader for reader in self.alive if reader.run is not run]

    @invariant()
    def every_run_has_a_reader_and_every_reader_waits(self) -> None:
        running = [run for run in self.host.runs if run.state == "running"]
        assert all(self.followers(run) for run in running)
        assert all(not reader.task.done() for reader in self.alive)
        assert self.queue.running == len(running)

    def teardown(self) -> None:
        async def end() -> None:
            for reader in self.alive:
                reader.task.cancel()
            await asyncio.gather(*(reader.task for reader in self.alive), return_exceptions=True)
            await self.chat.close()
            await self.pool.stop()
            await self.cache.close()

        self.work(end())
        self.loop.close()
        self.folder.cleanup()


SingleFlight.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, suppress_health_check=list(HealthCheck)
)
TestSingleFlight = SingleFlight.TestCase


# Bounds


@pytest.fixture
async def works():
    works = SharedWorks()
    yield works
    await works.close()


async def nothing(*_: object) -> None:
    pytest.fail("what was not kept whole must not be stored")


def trace() -> Any:
    return Telemetry(SystemClock()).trace()


@pytest.mark.anyio
async def test_more_than_is_kept_of_an_answer_can_be_read_but_not_joined_nor_stored(works, monkeypatch):
    monkeypatch.setattr(shared_work, "BUFFER_LIMIT", 4000)

    async def produce(_: object) -> AsyncGenerator[Chunk, None]:
        for number in range(40):
            yield chunk(f"{number} ")
            await settle()
        yield answer()[-1]

    work = works.start("k", trace(), produce, nothing)
    assert works.find("k") is work
    read = [piece.text async for piece in works.follow("k", work)]
    assert read == [*(f"{number} " for number in range(40)), ""]
    assert work.dropped > 0
    assert sum(len(piece.line) for piece in work.chunks) < 4000
    late = works.start("k", trace(), produce, nothing)
    async with aclosing(works.follow("k", late)) as first:
        while not late.dropped:
            await anext(first)
        assert works.find("k") is None, "the beginning is gone: nobody may join any more"


@pytest.mark.anyio
async def test_a_reader_that_falls_too_far_behind_is_told_and_holds_up_nobody(works, monkeypatch):
    monkeypatch.setattr(shared_work, "BUFFER_LIMIT", 4000)
    gate = asyncio.Event()

    async def produce(_: object) -> AsyncGenerator[Chunk, None]:
        yield chunk("first")
        await gate.wait()
        for number in range(40):
            yield chunk(f"{number} ")
            await settle()
        yield answer()[-1]

    work = works.start("k", trace(), produce, nothing)
    slow, quick = works.follow("k", work), works.follow("k", work)
    async with aclosing(slow), aclosing(quick):
        assert (await anext(slow)).text == "first"
        gate.set()
        assert len([piece async for piece in quick]) == 42
        with pytest.raises(ReaderTooSlow):
            while True:
                await anext(slow)


@pytest.mark.anyio
async def test_one_piece_as_long_as_all_that_is_kept_reaches_a_reader_that_keeps_up(works, monkeypatch):
    monkeypatch.setattr(shared_work, "BUFFER_LIMIT", 4000)
    long = "x" * 3500

    async def produce(_: object) -> AsyncGenerator[Chunk, None]:
        for piece in (chunk("short"), chunk(long), chunk(long), *answer("end")):
            yield piece  # all of it is there at once

    work = works.start("k", trace(), produce, nothing)
    read = [piece.text async for piece in works.follow("k", work)]
    assert read == ["short", long, long, "end", ""]


@pytest.mark.anyio
async def test_an_older_work_that_ends_later_is_not_stored_over_a_newer_one(works):
    gates, stored = [asyncio.Event(), asyncio.Event()], []

    def told(number: int) -> Any:
        async def produce(_: object) -> AsyncGenerator[Chunk, None]:
            await gates[number].wait()
            for piece in answer(str(number)):
                yield piece

        return produce

    async def keep(chunks: tuple[Chunk, ...], _: object) -> None:
        stored.append(chunks[0].text)

    async def read(work: Any) -> str:
        return "".join([piece.text async for piece in works.follow("k", work)])

    old = works.start("k", trace(), told(0), keep)
    reading = asyncio.create_task(read(old))
    await settle()
    new = works.start("k", trace(), told(1), keep)
    both = asyncio.gather(reading, read(new))
    assert works.find("k") is new
    gates[1].set()
    await settle()
    gates[0].set()
    assert await both == ["0", "1"]
    assert stored == ["1"]
