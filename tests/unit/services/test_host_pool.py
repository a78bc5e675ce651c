"""Which host takes a request, when a host counts as gone, and what the hosts have together."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from app.core.errors import (
    HostProtocolError,
    HostRefused,
    HostsRateLimited,
    HostTimeout,
    HostUnreachable,
    HostWarming,
    ModelNotFound,
    ModelNotLocal,
    NoHealthyHost,
)
from app.core.hosts import HostState
from app.services.host_pool import HostPool
from app.services.watched_host import WatchedHost, canonical
from tests.fakes import DIGEST, MODEL, FakeBackend, FakeClock, loaded_model, model_info, settle

pytestmark = pytest.mark.anyio
REFUSED = HostUnreachable("one", "connection refused")


@pytest.fixture
async def clock() -> FakeClock:
    return FakeClock()


async def started(*backends: FakeBackend, clock: FakeClock, outage: float = 0.0, remote: bool = False) -> HostPool:
    pool = HostPool(backends, clock, outage=outage, remote=remote)
    await pool.start()
    await settle()
    return pool


def watched(backend: FakeBackend, clock: FakeClock) -> WatchedHost:
    return WatchedHost(backend, clock, lambda: None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("smollm2", "smollm2:latest"),
        ("Smollm2:135M", "smollm2:135m"),
        ("library/smollm2", "registry.ollama.ai/library/smollm2:latest"),
        ("hf.co/a/b", "hf.co/a/b:latest"),
        ("host:5000/a/b", "host:5000/a/b:latest"),
    ],
)
def test_two_spellings_of_one_model_are_one(one, other):
    assert canonical(one) == canonical(other)


def test_different_models_stay_different():
    assert canonical("a") != canonical("a:b")
    assert canonical("me/a") != canonical("a")


async def test_three_failed_checks_take_a_host_down_and_two_passes_bring_it_back(clock):
    backend = FakeBackend()
    host = watched(backend, clock)
    await host.check()
    states = []
    backend.down = REFUSED
    for _ in range(3):
        await host.check()
        states.append(host.state)
    assert states == [HostState.HEALTHY, HostState.HEALTHY, HostState.OFFLINE]
    assert "connection refused" in host.status().error
    backend.down = None
    await host.check()
    assert host.state is HostState.OFFLINE
    await host.check()
    assert (host.state, host.status().error) == (HostState.HEALTHY, "")


async def test_a_refused_request_takes_the_host_down_at_once_and_asks_again(clock):
    backend = FakeBackend()
    pool = await started(backend, clock=clock)
    lease = pool.reserve(MODEL)
    backend.down = REFUSED
    checks = backend.checks
    lease.failed(REFUSED)
    assert pool.statuses()[0].state is HostState.OFFLINE
    await settle()
    assert backend.checks > checks, "the watcher did not look at once"
    await pool.stop()


async def test_a_host_that_answers_something_else_is_misconfigured(clock):
    backend = FakeBackend()
    backend.down = HostProtocolError("one", "not JSON")
    host = watched(backend, clock)
    await host.check()
    assert host.state is HostState.MISCONFIGURED


async def test_a_busy_host_is_not_broken(clock):
    pool = await started(FakeBackend("one"), FakeBackend("two"), clock=clock)
    for _ in range(20):
        pool._hosts[0].report(HostRefused("one", 503, "busy"))
    assert pool.statuses()[0].state is HostState.BUSY
    assert pool.reserve(MODEL).address.name == "two"
    assert pool.reserve(MODEL).address.name == "one", "a busy host is still a host"
    clock.advance(2)
    assert pool.statuses()[0].state is HostState.HEALTHY
    await pool.stop()


async def test_a_request_goes_where_its_model_is_loaded_then_to_the_emptiest(clock):
    one, two = FakeBackend("one", slots=2), FakeBackend("two", slots=2)
    one.loaded_list = []
    pool = await started(one, two, clock=clock)
    names = [pool.reserve(MODEL).address.name for _ in range(4)]
    assert names == ["two", "two", "one", "one"]
    assert pool.reserve(MODEL) is None
    await pool.stop()


async def test_without_loaded_models_the_load_is_spread(clock):
    hosts = [FakeBackend(name, slots=2) for name in ("one", "two")]
    for host in hosts:
        host.loaded_list = []
    pool = await started(*hosts, clock=clock)
    assert [pool.reserve(MODEL).address.name for _ in range(4)] == ["one", "two", "one", "two"]
    await pool.stop()


async def test_only_hosts_that_have_the_model_are_chosen(clock):
    pool = await started(FakeBackend("one", models=[]), FakeBackend("two"), clock=clock)
    assert pool.reserve(MODEL).address.name == "two"
    with pytest.raises(ModelNotFound, match="model 'nope' not found"):
        pool.reserve("nope")
    await pool.stop()


async def test_a_model_pulled_a_moment_ago_is_found(clock):
    backend = FakeBackend()
    pool = await started(backend, clock=clock)
    backend.model_list.append(model_info("new:1", "e" * 64))
    clock.advance(1)
    assert (await pool.resolve("new:1")).digest == "e" * 64
    with pytest.raises(ModelNotFound):
        await pool.resolve("nope")
    await pool.stop()


async def test_no_host_is_told_with_every_reason(clock):
    one, two = FakeBackend("one"), FakeBackend("two")
    one.down, two.down = REFUSED, HostProtocolError("two", "not JSON")
    pool = await started(one, two, clock=clock)
    with pytest.raises(NoHealthyHost) as caught:
        await pool.resolve(MODEL)
    assert caught.value.reasons.keys() == {"one", "two"}
    assert "not JSON" in caught.value.message
    await pool.stop()


async def test_the_last_host_is_asked_again_before_it_is_given_up(clock):
    backend = FakeBackend()
    pool = await started(backend, clock=clock)
    pool._hosts[0].report(REFUSED)
    assert pool.statuses()[0].state is HostState.OFFLINE
    assert (await pool.resolve(MODEL)).host == "one"
    await pool.stop()


async def test_an_open_breaker_turns_requests_away_but_never_from_the_last_host(clock):
    one, two = FakeBackend("one", slots=9), FakeBackend("two", slots=9)
    pool = await started(one, two, clock=clock)
    for _ in range(5):
        pool._hosts[0].report(HostProtocolError("one", "cut"))
    assert {pool.reserve(MODEL).address.name for _ in range(5)} == {"two"}
    pool._hosts[1].draining = True
    assert pool.reserve(MODEL).address.name == "one"
    await pool.stop()


async def test_a_starting_runtime_is_waited_for(clock):
    backend = FakeBackend()
    backend.down = HostWarming("one", "it is starting")
    pool = await started(backend, clock=clock)
    assert pool.statuses()[0].state is HostState.WARMING
    assert pool.reserve(MODEL) is None
    assert (await pool.resolve(MODEL)).digest == ""
    backend.down = None
    await pool._hosts[0].check()
    assert pool.reserve(MODEL) is not None
    await pool.stop()


async def test_a_lease_moves_to_another_host_and_frees_the_first(clock):
    pool = await started(FakeBackend("one"), FakeBackend("two"), clock=clock)
    lease = pool.reserve(MODEL)
    first = lease.address.name
    assert lease.move()
    assert lease.address.name != first
    assert sum(status.busy_slots for status in pool.statuses()) == 1
    other = pool.reserve(MODEL)
    assert not lease.move(), "the other host is full"
    for held in (lease, other, lease):
        held.release()
    assert [status.busy_slots for status in pool.statuses()] == [0, 0]
    await pool.stop()


async def test_tags_are_one_list_and_a_name_with_two_digests_is_a_conflict(clock):
    shared, only = model_info("shared:1", "a" * 64), model_info("only:1", "b" * 64)
    one = FakeBackend("one", models=[shared, only, model_info("odd:1", "c" * 64)])
    two = FakeBackend("two", models=[shared, model_info("odd:1", "d" * 64)])
    pool = await started(one, two, clock=clock)
    rows = {(row.info.name, row.info.digest[0]): row for row in await pool.tags()}
    assert rows["shared:1", "a"].hosts == ("one", "two")
    assert rows["only:1", "b"].hosts == ("one",)
    assert not rows["shared:1", "a"].conflict
    assert rows["odd:1", "c"].conflict
    assert rows["odd:1", "d"].conflict
    await pool.stop()


async def test_a_host_that_fails_to_list_does_not_hide_the_others(clock):
    one, two = FakeBackend("one"), FakeBackend("two", models=[model_info("b:1")])
    pool = await started(one, two, clock=clock)
    one.down = REFUSED
    assert "b:1" in {row.info.name for row in await pool.tags()}
    assert {row.host for row in await pool.ps()} == {"two"}
    await pool.stop()


async def test_the_default_context_is_learned_after_an_answer(clock):
    backend = FakeBackend()
    pool = await started(backend, clock=clock)
    model = await pool.resolve(MODEL)
    assert pool.default_context(model) is None
    backend.loaded_list = [loaded_model(context=8192)]
    assert await pool.learn_context(model) == 8192
    assert pool.default_context(model) == 8192
    await pool.stop()


async def test_subscribers_see_every_lasting_change(clock):
    backend = FakeBackend()
    pool = await started(backend, clock=clock)
    news = pool.subscribe()
    assert (await anext(news))[0].state is HostState.HEALTHY
    waiting = asyncio.create_task(anext(news))
    await settle()
    assert not waiting.done()
    pool.reserve(MODEL)
    assert (await waiting)[0].busy_slots == 1
    pool._hosts[0].report(REFUSED)
    assert (await anext(news))[0].state is HostState.OFFLINE
    await news.aclose()
    await pool.stop()
    assert backend.closed


async def test_a_short_request_takes_no_slot_and_reports_failures(clock):
    one, two = FakeBackend("one", models=[]), FakeBackend("two")
    pool = await started(one, two, clock=clock)
    pool.reserve(MODEL)
    async with pool.lease(MODEL) as backend:
        assert backend is two
    with pytest.raises(HostUnreachable):
        async with pool.lease(MODEL):
            raise HostUnreachable("two", "refused")
    assert pool.statuses()[1].state is HostState.OFFLINE
    assert pool.backend("one") is one
    with pytest.raises(NoHealthyHost):
        pool.backend("three")
    assert (await pool.identify(MODEL, "one")) is None
    await pool.stop()


async def test_content_is_gone_when_the_last_host_that_had_it_has_it_no_more(clock):
    one, two = FakeBackend("one"), FakeBackend("two")
    pool = HostPool([one, two], clock)
    gone: list[str] = []
    pool.on_gone(gone.append)
    await pool.tags()
    one.model_list = []
    await pool.tags()
    assert gone == []
    two.model_list = [model_info(digest="e" * 64)]
    await pool.tags()
    assert gone == [DIGEST]


# Hosts that say later, stall, or are lost for a moment


async def test_a_host_that_said_when_to_come_back_is_left_alone_until_then(clock):
    pool = await started(FakeBackend("one", slots=9), FakeBackend("two", slots=9), clock=clock)
    pool._hosts[0].report(HostRefused("one", 429, "later", retry_after=20.0))
    assert pool.statuses()[0].state is HostState.RATE_LIMITED
    assert pool.statuses()[0].rests_until == clock.monotonic() + 20
    assert {pool.reserve(MODEL).address.name for _ in range(5)} == {"two"}
    pool._hosts[1].report(HostRefused("two", 429, "later"))
    assert pool.reserve(MODEL) is None, "half a minute is waited for"
    clock.advance(5)
    assert pool.reserve(MODEL).address.name == "two", "five seconds where it named no time"
    await pool.stop()


async def test_a_long_rate_limit_of_all_hosts_is_told_instead_of_waited_for(clock):
    pool = await started(FakeBackend("one"), clock=clock)
    pool._hosts[0].report(HostRefused("one", 429, "later", retry_after=90.0))
    with pytest.raises(HostsRateLimited) as caught:
        pool.reserve(MODEL)
    assert (caught.value.status, caught.value.retry_after) == (429, 90.0)
    await pool.stop()


async def test_a_host_that_let_a_request_down_must_pass_a_check_before_others_are_passed_over_for_it(clock):
    one, two = FakeBackend("one", slots=9), FakeBackend("two", slots=9)
    pool = await started(one, two, clock=clock)
    pool._hosts[0].report(HostTimeout("one", "stall", 60))
    assert {pool.reserve(MODEL).address.name for _ in range(3)} == {"two"}
    await pool._hosts[0].check()
    assert pool.reserve(MODEL).address.name == "one"
    pool._hosts[0].report(HostTimeout("one", "stall", 60))
    one.down = HostTimeout("one", "health check", 2)
    await pool._hosts[0].check()
    assert pool.statuses()[0].state is HostState.OFFLINE, "a request and a check failed: no need for three checks"
    await pool.stop()


async def test_those_who_wait_are_held_while_the_hosts_of_their_model_are_lost_for_a_moment(clock):
    one, two = FakeBackend("one"), FakeBackend("two", models=[model_info("b:1")])
    pool = await started(one, two, clock=clock, outage=5.0)
    one.down = REFUSED
    pool._hosts[0].report(REFUSED)
    assert pool.reserve(MODEL) is None
    assert pool.outage is None, "the other host can be used"
    assert (await pool.resolve(MODEL)).host == ""
    two.down = REFUSED
    pool._hosts[1].report(REFUSED)
    assert pool.outage.until == clock.monotonic() + 5
    assert pool.outage.reasons.keys() == {"one", "two"}
    clock.advance(5)
    with pytest.raises(NoHealthyHost, match="connection refused"):
        pool.reserve(MODEL)
    assert pool.outage is None
    await pool.stop()


async def test_a_model_whose_only_host_is_away_is_not_said_to_be_missing(clock):
    one, two = FakeBackend("one"), FakeBackend("two", models=[model_info("b:1")])
    pool = await started(one, two, clock=clock)
    one.down = REFUSED
    pool._hosts[0].report(REFUSED)
    with pytest.raises(NoHealthyHost, match="connection refused"):
        await pool.resolve(MODEL)
    with pytest.raises(ModelNotFound):
        await pool.resolve("nowhere:1")
    await pool.stop()


async def test_a_drained_host_takes_nothing_new_and_says_so(clock):
    pool = await started(FakeBackend("one", slots=2), clock=clock, outage=5.0)
    lease = pool.reserve(MODEL)
    pool.drain("one")
    with pytest.raises(NoHealthyHost, match="drained"):
        pool.reserve(MODEL)
    assert pool.statuses()[0].draining
    assert pool.outage is None
    lease.release()
    pool.drain("one", draining=False)
    assert pool.reserve(MODEL) is not None
    await pool.stop()


async def test_a_host_that_refuses_the_key_is_misconfigured_even_where_only_the_lists_want_one(clock):
    class Locked(FakeBackend):
        async def models(self):
            raise HostRefused("one", 401, "unauthorized")

    pool = await started(Locked("one"), clock=clock)
    assert pool.statuses()[0].state is HostState.MISCONFIGURED
    assert "key" in pool.statuses()[0].error
    for _ in range(3):
        await pool._hosts[0].check()
    assert pool.statuses()[0].state is HostState.MISCONFIGURED, "it comes and goes"
    await pool.stop()


async def test_models_that_their_host_does_not_run_are_used_only_where_that_is_allowed(clock):
    far = replace(model_info("far:1b"), remote_host="https://ollama.com")
    pool = await started(FakeBackend("one", models=[far]), clock=clock)
    for name in ("far:1b", "anything:cloud", "gpt-oss:120b-cloud"):
        with pytest.raises(ModelNotLocal, match="LOUPE_REMOTE_MODELS"):
            await pool.resolve(name)
        with pytest.raises(ModelNotLocal):
            pool.reserve(name)
    await pool.stop()
    two = await started(
        FakeBackend("one", models=[far]), FakeBackend("two", models=[model_info("far:1b")]), clock=clock
    )
    assert two.reserve("far:1b").address.name == "two", "another host runs it itself"
    await two.stop()
    allowed = await started(FakeBackend("one", models=[far]), clock=clock, remote=True)
    assert allowed.reserve("far:1b") is not None
    await allowed.stop()


async def test_the_round_trip_is_smoothed(clock):
    backend = FakeBackend()
    host = watched(backend, clock)
    took = iter((0.1, 0.9))

    async def version():
        clock.advance(next(took))
        return "0.33.0", ""

    backend.version = version
    await host.check()
    assert host.round_trip == pytest.approx(0.1)
    await host.check()
    assert host.round_trip == pytest.approx(0.2)


async def test_a_host_that_stalls_over_its_lists_is_checked_all_the_same(clock):
    class Slow(FakeBackend):
        async def models(self):
            await asyncio.Event().wait()

    backend = Slow("one")
    pool = await started(backend, clock=clock)
    before = backend.checks
    pool.look_again()
    await settle()
    assert backend.checks > before
    await pool.stop()


async def test_hosts_come_and_go_while_the_pool_runs(clock):
    one, two = FakeBackend("one"), FakeBackend("two", models=[model_info("b:1")])
    pool = await started(one, clock=clock)
    status = await pool.add(two)
    assert (status.state, status.added) == (HostState.HEALTHY, True)
    await settle()
    assert pool.reserve("b:1").address.name == "two"
    await pool.remove("two")
    assert two.closed
    with pytest.raises(ModelNotFound):
        pool.reserve("b:1")
    await pool.stop()
