"""Whether loaded workers are still well: one that has died, or hangs, is taken out of service and its end is noted.

A worker's server has threads beside those that compute, so that it can say that it is well in the middle of an answer.
While requests hold it, it is asked every few seconds; idle, only when it has not been seen well for a while and the
next request is about to be given to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from app.core.ports import Clock
from app.runtime.crash_record import CrashRecord
from app.runtime.runners import Runner

_log = logging.getLogger(__name__)
_EVERY = 5.0  # seconds between two questions, and for an answer
_IDLE_SECONDS = 10.0  # as long as Ollama waits for its runner
_LATELY = 10.0  # seconds in which a worker that was well need not be asked again
_LAST_WORDS_SECONDS = 2.0


class Caretaker:
    """`retire` takes a runner out of service and ends its worker. `hang_s`: so long may a worker not answer."""

    def __init__(self, hang_s: float, clock: Clock, crashes: CrashRecord, retire: Callable[[Runner], None]) -> None:
        self._hang_s, self._clock, self._crashes, self._retire = hang_s, clock, crashes, retire

    async def watch(self, runner: Runner) -> None:
        """Until the end of the worker, of whatever kind."""
        every = min(_EVERY, self._hang_s)
        unwell_since: float | None = None
        while not await _within(runner.worker.died.wait(), every):
            asked = self._clock.monotonic()
            if not runner.refs or runner.retired or await self._is_well(runner, every):
                unwell_since = None
                continue
            unwell_since = asked if unwell_since is None else unwell_since
            silent = self._clock.monotonic() - unwell_since
            if silent >= self._hang_s:
                self.give_up(runner, f"it did not answer for {silent:.0f} s")
        await self.count_if_dead(runner)

    async def count_if_dead(self, runner: Runner) -> None:
        """A worker that died by itself is given up, with what it said last. Whoever is about to load its model again
        comes here first: the new worker takes the place of the old, whose crash would then never be counted."""
        if not (runner.worker.alive or runner.retired):
            await _within(runner.worker.ended(), _LAST_WORDS_SECONDS)
            self.give_up(runner)

    def needs_check(self, runner: Runner) -> bool:
        """Of a runner that nobody holds: whether it was not seen well for a while."""
        return not runner.refs and self._clock.monotonic() - runner.last_seen_well >= _LATELY

    async def check(self, runner: Runner) -> bool:
        """Whether an idle worker is well; one that is not is given up."""
        if await self._is_well(runner, _IDLE_SECONDS):
            return True
        if runner.worker.alive:
            self.give_up(runner, f"it did not answer for {_IDLE_SECONDS:g} s")
        return False

    def give_up(self, runner: Runner, hung: str = "") -> None:
        """Out of service: a worker that died by itself, or one that has `hung`, which is ended. Once for each."""
        if runner.retired:
            return
        if hung:
            runner.worker.condemn(hung)
        why = runner.worker.why_ended()
        _log.warning("the worker of %s ended: %s", runner.model.name.shortest, why)
        self._crashes.note(runner.key, why)
        self._retire(runner)

    def dismiss(self, runner: Runner, why: str) -> None:
        """No further request for it: its worker is ended when the last that holds it is through."""
        if runner.dismissed or runner.retired:
            return
        _log.warning("the worker of %s is replaced: %s", runner.model.name.shortest, why)
        self._crashes.note(runner.key, why)
        runner.dismissed = True
        runner.expire_soon()

    async def _is_well(self, runner: Runner, seconds: float) -> bool:
        if await runner.worker.answers(seconds):
            runner.last_seen_well = self._clock.monotonic()
            return True
        return False


async def _within(wait: Coroutine[Any, Any, Any], seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(wait, seconds)
        return True
    return False
