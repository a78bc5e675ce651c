"""Single-flight: identical requests that run at the same time share one generation.

The shared work belongs to the service, not to the caller who happened to come first: every caller may leave, and
only when the last one has left is the work cancelled. Late joiners get the part that is there, then what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from app.core.errors import Cancelled, Draining, LoupeError, QueueTimeout, ReaderTooSlow
from app.core.generation import Chunk
from app.services.telemetry import Trace

BUFFER_LIMIT = 8 << 20
"""Bytes of one answer that are kept for those who come late or read slowly."""
_CHUNK_OVERHEAD = 200  # bytes: the objects themselves

Produce = Callable[[Trace], AsyncGenerator[Chunk, None]]
Keep = Callable[[tuple[Chunk, ...], Trace], Awaitable[None]]


class SharedWork:
    """One generation and everyone who waits for it. `chunks` are its pieces from number `dropped` on."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.followers = 0
        self.chunks: list[Chunk] = []
        self.dropped = 0
        self.done = False
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self._size = 0
        self._readers: list[asyncio.Future[None]] = []

    def add(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self._size += _size(chunk)
        self._tell()

    @property
    def overfull(self) -> bool:
        return self._size > BUFFER_LIMIT

    def trim(self) -> None:
        """Let go of the older half."""
        half = len(self.chunks) // 2
        self._size -= sum(map(_size, self.chunks[:half]))
        del self.chunks[:half]
        self.dropped += half

    def end(self, error: BaseException | None = None) -> None:
        self.done, self.error = True, error
        self._tell()

    async def news(self) -> None:
        """Wait for the next piece, or for the end."""
        future = asyncio.get_running_loop().create_future()
        self._readers.append(future)
        await future

    def _tell(self) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            if not reader.done():
                reader.set_result(None)


class SharedWorks:
    """The generations that can be joined, by cache key."""

    def __init__(self) -> None:
        self._works: dict[str, SharedWork] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, key: str) -> SharedWork | None:
        """A generation from whose beginning one can still read."""
        work = self._works.get(key)
        return None if work is None or work.dropped else work

    def start(self, key: str, trace: Trace, produce: Produce, keep: Keep) -> SharedWork:
        """Begin the work under `key`, from now on the one to join; what began there before runs on for its followers.

        `keep` gets the complete answer, while the key can still be joined, unless a later work has taken the key.
        """
        work = SharedWork(trace)
        self._works[key] = work
        work.task = self._spawn(self._run(key, work, produce, keep))
        return work

    async def follow(self, key: str, work: SharedWork, patience: float | None = None) -> AsyncGenerator[Chunk, None]:
        """All of it, from the first piece on; the last one who leaves early ends the work.

        A slow reader holds up neither the work nor the others; one that falls behind by more than is kept gets
        `ReaderTooSlow`. Who has waited for `patience` seconds while the work has no slot yet gets `QueueTimeout`.
        """
        work.followers += 1
        read = 0
        try:
            if patience is not None:
                await _slot(work, patience)
            while True:
                while read < work.dropped + len(work.chunks):
                    if read < work.dropped:
                        raise ReaderTooSlow(BUFFER_LIMIT)
                    read += 1
                    yield work.chunks[read - 1 - work.dropped]
                if work.done:
                    break
                await work.news()
            if work.error is not None:
                raise work.error
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
                    if work.overfull:
                        await asyncio.sleep(0)  # the readers' turn: one line may be as long as all that is kept
                        work.trim()
            work.end()
            if self._works.get(key) is work and not work.dropped:
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


async def _slot(work: SharedWork, patience: float) -> None:
    """Until the work has a slot, or has ended. What has begun is waited for, as the queue's own patience has it."""
    try:
        async with asyncio.timeout(patience):
            while not (work.chunks or work.done):
                await work.news()
    except TimeoutError:
        if work.trace.phase.name in ("new", "queued", "held", "paused"):
            raise QueueTimeout(patience) from None


def _size(chunk: Chunk) -> int:
    return len(chunk.line) + len(chunk.text) + len(chunk.thinking) + _CHUNK_OVERHEAD
