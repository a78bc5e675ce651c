"""Requests that are for one host and no other: measurements of that host."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from app.core.errors import HostUnreachable, LoupeError
from app.core.generation import Priority
from app.services.chat import Caller
from tests.fakes import FakeBackend, answer, chat, settle
from tests.unit.services.test_chat import Rig, end, rig_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def two(tmp_path):
    rig = await rig_of(tmp_path, FakeBackend("one"), FakeBackend("two"))
    yield rig
    await end(rig)


def pinned(rig: Rig, host: str, **more: object) -> Caller:
    return rig.caller("compare", host=host, priority=Priority.BATCH, **more)


async def test_every_request_goes_to_the_host_it_is_for_also_while_the_other_one_is_free(two):
    for _ in range(3):
        await two.read(chat(), pinned(two, "two"))
    assert [len(host.requests) for host in two.hosts] == [0, 3]


async def test_it_waits_for_its_host_and_others_go_on(two):
    release = asyncio.Event()
    two.hosts[1].enqueue(release, *answer("first"))
    first = two.ask(chat(), pinned(two, "two"))
    await settle()
    waiting = two.ask(chat(), pinned(two, "two"))
    await settle()
    assert await two.read(chat(), two.caller("somebody")) == "Paris."
    assert not waiting.done() and two.queue.waiting == 1
    release.set()
    assert (await first, await waiting) == ("first", "Paris.")
    assert len(two.hosts[0].requests) == 1


async def test_a_host_that_fails_it_is_not_replaced_by_another(two):
    two.hosts[1].enqueue(HostUnreachable("two", "refused"))
    with pytest.raises(LoupeError):
        await two.read(chat(), pinned(two, "two"))
    assert not two.hosts[0].requests


async def test_an_unload_goes_to_its_host(two):
    request = chat(model="smollm2:135m-instruct-q8_0", messages=[], keep_alive=0)
    for host in two.hosts:
        host.enqueue(*answer())
    async with aclosing(two.chat.ask(request, pinned(two, "two"))) as chunks:
        async for _ in chunks:
            continue
    assert [len(host.requests) for host in two.hosts] == [0, 1]


async def test_the_queue_tells_who_presses_and_what_a_host_was_given(two):
    release = asyncio.Event()
    two.hosts[0].enqueue(release, *answer("long"))
    before = two.queue.activity("one")
    task = two.ask(chat(), two.caller("page", host="one"))
    await settle()
    assert two.queue.activity("one") == (before[0] + 1, before[1] + 1)
    assert two.queue.pressing("one", "compare") and not two.queue.pressing("two", "compare")
    assert not two.queue.pressing("one", "page")
    release.set()
    await task
    assert not two.queue.pressing("one", "compare")
