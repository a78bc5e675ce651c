"""The bridge between a page's thread and the server's loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError

import pytest

from app.core.errors import QueueFull
from app.ui import access, bridge


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.AbstractEventLoop]:
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(access, "loop", lambda: running)
    yield running
    running.call_soon_threadsafe(running.stop)
    thread.join(5)
    running.close()


class Source:
    """Yields numbers until it is closed, and says when that was."""

    def __init__(self, count: int | None = None, error: Exception | None = None) -> None:
        self.count, self.error = count, error
        self.closed = threading.Event()

    async def read(self) -> AsyncIterator[int]:
        number = 0
        try:
            while self.count is None or number < self.count:
                yield number
                number += 1
                await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()


def test_a_call_gives_the_result_or_raises_the_error(loop: asyncio.AbstractEventLoop) -> None:
    async def work(fail: bool) -> str:
        if fail:
            raise QueueFull(1, 1)
        return threading.current_thread().name

    assert bridge.call(work(False)) != threading.current_thread().name
    with pytest.raises(QueueFull):
        bridge.call(work(True))


def test_a_call_that_takes_too_long_is_cancelled(loop: asyncio.AbstractEventLoop) -> None:
    cancelled = threading.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(bridge.TookTooLong):
        bridge.call(work(), seconds=0.05)
    assert cancelled.wait(5)


def test_work_that_is_kept_goes_on_after_the_page_left(loop: asyncio.AbstractEventLoop) -> None:
    finished = threading.Event()
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()
        finished.set()

    with pytest.raises(bridge.TookTooLong):
        bridge.call(work(), seconds=0.05, keep=True)
    loop.call_soon_threadsafe(gate.set)
    assert finished.wait(5)


def test_a_timeout_inside_the_work_is_its_own_error(loop: asyncio.AbstractEventLoop) -> None:
    async def work() -> None:
        raise TimeoutError("theirs")

    with pytest.raises(TimeoutError, match="theirs"):
        bridge.call(work())


def test_a_stream_comes_whole_and_in_order(loop: asyncio.AbstractEventLoop) -> None:
    batches = list(bridge.iterate(Source(500).read(), frame=0.001))
    assert [item for batch in batches for item in batch] == list(range(500))
    assert all(batches)


def test_a_stream_is_drawn_at_the_frame_rate_and_not_per_token(loop: asyncio.AbstractEventLoop) -> None:
    batches = list(bridge.iterate(Source(2000).read(), frame=10.0, first=10.0))
    assert len(batches) <= 3


def test_the_first_frames_are_shorter_than_the_others(loop: asyncio.AbstractEventLoop) -> None:
    """With frames that grow to an hour, only short first ones let the second piece through before the end."""
    seen = [asyncio.Event(), asyncio.Event()]

    async def spoken() -> AsyncIterator[int]:
        for number in range(3):
            yield number
            if number < len(seen):
                await seen[number].wait()

    stream = bridge.iterate(spoken(), frame=3600.0, first=0.001)
    for number in (0, 1):
        assert next(stream) == [number]
        loop.call_soon_threadsafe(seen[number].set)
    assert list(stream) == [[2]]


def test_an_error_of_a_stream_is_raised_after_what_came_before(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[int] = []
    with pytest.raises(QueueFull):
        for batch in bridge.iterate(Source(3, QueueFull(1, 1)).read()):
            seen += batch
    assert seen == [0, 1, 2]


def test_closing_cancels_the_stream_on_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    source = Source()
    stream = bridge.iterate(source.read(), frame=0.001)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator
    assert source.closed.wait(5)


def test_a_cancelled_call_does_not_pass_for_a_result(loop: asyncio.AbstractEventLoop) -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(CancelledError):
        bridge.call(work())
