"""Disk work in threads: never left behind by whoever is cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from app.runtime.registry.threads import ended, in_thread

pytestmark = pytest.mark.anyio


async def test_the_result_and_the_error_come_back():
    assert await in_thread(int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "x")


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits_for_its_thread(fails):
    began, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        go_on.wait(10)
        done.set()
        if fails:
            raise OSError("too late to matter")

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # nor does asking twice help
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


async def test_waiting_for_the_end_swallows_no_cancelling_of_the_waiter():
    gate = asyncio.get_running_loop().create_future()
    waiter = asyncio.create_task(ended(gate))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.sleep(0)
    assert not waiter.done()
    gate.set_exception(RuntimeError("not the waiter's"))
    with pytest.raises(asyncio.CancelledError):
        await waiter
    gate.exception()
