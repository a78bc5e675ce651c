"""A load that is wanted, and the requests that wait for it: it belongs to none, and ends when the last one leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from app.runtime.options import Launch
from app.runtime.runners import Runner


class Load:
    """`launch` is resolved. `work` makes the runner and holds it once for each of `waiters`."""

    def __init__(self, key: str, launch: Launch, work: Callable[[Load], Coroutine[Any, Any, Runner]]) -> None:
        self.key, self.launch = key, launch
        self.waiters = 0
        self._abandoned = False
        self.task = asyncio.create_task(work(self))
        self.task.add_done_callback(_read_error)

    def serves(self, key: str, launch: Launch, trained: int) -> bool:
        """Whether a further request can wait for it."""
        there = not (self._abandoned or self.task.done())
        return there and self.key == key and launch.served_by(self.launch, trained)

    async def wait(self) -> Runner:
        """The runner, held once for the caller; a caller that leaves gives its hold, or the load, back."""
        self.waiters += 1
        try:
            return await asyncio.shield(self.task)
        except asyncio.CancelledError:
            if self.task.done() and not self.task.cancelled() and self.task.exception() is None:
                self.task.result().release()
            elif self.waiters == 1:
                self._abandoned = True
                self.task.cancel()
            raise
        finally:
            self.waiters -= 1


def _read_error(task: asyncio.Task[Runner]) -> None:
    """A load whose waiters have all left has nobody else to read its error."""
    if not task.cancelled():
        task.exception()
