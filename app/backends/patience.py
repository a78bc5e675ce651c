"""How long a host may keep us waiting, whatever it does meanwhile: a byte now and then is no answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import aiohttp

from app.core.errors import HostTimeout


class Patience:
    """Counts from its making: `first` seconds until the answer begins, `gap` seconds from each `heard` to the next."""

    def __init__(self, host: str, first: float, gap: float) -> None:
        self.host, self._gap = host, gap
        self._seconds, self._phase = first, "first token"
        self._due = asyncio.get_running_loop().time() + first

    def heard(self) -> None:
        """Something whole has come and was dealt with: the time of a slow reader is not the host's."""
        self._seconds, self._phase = self._gap, "stall"
        self._due = asyncio.get_running_loop().time() + self._gap

    async def chunks(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises `HostTimeout` where it is time for `heard` and nobody called it."""
        while True:
            try:
                async with asyncio.timeout_at(self._due):
                    piece = await response.content.readany()
            except TimeoutError as error:
                raise HostTimeout(self.host, self._phase, self._seconds) from error
            if not piece:
                return
            yield piece
