"""Many who ask a host for the same thing at once."""

from __future__ import annotations

import asyncio

import pytest

from app.services.asked_together import AskedTogether

pytestmark = pytest.mark.anyio


class Host:
    def __init__(self) -> None:
        self.times = 0
        self.may_answer = asyncio.Event()
        self.breaks = False

    async def ask(self) -> None:
        self.times += 1
        await self.may_answer.wait()
        if self.breaks:
            self.breaks = False
            raise ConnectionError


async def under_way(host: Host, together: AskedTogether) -> asyncio.Task[None]:
    """Somebody who is asking already."""
    first = asyncio.create_task(together())
    while not host.times:
        await asyncio.sleep(0)
    return first


async def test_those_who_come_while_it_is_asked_share_one_further_answer() -> None:
    host = Host()
    together = AskedTogether(host.ask)
    first = await under_way(host, together)
    later = [asyncio.create_task(together()) for _ in range(30)]
    await asyncio.sleep(0)
    host.may_answer.set()
    await asyncio.gather(first, *later)
    assert host.times == 2


async def test_who_comes_afterwards_asks_again() -> None:
    host = Host()
    host.may_answer.set()
    together = AskedTogether(host.ask)
    await together()
    await together()
    assert host.times == 2


async def test_a_question_that_fails_is_nobody_elses_answer() -> None:
    host = Host()
    together = AskedTogether(host.ask)
    first = await under_way(host, together)
    second, third = (asyncio.create_task(together()) for _ in range(2))
    await asyncio.sleep(0)
    host.breaks = True
    host.may_answer.set()
    told = await asyncio.gather(first, second, third, return_exceptions=True)
    assert [type(error) for error in told] == [ConnectionError, type(None), type(None)]
    assert host.times == 2


async def test_who_leaves_while_asking_leaves_the_asking_to_the_next() -> None:
    host = Host()
    together = AskedTogether(host.ask)
    first = await under_way(host, together)
    second = asyncio.create_task(together())
    await asyncio.sleep(0)
    first.cancel()
    host.may_answer.set()
    await second
    assert host.times == 2 and first.cancelled()


async def test_nobody_asks_for_what_is_known_by_then() -> None:
    host = Host()
    host.may_answer.set()
    together = AskedTogether(host.ask)
    await together(unless=lambda: True)
    assert host.times == 0
