"""Disk work off the event loop, which serves the streams of other requests meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread`, but when cancelled it first waits for the thread: the caller is about to close its files."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await ended(work)
        if not work.cancelled():
            work.exception()  # asked for, so that asyncio does not report it as forgotten: the cancelling wins
        raise


async def ended(work: asyncio.Future[T]) -> None:
    """Waits until `work` is over, whoever is cancelled meanwhile; never raises what `work` raised."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
