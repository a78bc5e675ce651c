"""Single-flight: identical requests that run at the same time share one generation.

The shared work belongs to the service, not to the caller who happened to come first: every caller may leave, and
only when the last one has left is the work cancelled. Late joiners get the part that is there, then what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from app.core.errors import Cancelled, Draining, LoupeError
from app.core.generation import Chunk
from app.services.telemetry import Trace

Produce = Callable[[Trace], AsyncGenerator[Chunk, None]]
Keep = Callable[[tuple[Chunk, ...], Trace], Awaitable[None]]


class SharedWork:
    """One generation and everyone who waits for it."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.followers = 0
        self.chunks: list[Chunk] = []
        self.done = False
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def add(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self._tell()

    def end(self, error: BaseException | None = None) -> None:
        self.done, self.error = True, error
        self._tell()

    async def follow(self) -> AsyncGenerator[Chunk, None]:
        """All of it, from the first piece on. A slow reader holds up neither the work nor the others."""
        read = 0
        while True:
            news = self._news
            while read < len(self.chunks):
                read += 1
                yield self.chunks[read - 1]
            if self.done:
                if self.error is not None:
                    raise self.error
                return
            if news is self._news:
                await news.wait()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class SharedWorks:
    """The generations that can be joined, by cache key."""

    def __init__(self) -> None:
        self._works: dict[str, SharedWork] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, key: str) -> SharedWork | None:
        return self._works.get(key)

    def start(self, key: str, trace: Trace, produce: Produce, keep: Keep) -> SharedWork:
        """Begin the work under `key`; `keep` gets the complete answer, while the key can still be joined."""
        work = SharedWork(trace)
        work.task = self._spawn(self._run(key, work, produce, keep))
        self._works[key] = work
        return work

    async def follow(self, key: str, work: SharedWork) -> AsyncGenerator[Chunk, None]:
        """Read along as one of the followers; the last one who leaves early ends the work."""
        work.followers += 1
        try:
            async for chunk in work.follow():
                yield chunk
        finally:
            work.followers -= 1
            if not work.followers and not work.done:
                self._drop(key, work)  # before the cancelling, so that nobody joins what is about to die
                if work.task is not None:
                    work.task.cancel()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, key: str, work: SharedWork, produce: Produce, keep: Keep) -> None:
        try:
            async with aclosing(produce(work.trace)) as chunks:
                async for chunk in chunks:
                    work.add(chunk)
            work.end()
            await keep(tuple(work.chunks), work.trace)
        except asyncio.CancelledError:
            work.end(Draining() if work.followers else Cancelled("client"))
            raise
        except LoupeError as error:
            work.end(error)
        except Exception as error:
            work.end(error)
            raise
        finally:
            self._drop(key, work)

    def _drop(self, key: str, work: SharedWork) -> None:
        if self._works.get(key) is work:
            del self._works[key]

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name="shared generation")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
