"""One batch on its way: as many prompts at once as hosts have slots, each kept as soon as it is answered.

The queue's batch class keeps batches behind people, nine turns to one. What runs already is no turn, so a long answer
of a batch that somebody waits behind is cut off and asked again later; after `CUTS` times it is let end, so that a busy
day does not starve the batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import structlog

from app.core.errors import (
    Draining,
    GenerationFailed,
    HostError,
    LoupeError,
    ModelKeepsCrashing,
    ModelLoadFailed,
    NoHealthyHost,
    QueueFull,
    QueueTimeout,
)
from app.services.batches.asking import Way, ask, caller_of
from app.services.batches.store import BatchStore
from app.services.batches.values import Batch, Outcome, Prompt
from app.services.jobs import JobHandle
from app.services.key_errors import KeyLimitReached
from app.services.perseverance import lost

log = structlog.get_logger(__name__)
MOST_AT_ONCE = 16  # as many as one flow may have waiting
TRIES = 3
WAITS = (1.0, 5.0)  # seconds before the second and the third try
LONGEST_WAIT = 30.0  # seconds between two looks whether somebody takes work again
LOOK_SECONDS = 0.25
BEHIND_SECONDS = 2.0  # how long a person waits behind a batch's answer before that is cut off
CUTS = 2
RECENT = 50  # answers that the time left is taken from
PEOPLE_FIRST = "Somebody is asking: people go first"

Sleep = Callable[[float], Awaitable[None]]


class Run:
    """`noted` is told each outcome that was kept, and says how the batch stands with it."""

    def __init__(
        self, batch: Batch, store: BatchStore, way: Way, handle: JobHandle, noted: Callable[[Outcome], Batch],
        now: Callable[[], float], sleep: Sleep = asyncio.sleep,
    ) -> None:  # fmt: skip
        self._batch, self._store, self._way, self._handle, self._noted = batch, store, way, handle, noted
        self._now, self._sleep = now, sleep
        self._ends: deque[float] = deque(maxlen=RECENT)
        self._done = 0

    async def go(self) -> None:
        """Until every prompt is answered or failed. Raises `StoreError`."""
        todo = deque(await asyncio.to_thread(self._store.todo, self._batch.id))
        self._tell(self._batch)
        asked: set[asyncio.Task[None]] = set()
        try:
            while todo or asked:
                if self._handle.paused:
                    await self._handle.unpaused()
                    self._ends.clear()
                while todo and len(asked) < self._room():
                    asked.add(asyncio.create_task(self._one(todo.popleft()), name=f"batch {self._batch.id}"))
                ended, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def _room(self) -> int:
        return max(1, min(MOST_AT_ONCE, sum(seats.slots for seats in self._way.pool.seats())))

    async def _one(self, seq: int) -> None:
        prompt = await asyncio.to_thread(self._store.prompt, self._batch.id, seq)
        if prompt is None:
            return
        outcome = await self._outcome(prompt)
        if await asyncio.to_thread(self._store.finish, self._batch.id, seq, outcome):
            self._batch = self._noted(outcome)
            self._done += 1
            self._ends.append(self._now())
            self._tell(self._batch)

    async def _outcome(self, prompt: Prompt) -> Outcome:
        tries = cuts = 0
        while True:
            await self._handle.unpaused()
            try:
                outcome = await self._asked(prompt, may_cut=cuts < CUTS)
            except LoupeError as error:
                if (wait := _waits_for(error)) is not None:
                    self._handle.say(_why(error), waiting=True)
                    await self._sleep(wait)
                    continue
                tries += 1
                if not _may_pass(error) or tries == TRIES:
                    return _failure(error, tries)
                await self._sleep(WAITS[tries - 1])
                continue
            if outcome is not None:
                return replace(outcome, tries=tries + 1)
            cuts += 1
            self._handle.say(PEOPLE_FIRST, waiting=True)

    async def _asked(self, prompt: Prompt, *, may_cut: bool) -> Outcome | None:
        """None where it was cut off for somebody."""
        caller = caller_of(self._way, self._batch.id, self._batch.owner)
        asking: Coroutine[Any, Any, Outcome] = ask(self._way, prompt, caller)
        work, behind = asyncio.ensure_future(asking), 0.0
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=LOOK_SECONDS)
                behind = behind + LOOK_SECONDS if self._in_the_way(caller.trace.host) else 0.0
                if may_cut and behind >= BEHIND_SECONDS and not work.done():
                    return None
            return work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def _in_the_way(self, host: str) -> bool:
        """Whether somebody waits for a slot of the host on which this is being answered."""
        return bool(host) and any(self._way.pool.offers(model, host) for model in self._way.queue.awaited(host))

    def _tell(self, batch: Batch) -> None:
        over = batch.answered + batch.failed
        failed = f", {batch.failed} failed" if batch.failed else ""
        self._handle.progress(
            over, batch.total, f"{batch.answered} of {batch.total} answered{failed}", moved=self._done,
            left=self._left(batch.left),
        )  # fmt: skip

    def _left(self, prompts: int) -> float | None:
        """Seconds, by the pace of the last answers."""
        if len(self._ends) < 2 or self._ends[-1] <= self._ends[0]:
            return None
        return prompts * (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)


def _waits_for(error: LoupeError) -> float | None:
    """Seconds after which to ask again, where nobody could take it: that says nothing against the prompt."""
    if isinstance(error, QueueFull | QueueTimeout | NoHealthyHost | Draining | KeyLimitReached):
        return min(LONGEST_WAIT, max(1.0, error.retry_after or 5.0))
    return None


def _may_pass(error: LoupeError) -> bool:
    """Whether another try may do better."""
    if isinstance(error, GenerationFailed | ModelLoadFailed | ModelKeepsCrashing):
        return True
    return error.retryable or (isinstance(error, HostError) and lost(error))


def _failure(error: LoupeError, tries: int) -> Outcome:
    return Outcome(status=error.status, error=error.message or error.code, tries=tries)


def _why(error: LoupeError) -> str:
    if isinstance(error, QueueFull | QueueTimeout):
        return "The queue is full: waiting for a place"
    return f"Waiting: {error.message}"
