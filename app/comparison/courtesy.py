"""People go first where something is measured: work is cut off as soon as somebody asks, and begun anew in the calm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

LOOK_SECONDS = 0.05  # how often it is looked whether somebody waits
CALM_SECONDS = 3.0  # after an answer to somebody: the next question of a chat often follows at once
Sleep = Callable[[float], Awaitable[None]]
T = TypeVar("T")


async def opened() -> None:
    """The gate that lets everything through."""


class Courtesy:
    """`pressing` says whether somebody waits for the host or is being answered there. `gate` is awaited before each
    piece of work: what is paused stands there. `told(True)` says that people go first now, `told(False)` that it goes
    on; `idle` counts the seconds spent at either."""

    def __init__(
        self, pressing: Callable[[], bool], gate: Callable[[], Awaitable[None]] = opened,
        told: Callable[[bool], None] | None = None, sleep: Sleep = asyncio.sleep,
    ) -> None:  # fmt: skip
        self._pressing, self._gate, self._told, self._sleep = pressing, gate, told, sleep
        self.idle = 0.0

    async def gate(self) -> None:
        await self._gate()

    async def turn(self) -> None:
        """Returns when nothing is paused and nobody has gone first for a while."""
        await self._gate()
        if not self._pressing():
            return
        if self._told:
            self._told(True)
        calm = 0.0
        while calm < CALM_SECONDS:
            await self.waited(LOOK_SECONDS)
            calm = 0.0 if self._pressing() else calm + LOOK_SECONDS
        await self._gate()
        if self._told:
            self._told(False)

    async def waited(self, seconds: float) -> None:
        await self._sleep(seconds)
        self.idle += seconds

    async def unless_pressed(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` gives; None where somebody came meanwhile, for whom it was cut off."""
        task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(self._pressed())
        try:
            await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for one in (task, watcher):
                one.cancel()
            await asyncio.gather(task, watcher, return_exceptions=True)

    async def _pressed(self) -> None:
        while not self._pressing():
            await self._sleep(LOOK_SECONDS)
