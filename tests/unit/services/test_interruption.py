"""Ending what a task awaits from outside."""

from __future__ import annotations

import asyncio

import pytest

from app.services.interruption import Interrupted, Interruption

pytestmark = pytest.mark.anyio


async def _waiting(interruption: Interruption, began: asyncio.Event) -> str:
    try:
        with interruption:
            began.set()
            await asyncio.Event().wait()
    except Interrupted:
        await asyncio.sleep(0)  # the task is whole again: what it awaits next is not cancelled
        return "interrupted"
    return "ended"


async def test_what_is_awaited_ends_and_the_task_goes_on():
    interruption, began = Interruption(), asyncio.Event()
    task = asyncio.create_task(_waiting(interruption, began))
    await began.wait()
    assert interruption.fire()
    assert interruption.fire(), "twice is once"
    assert await task == "interrupted"
    assert task.cancelling() == 0
    assert not interruption.fire(), "nothing is awaited any more"


async def test_a_task_that_is_cancelled_too_is_cancelled():
    interruption, began = Interruption(), asyncio.Event()
    task = asyncio.create_task(_waiting(interruption, began))
    await began.wait()
    interruption.fire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_inner_one_does_not_take_the_firing_of_the_outer():
    outer, inner, began = Interruption(), Interruption(), asyncio.Event()

    async def nested() -> str:
        try:
            with outer:
                return await _waiting(inner, began)
        except Interrupted:
            return "outer"

    task = asyncio.create_task(nested())
    await began.wait()
    outer.fire()
    assert await task == "outer"
