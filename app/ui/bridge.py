"""From a page's thread to the server's loop and back: one call, or one whole stream.

A stream runs as a single task on the loop and hands what it yields over a queue, in batches: a page wants at most
twenty redraws a second, not one per token. Closing the generator cancels the task, and with it the iterator (for a
generation that ends the attaching, not the answer).

While a page waits it keeps passing Streamlit's checkpoint, so that a click on it is heard at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import aclosing
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.core.errors import LoupeError
from app.ui import access

T = TypeVar("T")

CALL_SECONDS = 15.0  # nothing a page waits for by `call` may take longer; loads and answers go other ways
CHECK_SECONDS = 0.1  # how long a click may go unheard
FIRST_FRAME_SECONDS = 0.005
FRAME_SECONDS = 0.05  # 20 redraws a second: reference/performance has the lag and the traffic of other choices


class TookTooLong(LoupeError):
    """The service did not come back within the time a page can wait."""

    status = 504
    code = "took_too_long"
    retryable = True

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s")


def checkpoint() -> None:
    """Let Streamlit interrupt this run here, if the user did something meanwhile."""
    context = get_script_run_ctx()
    if context is not None:
        _ = "loupe" in context.session_state  # any look at the session state is one of Streamlit's yield points


def call(work: Coroutine[Any, Any, T], *, seconds: float = CALL_SECONDS, keep: bool = False) -> T:
    """Run a coroutine on the server's loop and wait for it. Its errors are raised here.

    An interrupted or overlong wait cancels the work; with `keep` it goes on without us (loading a model).
    """
    future = asyncio.run_coroutine_threadsafe(work, access.loop())
    try:
        return _wait(future, seconds)
    finally:
        if not keep:
            future.cancel()  # without effect on one that is done


def _wait(future: Future[T], seconds: float) -> T:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return future.result(timeout=min(CHECK_SECONDS, max(0.0, deadline - time.monotonic())))
        except FutureTimeout:
            if future.done():  # the work itself raised TimeoutError
                raise
            if time.monotonic() >= deadline:
                raise TookTooLong(seconds) from None
            checkpoint()


class _End:
    """Put last into the queue of a stream."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def iterate(
    source: AsyncIterator[T], *, frame: float = FRAME_SECONDS, first: float = FIRST_FRAME_SECONDS
) -> Iterator[list[T]]:
    """What the iterator yields, in batches of at least one, at most one batch a frame. Its errors are raised here.

    The frames grow from `first` to `frame` seconds: at the beginning a person waits.

    The first batch comes as soon as there is something.
    """
    arrived: SimpleQueue[T | _End] = SimpleQueue()

    async def pump() -> None:
        try:
            async with aclosing(cast(Any, source)) as items:
                async for item in items:
                    arrived.put(item)
        except BaseException as error:
            arrived.put(_End(error))
            if not isinstance(error, Exception):
                raise
        else:
            arrived.put(_End())

    future = asyncio.run_coroutine_threadsafe(pump(), access.loop())
    try:
        yield from _batches(arrived, frame, first)
    finally:
        future.cancel()


def _batches(arrived: SimpleQueue[T | _End], frame: float, first: float) -> Iterator[list[T]]:
    next_frame, frames = time.monotonic(), 0
    end: _End | None = None
    while end is None:
        batch: list[T] = []
        while end is None:
            now = time.monotonic()
            if batch and now >= next_frame:
                break
            try:
                item = arrived.get(timeout=min(CHECK_SECONDS, next_frame - now) if batch else CHECK_SECONDS)
            except Empty:
                checkpoint()
                continue
            if isinstance(item, _End):
                end = item
            else:
                batch.append(item)
        if batch:
            yield batch
            frames += 1
            next_frame = time.monotonic() + min(frame, first * frames)
    if isinstance(end.error, (asyncio.CancelledError, CancelledError)):
        return  # the loop is going down
    if end.error is not None:
        raise end.error
