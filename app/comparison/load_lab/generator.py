"""Sends questions at their own moments, whatever becomes of the earlier ones, and takes every time from those moments.

A generator that waits for answers stops asking while a host hangs, and then tells of few slow answers where a stream of
people would have met many ("coordinated omission"). This one never waits for an answer. Where it cannot keep up itself,
what it was late counts as waiting too, and is told apart (`Outcome.late`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from app.comparison.load_lab.gaps import Gaps
from app.comparison.load_lab.questions import Shot
from app.core.errors import Cancelled, LoupeError, QueueFull
from app.core.generation import Chunk, Usage
from app.core.ports import Clock

log = structlog.get_logger(__name__)
MOST_AT_ONCE = 2000
LEAD_SECONDS = 0.05  # so that the first one is not late already
LONGEST_NAP = 0.5  # seconds between two looks whether to stop
BURST = 8
DRAIN_NAP = 0.05  # and whether the last one is answered

OK, REFUSED, FAILED, UNFINISHED, UNSENT = "ok", "refused", "failed", "unfinished", "unsent"


@dataclass(slots=True)
class Outcome:
    """What became of one request. Times in seconds since the start of the run; `due` is when it was meant to be sent,
    `sent` when it was, `first` its first token, `end` its last record, or when it was given up. None: not reached.

    `status` is ok, refused (the queue was full), failed, unfinished (given up at the end) or unsent (too many at once).
    """

    index: int
    model: str
    due: float
    prompt: int
    output: int
    status: str = UNFINISHED
    sent: float | None = None
    first: float | None = None
    end: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    queue: float = 0.0  # seconds in Loupe's queue
    error: str = ""

    @property
    def late(self) -> float | None:
        return None if self.sent is None else self.sent - self.due

    @property
    def ttft(self) -> float | None:
        return None if self.first is None else self.first - self.due

    @property
    def e2e(self) -> float | None:
        return None if self.end is None or self.status != OK else self.end - self.due

    @property
    def tpot(self) -> float | None:
        """Seconds for each token after the first."""
        if self.first is None or self.end is None or self.output_tokens < 2 or self.status != OK:
            return None
        return (self.end - self.first) / (self.output_tokens - 1)


class Probe:
    """Notes one answer while it comes."""

    __slots__ = ("_began", "_gaps", "_last", "_now", "_outcome")

    def __init__(self, outcome: Outcome, gaps: Gaps, now: Callable[[], float], began: float) -> None:
        self._outcome, self._gaps, self._now, self._began = outcome, gaps, now, began
        self._last: float | None = None

    def saw(self, chunk: Chunk) -> None:
        if chunk.text or chunk.thinking:
            moment = self._now()
            if self._last is None:
                self._outcome.first = moment - self._began
            else:
                self._gaps.add(moment - self._last)
            self._last = moment
        if chunk.usage is not None:
            self.counted(chunk.usage)

    def counted(self, usage: Usage) -> None:
        self._outcome.prompt_tokens, self._outcome.output_tokens = usage.prompt_tokens, usage.output_tokens

    def queued(self, seconds: float) -> None:
        self._outcome.queue = seconds


Send = Callable[[Shot, Probe], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]


class Generator:
    """One run. `outcomes` may be read while it goes on: those that are due so far, in their order."""

    def __init__(
        self, shots: Sequence[Shot], send: Send, clock: Clock, *, most_at_once: int = MOST_AT_ONCE,
        sleep: Sleep = asyncio.sleep, stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._shots, self._send, self._now, self._sleep, self._stop = shots, send, clock.monotonic, sleep, stop
        self._most_at_once = most_at_once
        self._tasks: set[asyncio.Task[None]] = set()
        self._began = 0.0
        self.outcomes: list[Outcome] = []
        self.gaps = Gaps()
        self.peak = 0
        self.seconds = 0.0  # for which questions came
        self.stopped = False

    @property
    def at_once(self) -> int:
        return len(self._tasks)

    async def run(self, seconds: float, drain: float) -> None:
        """For at least so many seconds, then until the last answer, or `drain` seconds more."""
        self._began = self._now() + LEAD_SECONDS
        try:
            for shot in self._shots:
                if not await self._until(shot.due):
                    break
                self._begin(shot)
                if shot.index % BURST == 0:
                    await asyncio.sleep(0)  # many that are due at once hold up nobody else on this loop
            await self._until(seconds)
            self.seconds = self._elapsed
            await self._drained(drain)
        finally:
            self.seconds = self.seconds or self._elapsed
            await self._give_up()

    @property
    def _elapsed(self) -> float:
        return max(0.0, self._now() - self._began)

    async def _until(self, due: float) -> bool:
        """Whether the moment has come; False where the run is to stop before."""
        while (left := self._began + due - self._now()) > 0:
            if self._stopping():
                return False
            await self._sleep(min(left, LONGEST_NAP))
        return not self._stopping()

    def _stopping(self) -> bool:
        self.stopped = self.stopped or self._stop()
        return self.stopped

    def _begin(self, shot: Shot) -> None:
        outcome = Outcome(shot.index, shot.model, shot.due, shot.prompt, shot.output)
        self.outcomes.append(outcome)
        if len(self._tasks) >= self._most_at_once:
            outcome.status = UNSENT
            return
        task = asyncio.create_task(self._ask(shot, outcome))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.peak = max(self.peak, len(self._tasks))

    async def _ask(self, shot: Shot, outcome: Outcome) -> None:
        outcome.sent = self._now() - self._began
        probe = Probe(outcome, self.gaps, self._now, self._began)
        try:
            await self._send(shot, probe)
            outcome.status = OK
        except asyncio.CancelledError:
            outcome.status = UNFINISHED
            raise
        except QueueFull as error:
            outcome.status, outcome.error = REFUSED, error.message
        except Cancelled as error:
            outcome.status, outcome.error = UNFINISHED, error.message
        except LoupeError as error:
            outcome.status, outcome.error = FAILED, error.message
        except Exception:
            log.exception("a request of a load run broke", model=shot.model)
            outcome.status, outcome.error = FAILED, "something broke; the log has the details"
        finally:
            outcome.end = self._now() - self._began

    async def _drained(self, drain: float) -> None:
        until = self._now() + drain
        while self._tasks and not self._stopping() and (left := until - self._now()) > 0:
            await self._sleep(min(left, DRAIN_NAP))

    async def _give_up(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
