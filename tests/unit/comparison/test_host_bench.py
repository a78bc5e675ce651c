"""The bench over a fake host: times from the moment of sending, people first, what disturbs is seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from app.comparison.host_bench import HostBench, Way
from app.core.errors import GenerationFailed, HostProtocolError, HostUnreachable, ModelNotFound
from app.core.generation import Chunk, Usage
from tests.fakes import MODEL, FakeBackend, answer, chat, chunk, settle
from tests.unit.services.test_chat import Rig, end, rig_of

pytestmark = pytest.mark.anyio


async def quick(seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture
async def rig(tmp_path) -> AsyncIterator[Rig]:
    rig = await rig_of(tmp_path, FakeBackend("one"), FakeBackend("two"))
    yield rig
    await end(rig)


def bench_of(rig: Rig, **more: object) -> HostBench:
    return HostBench(Way(rig.chat, rig.queue, rig.pool, rig.telemetry, quick), "two", **more)  # type: ignore[arg-type]


def piece(text: str, **more: object) -> Chunk:
    return Chunk(json.dumps({"response": text, **more}).encode(), text)


DONE = chunk(done=True, usage=Usage(10**9, 0, 5, 10**8, 2, 9 * 10**8))


async def test_an_answer_with_its_probabilities_comes_whole_from_the_host_it_is_for(rig):
    entries = [{"token": "a", "logprob": -0.1, "top_logprobs": []}, {"token": "b", "logprob": -0.2}]
    rig.hosts[1].enqueue(piece("a", logprobs=entries[:1]), piece("b", logprobs=entries[1:]), DONE)
    reply = await bench_of(rig).generate(MODEL, {"prompt": "x", "options": {"num_predict": 2}})
    assert (reply.text, list(reply.logprobs), reply.complete, reply.disturbed) == ("ab", entries, True, False)
    assert not rig.hosts[0].requests and rig.hosts[1].requests[0].body["model"] == MODEL
    (record,) = rig.telemetry.snapshot().recent
    assert (record.flow, record.cache.reason) == ("compare", "asked for")


async def test_the_clock_runs_from_the_sending_and_not_from_the_waiting(rig):
    release = asyncio.Event()
    rig.hosts[1].enqueue(release, *answer("other batch work"))
    other = rig.ask(chat(), rig.caller("batch", host="two", priority="batch"))
    await settle()
    waiting = asyncio.create_task(bench_of(rig).generate(MODEL, {"prompt": "x"}))
    await settle()
    rig.clock.advance(30)
    release.set()
    reply = await waiting
    await other
    assert reply.seconds < 1 and reply.ttft < 1


async def test_people_go_first_and_what_was_cut_off_for_them_is_asked_again(rig):
    told: list[bool] = []
    hold, person = asyncio.Event(), asyncio.Event()
    rig.hosts[1].enqueue(piece("half"), hold, DONE)
    bench = bench_of(rig, told=told.append)
    measuring = asyncio.create_task(bench.generate(MODEL, {"prompt": "x"}))
    await settle()
    rig.hosts[1].enqueue(person, *answer("hello"))
    asked = rig.ask(chat(), rig.caller("page", host="two"))
    for _ in range(20):
        await settle()
    assert rig.hosts[1].left_early == 1 and rig.queue.activity("two")[0] == 1 and not measuring.done()
    rig.hosts[1].enqueue(piece("whole"), DONE)
    person.set()
    assert await asked == "hello"
    assert (await measuring).text == "whole"
    assert told == [True, False] and bench.gave_way == 1 and bench.idle > 0


async def test_nothing_is_sent_while_the_gate_is_shut(rig):
    gate = asyncio.Event()
    measuring = asyncio.create_task(bench_of(rig, gate=gate.wait).generate(MODEL, {"prompt": "x"}))
    await settle()
    assert not rig.hosts[1].requests
    gate.set()
    assert (await measuring).text == "Paris."


async def test_other_work_beside_it_is_seen(tmp_path):
    rig = await rig_of(tmp_path, FakeBackend("one"), FakeBackend("two", slots=2))
    hold = asyncio.Event()
    rig.hosts[1].enqueue(piece("a"), hold, piece("b"), DONE)
    measuring = asyncio.create_task(bench_of(rig).generate(MODEL, {"prompt": "x"}))
    await settle()
    await rig.read(chat(), rig.caller("batch", host="two", priority="batch"))
    hold.set()
    assert (await measuring).disturbed
    await end(rig)


@pytest.mark.parametrize(
    "usage", [Usage(5 * 10**9, 0, 5, 10**8, 2, 10**8), Usage(10**9, 5 * 10**8, 5, 10**8, 2, 10**8)]
)
async def test_a_host_that_did_something_else_meanwhile_or_loaded_anew_gives_itself_away(rig, usage):
    rig.hosts[1].enqueue(piece("a"), chunk(done=True, usage=usage))
    assert (await bench_of(rig).generate(MODEL, {"prompt": "x"})).disturbed


async def test_an_answer_cut_off_for_repeating_itself_is_one_and_a_lost_connection_is_tried_again(rig):
    cut = HostProtocolError("two", "the answer ended before it was done")
    rig.hosts[1].enqueue(*[piece("la ")] * 31, cut)
    reply = await bench_of(rig).generate(MODEL, {"prompt": "x"})
    assert not reply.complete and reply.text.startswith("la la")
    rig.hosts[1].enqueue(piece("x"), GenerationFailed("two", "prediction aborted, token repeat limit reached"))
    assert not (await bench_of(rig).generate(MODEL, {"prompt": "x"})).complete
    rig.hosts[1].enqueue(piece("a"), HostUnreachable("two", "reset", sent=True))
    assert (await bench_of(rig).generate(MODEL, {"prompt": "x"})).text == "Paris."


async def test_what_the_host_refuses_is_not_tried_again(rig):
    rig.hosts[1].enqueue(ModelNotFound(MODEL))
    with pytest.raises(ModelNotFound):
        await bench_of(rig).generate(MODEL, {"prompt": "x"})
    assert len(rig.hosts[1].requests) == 1


async def test_the_template_is_read_from_the_host(rig):
    line = json.dumps({"_debug_info": {"rendered_template": "<user>Hi"}}).encode()
    rig.hosts[1].enqueue(Chunk(line, whole=True))
    assert await bench_of(rig).render(MODEL, "Hi", "Be brief.") == "<user>Hi"
    body = rig.hosts[1].requests[0].body
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


async def test_unloading_is_waited_for_and_loading_what_is_loaded_takes_no_time(rig):
    bench = bench_of(rig)
    assert await bench.load(MODEL, {}) == 0.0 and not rig.hosts[1].requests
    gone = asyncio.create_task(bench.unload(MODEL))
    await settle()
    assert not gone.done()
    rig.hosts[1].loaded_list.clear()
    await gone
    (unload,) = rig.hosts[1].requests
    assert unload.body["keep_alive"] == 0 and "prompt" not in unload.body
