"""Which host takes a request: where its model is, where it fits, who finishes first, who knows the conversation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.core.hosts import HostWarning, LoadedModel
from app.services.host_choice import REMEMBERED, Conversations
from app.services.host_pool import HostPool
from app.services.host_room import Fit, HostRoom
from app.services.host_versions import version_warnings
from tests.fakes import MODEL, FakeBackend, FakeClock, loaded_model, model_info, settle

pytestmark = pytest.mark.anyio
OTHER = "other:1b"


async def pool_of(*hosts: FakeBackend) -> HostPool:
    pool = HostPool(hosts, FakeClock())
    await pool.start()
    await settle()
    return pool


def cold(name: str, slots: int = 4, loaded: tuple[str, ...] = ()) -> FakeBackend:
    host = FakeBackend(name, slots=slots, models=[model_info(), model_info(OTHER, "e" * 64)])
    host.loaded_list = [loaded_model(one) for one in loaded]
    return host


async def test_a_model_that_is_loaded_nowhere_goes_where_nothing_must_go():
    full, empty = cold("full", loaded=(OTHER,)), cold("empty")
    pool = await pool_of(full, empty)
    assert pool.reserve(MODEL).address.name == "empty"
    await pool.stop()


async def test_the_host_that_is_predicted_to_finish_first_takes_it_the_way_there_included():
    pool = await pool_of(cold("slow"), cold("quick"))
    seconds = {"slow": 9.0, "quick": 3.0}
    pool.predict = lambda host, model: seconds[host]
    assert pool.reserve(MODEL).address.name == "quick"
    pool._hosts[1].round_trip = 20.0
    assert pool.reserve(MODEL).address.name == "slow"
    await pool.stop()


async def test_a_host_that_was_never_measured_is_tried_as_if_it_were_like_the_others():
    pool = await pool_of(cold("known"), cold("new"))
    pool.predict = lambda host, model: {"known": 5.0}.get(host)
    assert [pool.reserve(MODEL).address.name for _ in range(4)] == ["known", "new", "known", "new"]
    await pool.stop()


async def test_loaded_wins_over_a_quicker_host_that_must_load():
    pool = await pool_of(cold("quick"), cold("warm", loaded=(MODEL,)))
    pool.predict = lambda host, model: {"quick": 1.0, "warm": 9.0}[host]
    assert pool.reserve(MODEL).address.name == "warm"
    await pool.stop()


async def test_a_conversation_goes_back_to_the_host_that_answered_it_but_only_among_equals():
    one, two = cold("one", loaded=(MODEL,)), cold("two", loaded=(MODEL,))
    pool = await pool_of(one, two)
    first, second = (pool.reserve(MODEL, prefix=prefix) for prefix in (7, 8))
    assert (first.address.name, second.address.name) == ("one", "two")
    for lease in (first, second):
        lease.succeeded()
        lease.release()
    again = pool.reserve(MODEL, prefix=8)
    assert again.address.name == "two"
    busier = pool.reserve(MODEL, prefix=8)
    assert busier.address.name == "one", "an emptier host is better than a known beginning"
    await pool.stop()


def test_a_thousand_conversations_are_remembered_and_the_oldest_go_first():
    known = Conversations()
    for prefix in range(1, REMEMBERED + 2):
        known.remember(MODEL, prefix, "one")
    known.remember(MODEL, 0, "one")
    assert [known.host(MODEL, prefix) for prefix in (0, 1, 2)] == ["", "", "one"]
    assert known.host(OTHER, 2) == ""


def loads(*names: str) -> dict[str, LoadedModel]:
    return {name: replace(loaded_model(name), size=100) for name in names}


def test_room_is_learned_from_what_was_loaded_together_and_what_had_to_go():
    room, before = HostRoom(), 0.0  # the loads of the fakes expire later than the epoch
    assert room.fit("a", 50) is Fit.FITS, "nothing is loaded"
    room.see(loads("a"), before)
    assert room.fit("a", 50) is Fit.LOADED
    assert room.fit("b", 50) is Fit.UNKNOWN
    room.see(loads("a", "b"), before)
    room.see(loads("a"), before)
    assert room.fit("b", 50) is Fit.FITS, "both were loaded at once"
    room.see(loads("a", "b"), before)
    room.see(loads("b", "c"), before)
    assert room.fit("a", 50) is Fit.EVICTS, "three were too much"
    room.see(loads("a", "b", "c"), before)
    room.see(loads("a", "b"), before)
    assert room.fit("c", 50) is Fit.FITS, "it was wrong, or memory came free"


def test_a_model_that_went_because_its_time_was_over_says_nothing_about_room():
    room, after = HostRoom(), 4e9
    room.see(loads("a"), after)
    room.see(loads("b"), after)
    assert room.fit("a", 50) is Fit.UNKNOWN


VERSIONS = [
    ("0.17.1", "", None), ("0.33.0", "", None), ("0.17.0", "", False), ("0.17.1-rc2", "", False), ("0.1.47", "", False),
    ("0.1.46", "", True), ("0.1.47-rc1", "", True), ("v0.1.9", "nginx", True), ("0.0.0", "", None), ("", "", None),
    ("main", "", None), ("0.1.0", "loupe-runtime/0.1.0 (llama.cpp)", None),
]  # fmt: skip


@pytest.mark.parametrize(("version", "server", "severe"), VERSIONS)
def test_versions_are_judged_by_their_numbers(version: str, server: str, severe: bool | None):
    found = version_warnings(version, server)
    assert [warning.severe for warning in found] == ([] if severe is None else [severe])
    assert all(isinstance(warning, HostWarning) and version in warning.text for warning in found)


def test_whether_models_fit_beside_one_another_is_known_once_it_was_seen() -> None:
    room = HostRoom()
    sizes = {"a": 50, "b": 50}
    assert room.beside({"a": 50}).fits is True
    assert room.beside(sizes).fits is None
    room.see(loads("a", "b"), 0.0)
    assert room.beside(sizes).fits is True and room.beside(sizes).more == 0
    assert room.beside({"a": 1, "b": 1, "d": 1}).fits is None, "three were never seen at once, however small"
    assert room.beside({**sizes, "c": 5000}).fits is None
    room.see(loads("c", "a"), 0.0)
    assert room.beside({**sizes, "c": 5000}).fits is False, "b had to go for it"
