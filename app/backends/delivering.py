"""One message to a receiver over HTTP: whether it was taken, and whether it is worth another try. Never raises."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import aiohttp

from app.backends.connecting import session
from app.backends.retry_after import retry_after
from app.core.exported_spans import Delivery

SECONDS = 10.0  # for one request, from the connection to the end of the answer
WHY_LIMIT = 200  # characters of a reason


class Poster:
    """`what` it is, as reasons call it; `later` are the statuses after which another try is worth while. `public`: no
    private address is reached. Used in one event loop; no redirect is followed, no proxy asked."""

    def __init__(self, what: str, later: Collection[int], *, public: bool = False) -> None:
        self._what, self._later, self._public = what, later, public
        self._client: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[Delivery, int]:
        """What became of it, and the status it answered (0 where it did not)."""
        if self._client is None:
            self._client = session({}, SECONDS, public=self._public)
        try:
            async with asyncio.timeout(SECONDS):
                async with self._client.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                    await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            return Delivery(taken=False, again=True, why=f"{type(error).__name__}: {error}"[:WHY_LIMIT]), 0
        except TimeoutError:
            return Delivery(taken=False, again=True, why=f"no answer within {SECONDS:g} s"), 0
        status = answer.status
        if 200 <= status < 300:
            return Delivery(taken=True), status
        again = status in self._later
        return Delivery(False, again, retry_after(answer.headers), f"{self._what} answered {status}"), status

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
