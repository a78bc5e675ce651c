"""Long work at a host that goes on through a lost connection: waits, says so, and begins again where it can.

A pull or an upload runs for hours; that a host is restarted meanwhile, or a cable is pulled, must not end it. What the
host itself refuses is not tried again: it has had its own tries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from app.core.errors import HostError, HostProtocolError, HostRefused, HostTimeout, HostUnreachable
from app.services.jobs import JobHandle

log = structlog.get_logger(__name__)
WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds before each new try: a minute for a host to be started again
Pause = Callable[[float], Awaitable[None]]
T = TypeVar("T")
_COMING_BACK = frozenset({429, 502, 503, 504})


def lost(error: HostError) -> bool:
    """Whether the connection is what failed, or the host is only busy: trying again can help."""
    if isinstance(error, HostRefused):
        return error.status in _COMING_BACK
    return isinstance(error, HostUnreachable | HostProtocolError | HostTimeout)


async def persevere(
    attempt: Callable[[], Awaitable[T]], handle: JobHandle, *, moved: Callable[[], int] = lambda: 0,
    pause: Pause = asyncio.sleep,
    again: Callable[[HostError], bool] = lost,
) -> T:  # fmt: skip
    """What `attempt` gives as soon as it succeeds. Raises its error when the host refuses, or after six tries in a row
    in which `moved` (bytes, say) did not rise. `again` says for which errors there is another try."""
    tries, before = 0, moved()
    while True:
        try:
            return await attempt()
        except HostError as error:
            if moved() > before:
                tries, before = 0, moved()
            if not again(error) or tries == len(WAITS):
                raise
            wait = WAITS[tries]
            tries += 1
            log.warning("connection lost", host=error.host, error=error.message, wait=wait)
            handle.say(f"Connection lost, trying again ({tries} of {len(WAITS)}): {error.message}")
            handle.expect(None)
            await pause(wait)
