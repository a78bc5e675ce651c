"""Asking a host for the same thing many times at once: whoever comes while it is being asked shares the next answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class AskedTogether:
    """What is asked for after somebody came is news to them; what was under way already may be older than they are."""

    def __init__(self, ask: Callable[[], Awaitable[None]]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._begun = self._answered = 0

    async def __call__(self, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Ask, or wait for one who began to ask after this call; not at all if, once it is our turn, `unless` holds.

        Raises what asking raises; then the next one asks for himself.
        """
        came = self._begun
        async with self._asking:
            if self._answered > came or unless():
                return
            self._begun = number = self._begun + 1
            await self._ask()
            self._answered = number
