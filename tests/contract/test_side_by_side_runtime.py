"""Side by side on the real runtime: two variants of the starter, the fair run, and what the queue sees of a round."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.bootstrap import Services, build
from app.comparison.live_round import RoundView
from app.comparison.rounds import Pane, Round
from app.config import Settings
from app.core.conversations import MessageState
from app.core.errors import QueueFull
from app.core.generation import GenerationRequest
from app.services.chat import Caller
from tests.runtime_process import RuntimeProcess, runtime
from tests.starter_cache import linked_store

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
LABELS = {"q8_0": "Q8_0", "q4_K_M": "Q4_K_M", "q2_K": "Q2_K"}
QUESTION = "What is the capital of France?"


def panes(*tags: str) -> tuple[Pane, ...]:
    return tuple(Pane(f"smollm2:135m-instruct-{tag}", LABELS[tag]) for tag in tags)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    folder = tmp_path_factory.mktemp("side")
    with runtime(linked_store(folder / "store", tuple(LABELS)), folder / "log", OLLAMA_NUM_PARALLEL="2") as running:
        yield running


@asynccontextmanager
async def product(server: RuntimeProcess, data: Path, **settings: Any) -> AsyncIterator[Services]:
    services = build(Settings(data=data, ollama_host=server.url, starter=False, drain_seconds=0.0, **settings))
    await services.start()
    try:
        yield services
    finally:
        await services.stop()


async def ended(services: Services, round_id: str) -> Round:
    last: RoundView | None = None
    async with asyncio.timeout(120):
        async for view in services.side_by_side.attach(round_id, "local"):
            last = view
    assert last is not None and not last.running
    return last.round


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.01)


def caller() -> Caller:
    return Caller(flow="page 1", from_page=True)


async def test_two_variants_answer_one_after_the_other_and_the_fair_run_measures_both(
    server: RuntimeProcess, tmp_path: Path
) -> None:
    async with product(server, tmp_path) as services:
        wanted = Round((QUESTION, "And of Italy?"), panes("q8_0", "q4_K_M"), options={"num_predict": 24})
        begun = await services.side_by_side.start(wanted, caller())
        done = await ended(services, begun.id)
        assert done.complete and all("Paris" in pane.answers[0].text for pane in done.panes)
        for pane in done.panes:
            first, second = pane.answers
            assert first.cold and first.prefill_tps and not first.shared and not second.cold
            assert first.answer.usage and first.answer.usage.decode_tps and first.ttft and first.ttft > 0
            assert first.memory and first.memory > 80 << 20 and first.context
            assert first.joules is not None or first.no_joules
        order = [record.model for record in reversed(services.telemetry.snapshot().recent)]
        assert order == [pane.model for pane in done.panes for _ in range(2)], "grouped by variant"

        await services.side_by_side.measure(begun.id, caller())
        fair = [pane.fair for pane in (await ended(services, begun.id)).panes]
        for figures in fair:
            assert figures and figures.n == 2 and not figures.disturbed
            assert figures.decode_tps and figures.prefill_tps and figures.ttft

        again = await ended(services, (await services.side_by_side.start(wanted, caller())).id)
        cached = [answer for pane in again.panes for answer in pane.answers]
        assert all(answer.answer.cached and not answer.measured for answer in cached)
        assert [pane.answers[0].text for pane in again.panes] == [pane.answers[0].text for pane in done.panes]


async def test_panes_of_a_round_are_one_to_the_bound_of_their_page(server: RuntimeProcess, tmp_path: Path) -> None:
    async with product(server, tmp_path, slots=3, queue_per_page=1) as services:
        services.queue.pause()
        wanted = Round(("Count to three.",), panes("q8_0", "q4_K_M", "q2_K"), options={"num_predict": 12})
        begun = await services.side_by_side.start(wanted, caller())
        await until(lambda: services.queue.waiting == 3)
        other = GenerationRequest(
            "chat", {"model": wanted.panes[0].model, "messages": [{"role": "user", "content": "x"}]}
        )
        with pytest.raises(QueueFull):
            async for _ in services.chat.ask(other, caller()):
                pass
        services.queue.resume()
        done = await ended(services, begun.id)
        assert done.complete, [pane.answers for pane in done.panes]
        told = [(pane.answers[0].shared, pane.answers[0].answer.spans) for pane in done.panes]
        assert any(shared for shared, _ in told), f"they ran at once, and say so: {told}"


async def test_after_a_restart_a_round_stands_as_far_as_it_had_come_and_goes_on(
    server: RuntimeProcess, tmp_path: Path
) -> None:
    async with product(server, tmp_path) as services:
        wanted = Round(("Tell me a very long story.",), panes("q8_0", "q2_K"), options={"num_predict": 160})
        begun = await services.side_by_side.start(wanted, caller())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                async for view in services.side_by_side.attach(begun.id, "local"):
                    if view.round.panes[0].answers and len(view.round.panes[0].answers[0].text) > 40:
                        break
    async with product(server, tmp_path) as services:
        found = (await services.side_by_side.get(begun.id, "local")).round
        [part] = found.panes[0].answers
        assert part.state is MessageState.INTERRUPTED and len(part.text) > 40 and found.questions == wanted.questions
        await services.side_by_side.go_on(begun.id, caller())
        assert (await ended(services, begun.id)).complete
