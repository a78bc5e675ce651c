"""The whole way of a request over fake hosts: cache, single-flight, queue, failover, phases, spans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.core.errors import (
    BadRequest,
    Draining,
    GenerationFailed,
    HostProtocolError,
    HostRefused,
    HostUnreachable,
    LoupeError,
    ModelNotFound,
    NoHealthyHost,
    QueueFull,
    QueueTimeout,
)
from app.core.generation import CacheMode, Chunk, GenerationRequest, Priority
from app.core.hosts import RawAnswer
from app.services.chat import Caller, ChatService
from app.services.host_pool import HostPool
from app.services.request_queue import QueueLimits, RequestQueue
from app.services.response_cache import ResponseCache
from app.services.retry_policy import RetryBudget
from app.services.telemetry import Telemetry
from tests.fakes import DIGEST, MODEL, FakeBackend, FakeClock, answer, chat, chunk, loaded_model, model_info, settle

pytestmark = pytest.mark.anyio
REFUSED = HostUnreachable("one", "refused")
COLD = {"temperature": 0}


@dataclass
class Rig:
    """The service over fake hosts, and everything in it."""

    clock: FakeClock
    hosts: list[FakeBackend]
    pool: HostPool
    queue: RequestQueue
    cache: ResponseCache
    telemetry: Telemetry
    chat: ChatService

    def caller(self, flow: str = "a", **more: object) -> Caller:
        return Caller(flow=flow, trace=self.telemetry.trace(), **more)  # type: ignore[arg-type]

    async def read(self, request: GenerationRequest, caller: Caller | None = None) -> str:
        async with aclosing(self.chat.ask(request, caller or self.caller())) as chunks:
            return "".join([piece.text async for piece in chunks])

    def ask(self, request: GenerationRequest, caller: Caller | None = None) -> asyncio.Task[str]:
        return asyncio.create_task(self.read(request, caller))

    @property
    def busy(self) -> int:
        return sum(status.busy_slots for status in self.pool.statuses())

    @property
    def asked(self) -> int:
        return sum(len(host.requests) for host in self.hosts)


async def rig_of(folder: Path, *hosts: FakeBackend, waiting: int = 8, outage: float = 0.0) -> Rig:
    clock = FakeClock()
    pool = HostPool(hosts, clock, outage=outage)
    queue = RequestQueue(pool, clock, limits=QueueLimits(waiting))
    pool.on_change(queue.poke)
    cache, telemetry = ResponseCache(folder / "cache", 64 << 20, clock), Telemetry(clock)
    service = ChatService(cache, queue, pool, telemetry, RetryBudget(clock))
    await cache.start()
    await pool.start()
    await settle()
    return Rig(clock, list(hosts), pool, queue, cache, telemetry, service)


async def end(rig: Rig) -> None:
    await rig.chat.close()
    await rig.pool.stop()
    await rig.cache.close()


@pytest.fixture
async def rig(tmp_path) -> AsyncIterator[Rig]:
    rig = await rig_of(tmp_path, FakeBackend())
    yield rig
    assert (rig.busy, rig.queue.running, rig.queue.waiting) == (0, 0, 0), "something still holds a slot"
    assert rig.telemetry.running() == ()
    await end(rig)


@pytest.fixture
async def two(tmp_path) -> AsyncIterator[Rig]:
    rig = await rig_of(tmp_path, FakeBackend("one"), FakeBackend("two"))
    yield rig
    assert (rig.busy, rig.queue.running, rig.queue.waiting) == (0, 0, 0), "something still holds a slot"
    await end(rig)


# The plain way


async def test_an_answer_comes_through_unchanged_and_carries_its_waterfall(rig):
    rig.hosts[0].enqueue(*answer("Par", "is"))
    caller = rig.caller()
    got = [piece async for piece in rig.chat.ask(chat(), caller)]
    assert got == answer("Par", "is")
    names = [span.name for span in caller.trace.spans]
    assert set(names) == {"cache", "queue", "host", "load", "prefill", "first token", "decode", "write"}
    [record] = rig.telemetry.snapshot().recent
    assert (record.status, record.host, record.model, record.digest) == ("ok", "one", MODEL, "")
    assert record.usage.output_tokens == 2
    assert record.cache.outcome == "bypass"
    assert record.cache.reason == "not deterministic"


async def test_phases_tell_what_the_request_waits_for(rig):
    backend = rig.hosts[0]
    backend.loaded_list = []
    rig.pool._hosts[0].warm.clear()
    first, second = asyncio.Event(), asyncio.Event()
    backend.enqueue(first, chunk("Par"), second, *answer("is")[0:])
    one, other = rig.caller("a"), rig.caller("b")
    assert one.trace.phase.name == "new"
    running = rig.ask(chat(), one)
    waiting = rig.ask(chat("and of Spain?"), other)
    await settle()
    assert one.trace.phase.name == "loading"
    assert (other.trace.phase.name, other.trace.phase.position) == ("queued", 1)
    backend.loaded_list = [loaded_model(MODEL)]
    first.set()
    await settle()
    assert one.trace.phase.name == "decode"
    assert rig.pool.statuses()[0].loaded == (MODEL,)  # it writes, so it is in memory: not only at the end
    second.set()
    await asyncio.gather(running, waiting)
    assert one.trace.phase.name == "done"


async def test_a_loaded_model_is_not_said_to_be_loading(rig):
    gate = asyncio.Event()
    rig.hosts[0].enqueue(gate, *answer("x"))
    caller = rig.caller()
    running = rig.ask(chat(), caller)
    await settle()
    assert caller.trace.phase.name == "prefill"
    gate.set()
    await running


async def test_closing_the_iterator_frees_the_slot_at_once(rig):
    rig.hosts[0].enqueue(chunk("Par"), asyncio.Event())
    chunks = rig.chat.ask(chat(), rig.caller())
    assert (await anext(chunks)).text == "Par"
    assert rig.busy == 1
    await chunks.aclose()
    assert (rig.busy, rig.hosts[0].left_early) == (0, 1)
    assert rig.telemetry.snapshot().recent[0].status == "cancelled"


async def test_the_slot_is_free_before_a_slow_reader_takes_the_last_piece(rig):
    chunks = rig.chat.ask(chat(), rig.caller())
    async for piece in chunks:
        if piece.done:
            assert rig.busy == 0
    assert rig.telemetry.snapshot().recent[0].status == "ok"


@pytest.mark.parametrize("steps", range(12))
async def test_a_cancelled_reader_leaks_nothing_wherever_it_is(rig, steps):
    rig.hosts[0].enqueue(chunk("Par"), asyncio.Event())
    running = rig.ask(chat())
    waiting = rig.ask(chat("next"))
    for _ in range(steps):
        await asyncio.sleep(0)
    waiting.cancel()
    running.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    assert (rig.busy, rig.queue.waiting) == (0, 0)


async def test_more_than_may_wait_are_refused(tmp_path):
    rig = await rig_of(tmp_path, FakeBackend(), waiting=1)
    gate = asyncio.Event()
    rig.hosts[0].enqueue(gate, *answer("x"))
    tasks = [rig.ask(chat(), rig.caller("a")), rig.ask(chat(), rig.caller("b"))]
    await settle()
    with pytest.raises(QueueFull):
        await rig.read(chat(), rig.caller("c"))
    gate.set()
    assert await asyncio.gather(*tasks) == ["x", "Paris."]
    assert rig.telemetry.snapshot().failed == 1
    await end(rig)


async def test_never_more_run_than_there_are_slots(tmp_path):
    rig = await rig_of(tmp_path, FakeBackend("one", slots=2), FakeBackend("two"), waiting=50)
    await asyncio.gather(*(rig.read(chat(str(n)), rig.caller(str(n % 3))) for n in range(40)))
    assert (rig.hosts[0].peak, rig.hosts[1].peak) == (2, 1)
    assert rig.asked == 40
    await end(rig)


async def test_an_unknown_model_is_told_before_it_waits(rig):
    with pytest.raises(ModelNotFound, match="model 'nope' not found"):
        await rig.read(chat(model="nope"))
    assert rig.asked == 0


async def test_no_host_is_told_before_it_waits(rig):
    rig.hosts[0].down = REFUSED
    for _ in range(3):
        await rig.pool._hosts[0].check()
    with pytest.raises(NoHealthyHost):
        await rig.read(chat())


async def test_an_unload_waits_for_nobody(rig):
    gate = asyncio.Event()
    rig.hosts[0].enqueue(gate, *answer("x"))
    running = rig.ask(chat())
    await settle()
    rig.hosts[0].enqueue(Chunk(b'{"done":true,"done_reason":"unload"}', done=True, done_reason="unload", whole=True))
    body = {"model": MODEL, "messages": [], "keep_alive": 0}
    await rig.read(GenerationRequest("chat", body))
    assert not running.done()
    gate.set()
    await running


def forwarding(backend: FakeBackend, *steps: asyncio.Event | LoupeError) -> list[bytes]:
    """Makes `forward` of the host wait or fail once for each step, and says what it was sent."""
    sent, script = [], list(steps)

    async def forward(method: str, path: str, body: bytes = b"") -> RawAnswer:
        sent.append(body)
        step = script.pop(0) if script else None
        if isinstance(step, LoupeError):
            raise step
        if step is not None:
            await step.wait()
        return RawAnswer(200, "application/json", b"{}")

    backend.forward = forward
    return sent


async def test_other_work_takes_a_slot_by_the_same_queue(rig):
    gate, caller = asyncio.Event(), rig.caller()
    forwarding(rig.hosts[0], gate)
    work = asyncio.create_task(rig.chat.forward(MODEL, caller, "/api/embed", b"{}"))
    await settle()
    assert rig.busy == 1
    assert caller.trace.host == "one"
    waiting = rig.ask(chat())
    await settle()
    assert rig.queue.waiting == 1
    gate.set()
    assert (await work).status == 200
    assert await waiting == "Paris."


@pytest.mark.parametrize("how", ["fails", "is lost"])
async def test_other_work_moves_to_another_host_as_well(two, how):
    one = forwarding(two.hosts[0], REFUSED if how == "fails" else asyncio.Event())
    other = forwarding(two.hosts[1])
    caller = two.caller()
    work = asyncio.create_task(two.chat.forward(MODEL, caller, "/api/embed", b"body"))
    await settle()
    if how == "is lost":
        two.pool._hosts[0].report(REFUSED)
    assert (await asyncio.wait_for(work, 5)).status == 200
    assert (one, other, caller.trace.host) == ([b"body"], [b"body"], "two")


# Failover


async def test_a_host_that_fails_before_the_first_piece_is_replaced_unseen(two):
    two.hosts[0].enqueue(REFUSED)
    caller = two.caller()
    assert await two.read(chat(), caller) == "Paris."
    assert caller.trace.host == "two"
    assert [span.attributes["outcome"] for span in caller.trace.spans if span.name == "host"] == ["failed", "ok"]


async def test_a_request_whose_host_fails_waits_first_in_line_for_the_other(two):
    gate, fail = asyncio.Event(), asyncio.Event()
    two.hosts[0].enqueue(fail, HostProtocolError("one", "cut"))
    two.hosts[1].enqueue(gate, *answer("other"))
    failing, busy = two.ask(chat("a"), two.caller("a")), two.ask(chat("b"), two.caller("b"))
    await settle()
    fail.set()
    await settle()
    assert (two.queue.waiting, two.busy) == (1, 1)
    gate.set()
    assert await asyncio.gather(failing, busy) == ["Paris.", "other"]
    assert len(two.hosts[0].requests) == 1


async def test_leaving_while_waiting_for_the_other_host_leaks_nothing(two):
    fail = asyncio.Event()
    two.hosts[0].enqueue(fail, HostProtocolError("one", "cut"))
    two.hosts[1].enqueue(asyncio.Event())
    tasks = [two.ask(chat(flow), two.caller(flow)) for flow in "ab"]
    await settle()
    fail.set()
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (two.queue.waiting, two.queue.running, two.busy) == (0, 0, 0)


async def test_nothing_is_tried_again_after_the_first_piece(two):
    two.hosts[0].enqueue(chunk("Par"), HostProtocolError("one", "cut"))
    seen = []
    with pytest.raises(HostProtocolError):
        async for piece in two.chat.ask(chat(), two.caller()):
            seen.append(piece.text)
    assert seen == ["Par"]
    assert two.asked == 1


async def test_there_is_one_retry_and_no_more(two):
    two.hosts[0].enqueue(REFUSED)
    two.hosts[1].enqueue(HostProtocolError("two", "cut"))
    with pytest.raises(HostProtocolError):
        await two.read(chat())
    assert two.asked == 2


async def test_a_request_that_loses_two_hosts_is_answered_by_the_third(tmp_path):
    hosts = [FakeBackend(name) for name in ("one", "two", "three")]
    rig = await rig_of(tmp_path, *hosts)
    hosts[0].enqueue(REFUSED)
    hosts[1].enqueue(HostUnreachable("two", "it stopped answering its health checks", sent=True))
    assert await rig.read(chat()) == "Paris."
    assert [len(host.requests) for host in hosts] == [1, 1, 1]
    await end(rig)


@pytest.mark.parametrize(
    "error", [HostRefused("one", 400, "your mistake"), GenerationFailed("one", "no memory"), BadRequest("no")]
)
async def test_mistakes_and_failed_generations_are_not_tried_again(two, error):
    two.hosts[0].enqueue(error)
    with pytest.raises(LoupeError) as caught:
        await two.read(chat())
    assert caught.value is error
    assert two.asked == 1


async def test_a_broken_connection_to_the_only_host_is_tried_once_more(rig):
    rig.hosts[0].enqueue(HostProtocolError("one", "reset"))
    assert await rig.read(chat()) == "Paris."
    assert rig.asked == 2


async def test_a_refused_connection_to_the_only_host_is_not(rig):
    rig.hosts[0].enqueue(REFUSED)
    with pytest.raises(HostUnreachable):
        await rig.read(chat())
    assert rig.asked == 1


async def test_a_total_outage_is_not_amplified(two):
    for host in two.hosts:
        for _ in range(400):
            host.enqueue(HostProtocolError(host.address.name, "cut"))
    for _ in range(200):
        with pytest.raises(LoupeError):
            await two.read(chat())
        two.clock.advance(0.1)
    assert 200 < two.asked <= 1.2 * 200 + 2 + 3  # a fifth, one in ten seconds, and three saved up


# Cache


async def test_a_repeated_deterministic_question_is_answered_from_the_cache(rig):
    first, second = rig.caller(), rig.caller("b")
    assert await rig.read(chat(options=COLD), first) == "Paris."
    await settle_cache(rig)
    rig.clock.advance(30)
    assert await rig.read(chat(options=COLD, stream=False, keep_alive="1h"), second) == "Paris."
    assert rig.asked == 1
    assert first.trace.cache.outcome == "miss"
    assert (second.trace.cache.outcome, second.trace.cache.age) == ("hit", 30)
    records = rig.telemetry.snapshot().recent
    assert [record.measured for record in records] == [False, True]
    assert b'loupe_tokens_total{kind="output"} 2.0' in rig.telemetry.render_metrics()


async def settle_cache(rig: Rig) -> None:
    """Wait for the write behind the answer: it is the last thing the shared work does."""
    while rig.chat._shared._tasks:
        await asyncio.gather(*rig.chat._shared._tasks)


async def test_a_replayed_answer_was_made_now_and_says_the_same(rig):
    made = [piece async for piece in rig.chat.ask(chat(options=COLD), rig.caller())]
    await settle_cache(rig)
    again = [piece async for piece in rig.chat.ask(chat(options=COLD), rig.caller())]
    assert [piece.text for piece in again] == [piece.text for piece in made]
    assert again[-1].usage == made[-1].usage
    assert again[0].line != made[0].line
    assert b"2026-11-23T02:24:52" not in again[0].line


@pytest.mark.parametrize(
    ("options", "more", "outcome"),
    [
        ({}, {}, "bypass"),
        ({"temperature": 0.8}, {}, "bypass"),
        ({"temperature": 0.8}, {"cache_sampled": True}, "miss"),
        ({"seed": 7}, {}, "miss"),
        (COLD, {"cache_mode": CacheMode.BYPASS}, "bypass"),
        (COLD, {"cache_mode": CacheMode.REFRESH}, "refresh"),
    ],
)
async def test_the_cache_is_used_where_it_may_be(rig, options, more, outcome):
    caller = rig.caller(**more)
    await rig.read(chat(options=options), caller)
    await settle_cache(rig)
    assert caller.trace.cache.outcome == outcome
    assert (await rig.cache.stats()).entries == (outcome != "bypass")


async def test_refresh_replaces_the_entry(rig):
    await rig.read(chat(options=COLD))
    await settle_cache(rig)
    rig.hosts[0].enqueue(*answer("Lyon"))
    assert await rig.read(chat(options=COLD), rig.caller(cache_mode=CacheMode.REFRESH)) == "Lyon"
    await settle_cache(rig)
    assert await rig.read(chat(options=COLD)) == "Lyon"
    assert rig.asked == 2


async def test_another_principal_has_other_entries(rig):
    await rig.read(chat(options=COLD))
    await settle_cache(rig)
    await rig.read(chat(options=COLD), rig.caller(principal="someone"))
    assert rig.asked == 2
    await settle_cache(rig)


async def test_entries_die_with_the_digest_and_with_the_version(rig):
    backend = rig.hosts[0]
    await rig.read(chat(options=COLD))
    await settle_cache(rig)
    backend.model_list = [model_info(digest="e" * 64)]
    rig.clock.advance(1)
    await rig.read(chat(options=COLD))
    await settle_cache(rig)
    assert rig.asked == 2
    backend.told_version = ("0.34.0", "")
    await rig.pool._hosts[0].check()
    await rig.read(chat(options=COLD))
    await settle_cache(rig)
    assert rig.asked == 3


async def test_a_model_pulled_anew_in_mid_answer_is_not_stored(rig):
    gate = asyncio.Event()
    rig.hosts[0].enqueue(chunk("Par"), gate, *answer("is"))
    running = rig.ask(chat(options=COLD))
    await settle()
    rig.hosts[0].model_list = [model_info(digest="e" * 64)]
    gate.set()
    await running
    await settle_cache(rig)
    assert (await rig.cache.stats()).entries == 0


async def test_an_answer_without_a_known_context_is_not_stored(rig):
    rig.hosts[0].loaded_list = []
    await rig.read(chat(options=COLD))
    await settle_cache(rig)
    assert (await rig.cache.stats()).entries == 0
    await rig.read(chat(options={**COLD, "num_ctx": 512}))
    await settle_cache(rig)
    assert (await rig.cache.stats()).entries == 1


async def test_a_host_that_does_not_tell_what_it_has_in_time_is_not_cached(rig, monkeypatch):
    async def never(**_: object) -> None:
        await asyncio.Event().wait()

    rig.clock.advance(1)
    monkeypatch.setattr(rig.pool._hosts[0], "refresh", never)
    monkeypatch.setattr("app.services.chat.IDENTITY_SECONDS", 0.01)
    caller = rig.caller()
    assert await rig.read(chat(options=COLD), caller) == "Paris."
    assert caller.trace.cache.outcome == "bypass"


@pytest.mark.parametrize("error", [GenerationFailed("one", "no memory"), HostProtocolError("one", "cut")])
async def test_a_broken_answer_is_not_stored(rig, error):
    rig.hosts[0].enqueue(chunk("Par"), error)
    with pytest.raises(type(error)):
        await rig.read(chat(options=COLD))
    assert await rig.read(chat(options=COLD)) == "Paris."
    await settle_cache(rig)


# Single-flight


async def test_a_hundred_identical_requests_are_one_generation(rig):
    gate = asyncio.Event()
    rig.hosts[0].enqueue(chunk("Par"), gate, *answer("is"))
    callers = [rig.caller(str(n)) for n in range(100)]
    tasks = [rig.ask(chat(options=COLD), caller) for caller in callers]
    await settle()
    late = rig.ask(chat(options=COLD))
    await settle()
    gate.set()
    assert set(await asyncio.gather(*tasks, late)) == {"Paris"}
    assert rig.asked == 1
    assert sorted({caller.trace.cache.outcome for caller in callers}) == ["joined", "miss"]
    assert sum(record.measured for record in rig.telemetry.snapshot().recent) == 1
    await settle_cache(rig)


async def test_the_one_who_came_first_may_leave(rig):
    gate = asyncio.Event()
    rig.hosts[0].enqueue(chunk("Par"), gate, *answer("is"))
    first, second = rig.ask(chat(options=COLD)), rig.ask(chat(options=COLD))
    await settle()
    first.cancel()
    await settle()
    gate.set()
    assert await second == "Paris"
    assert rig.asked == 1
    with pytest.raises(asyncio.CancelledError):
        await first
    await settle_cache(rig)


async def test_the_last_to_leave_ends_the_work_and_nobody_joins_it(rig):
    rig.hosts[0].enqueue(chunk("Par"), asyncio.Event())
    tasks = [rig.ask(chat(options=COLD)) for _ in range(3)]
    await settle()
    for task in tasks:
        task.cancel()
    newcomer = rig.ask(chat(options=COLD))
    assert await newcomer == "Paris."
    assert (rig.hosts[0].left_early, rig.asked) == (1, 2)
    await asyncio.gather(*tasks, return_exceptions=True)
    await settle_cache(rig)


async def test_an_error_reaches_everyone_and_the_next_one_asks_again(rig):
    gate = asyncio.Event()
    rig.hosts[0].enqueue(gate, GenerationFailed("one", "no memory"))
    tasks = [rig.ask(chat(options=COLD)) for _ in range(5)]
    await settle()
    gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [GenerationFailed] * 5
    assert await rig.read(chat(options=COLD)) == "Paris."
    await settle_cache(rig)


async def test_sampled_requests_never_share(rig):
    assert await asyncio.gather(*(rig.read(chat(), rig.caller(str(n))) for n in range(3))) == ["Paris."] * 3
    assert rig.asked == 3


async def test_followers_see_the_phase_of_the_shared_work(rig):
    gate = asyncio.Event()
    rig.hosts[0].enqueue(gate, *answer("x"))
    one, other = rig.caller(), rig.caller("b")
    tasks = [rig.ask(chat(options=COLD), caller) for caller in (one, other)]
    await settle()
    assert one.trace.phase.name == other.trace.phase.name == "prefill"
    gate.set()
    await asyncio.gather(*tasks)
    assert {span.name for span in other.trace.spans} >= {"cache", "queue", "host", "decode"}
    assert other.trace.digest == DIGEST
    await settle_cache(rig)


async def test_who_shares_an_answer_is_found_by_any_name_under_that_of_the_work(rig):
    rig.hosts[0].enqueue(chunk("Par"), asyncio.Event())
    one, other = rig.caller(), rig.caller("b")
    other.trace.client_id = "mine"
    tasks = [rig.ask(chat(options=COLD), caller) for caller in (one, other)]
    await settle()
    [running] = rig.queue.snapshot().running
    assert rig.telemetry.askers() == {running.id: [one.trace, other.trace]}
    assert {rig.telemetry.work_of(name) for name in (one.trace.id, other.trace.id, "mine", running.id)} == {running.id}
    rig.queue.cancel(running.id)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_waits_in_a_paused_queue_is_told_so(rig):
    rig.queue.pause()
    caller = rig.caller()
    asking = rig.ask(chat(), caller)
    await settle()
    assert (caller.trace.phase.name, caller.trace.phase.position) == ("paused", 1)
    rig.queue.resume()
    assert await asking == "Paris."


async def test_closing_the_service_tells_those_who_wait(rig):
    rig.hosts[0].enqueue(chunk("Par"), asyncio.Event())
    shared = rig.ask(chat(options=COLD))
    await settle()
    queued = rig.ask(chat("other"), rig.caller("b", priority=Priority.BATCH))
    await settle()
    rig.queue.close()
    await rig.chat.close()
    for task in (shared, queued):
        with pytest.raises(Draining):
            await task


# Hosts that are lost


async def test_a_request_without_a_byte_leaves_a_host_that_is_lost(two):
    two.hosts[0].enqueue(asyncio.Event())  # it says nothing for ever
    asking = two.ask(chat())
    await settle()
    assert two.hosts[0].running == 1
    two.pool._hosts[0].report(REFUSED)
    assert await asyncio.wait_for(asking, 5) == "Paris."
    assert (len(two.hosts[0].requests), len(two.hosts[1].requests)) == (1, 1)


async def test_an_answer_that_has_begun_stays_where_it_is(two):
    gate = asyncio.Event()
    two.hosts[0].enqueue(chunk("Par"), gate, *answer("is"))
    asking = two.ask(chat())
    await settle()
    two.pool._hosts[0].report(REFUSED)
    gate.set()
    assert await asyncio.wait_for(asking, 5) == "Paris"
    assert two.hosts[1].requests == []


async def test_without_another_host_a_request_waits_for_the_lost_one(rig):
    gate = asyncio.Event()
    rig.hosts[0].enqueue(gate, *answer("Paris"))
    asking = rig.ask(chat())
    await settle()
    rig.pool._hosts[0].report(REFUSED)
    await settle()
    assert not asking.done()
    gate.set()
    assert await asyncio.wait_for(asking, 5) == "Paris"


@pytest.fixture
async def held(tmp_path) -> AsyncIterator[Rig]:
    rig = await rig_of(tmp_path, FakeBackend(), outage=5.0)
    yield rig
    assert (rig.busy, rig.queue.running, rig.queue.waiting) == (0, 0, 0), "something still holds a slot"
    await end(rig)


async def lose(rig: Rig) -> None:
    rig.hosts[0].down = REFUSED
    rig.pool._hosts[0].report(REFUSED)
    await settle()


async def test_those_who_wait_go_on_when_the_host_is_back_in_time(held):
    await lose(held)
    caller = held.caller()
    asking = held.ask(chat(), caller)
    await settle()
    assert caller.trace.phase.name == "held"
    held.hosts[0].down = None
    for _ in range(2):
        await held.pool._hosts[0].check()
    assert await asyncio.wait_for(asking, 5) == "Paris."


async def test_those_who_wait_are_refused_when_the_host_stays_away(held):
    await lose(held)
    asking = held.ask(chat())
    await settle()
    held.clock.advance(5)
    held.pool.changed()
    with pytest.raises(NoHealthyHost, match="refused"):
        await asyncio.wait_for(asking, 5)
    assert held.asked == 0


async def test_a_request_that_met_the_loss_is_held_as_well(held):
    held.hosts[0].enqueue(REFUSED)
    asking = held.ask(chat())
    held.hosts[0].down = REFUSED
    await settle()
    assert held.queue.waiting == 1
    held.hosts[0].down = None
    for _ in range(2):
        await held.pool._hosts[0].check()
    assert await asyncio.wait_for(asking, 5) == "Paris."


async def test_everyone_who_shares_has_a_patience_of_their_own(rig):
    gate = asyncio.Event()
    rig.hosts[0].enqueue(gate, *answer("first"))
    holding = rig.ask(chat("holds the slot"))
    await settle()
    hurried = rig.ask(chat(options=COLD), rig.caller("b", patience=0.01))
    patient = rig.ask(chat(options=COLD), rig.caller("c"))
    with pytest.raises(QueueTimeout):
        await hurried
    assert not patient.done(), "who came first may lose patience without harm to the others"
    gate.set()
    assert await asyncio.gather(holding, patient) == ["first", "Paris."]
    await settle_cache(rig)


async def test_work_of_the_batch_class_that_a_person_joins_waits_no_longer_with_the_batch(rig):
    gate = asyncio.Event()
    rig.hosts[0].enqueue(gate, *answer("first"))
    holding = rig.ask(chat("holds the slot"))
    await settle()
    asking = [rig.ask(chat(options=COLD), rig.caller("b", priority=Priority.BATCH))]
    await settle()
    [waiting] = rig.queue.snapshot().waiting
    assert waiting.priority is Priority.BATCH
    asking.append(rig.ask(chat(options=COLD), rig.caller("c")))
    await settle()
    [waiting] = rig.queue.snapshot().waiting
    assert waiting.priority is Priority.INTERACTIVE
    gate.set()
    await asyncio.gather(holding, *asking)
    await settle_cache(rig)
