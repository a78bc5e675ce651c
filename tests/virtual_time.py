"""An event loop whose time passes only while everything waits: an hour of sleeping takes as long as its work.

Nothing that is measured in it depends on how fast a machine is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """The clock jumps to the next timer whenever nothing is ready. Also the `Clock` of what runs in it."""

    def __init__(self) -> None:
        super().__init__()
        self._moment = 1000.0

    def time(self) -> float:
        return self._moment

    monotonic = time

    def now(self) -> float:
        return 1_700_000_000.0 + self._moment

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._moment = max(self._moment, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


async def pause(seconds: float) -> None:
    """Takes no time but that of the loop."""
    virtual_clock()
    await asyncio.sleep(seconds)


def virtual_clock() -> VirtualLoop:
    """The clock of the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
