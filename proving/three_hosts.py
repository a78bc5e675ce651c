"""Three hosts under load, of which one is killed and another one stalls: how each request ended, and what was wrong.

The hosts are named one, two and three: the first is killed (kill -9), the second one stopped (SIGSTOP).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from proving.stand import Loupe, asking, chat, until

NAMES = KILLED, STALLED, KEPT = "one", "two", "three"
ERROR_SECONDS = 2.0
BACK_SECONDS = 20.0


class Victim(Protocol):
    @property
    def url(self) -> str: ...

    async def kill(self) -> None: ...

    def stop(self) -> None: ...

    def resume(self) -> None: ...


@dataclass(slots=True)
class Ending:
    """How one request ended. `host` answered it; times by the monotonic clock."""

    status: int = 0
    host: str = ""
    lines: list[bytes] = field(default_factory=list)
    broken: bool = False
    ended: float = 0.0

    @property
    def last(self) -> dict[str, Any]:
        return json.loads(self.lines[-1]) if self.lines else {}

    @property
    def complete(self) -> bool:
        return self.status == 200 and not self.broken and self.last.get("done") is True

    @property
    def begun(self) -> bool:
        return self.status == 200


@dataclass(slots=True)
class Trial:
    """`stall` is the setting LOUPE_STALL_SECONDS of `product`; `at_once` requests are always under way. `unbegun`: the
    killed host is to have a request that has not begun as well, so that its failover is tried for certain."""

    product: Loupe
    hosts: Sequence[Victim]
    requests: int
    at_once: int
    stall: float
    unbegun: bool = False
    few: int = 3  # pieces of an answer that has not come far: about half of what it will have
    body: Callable[[int], dict[str, Any]] = lambda number: chat(f"question {number}")
    killed: float = 0.0
    stopped: float = 0.0
    endings: list[Ending] = field(default_factory=list)

    async def run(self) -> None:
        """Both faults come when answers have just begun on their hosts, the second one right after the first."""
        todo = iter(range(self.requests))
        workers = [asyncio.create_task(self._work(todo)) for _ in range(self.at_once)]
        victim, sleeper, _ = self.hosts
        try:
            await until(lambda: len(self.endings) >= self.requests // 6 and self._ripe(KILLED), 300, "the kill")
            self.killed = time.monotonic()
            await victim.kill()
            await until(lambda: self._just_begun(STALLED), 60, "an answer of the second host")
            self.stopped = time.monotonic()
            sleeper.stop()
            await asyncio.gather(*workers)
        finally:
            sleeper.resume()
            for worker in workers:
                worker.cancel()

    def _ripe(self, host: str) -> bool:
        return self._just_begun(host) and (not self.unbegun or 0 in self._pieces(host))

    def _just_begun(self, host: str) -> bool:
        """Whether an answer is under way there, far from its end."""
        return any(0 < count <= self.few for count in self._pieces(host))

    def _pieces(self, host: str) -> list[int]:
        """How many pieces of each answer have come."""
        return [row.tokens for row in self.product.services.queue.snapshot().running if row.host == host]

    async def back(self) -> float:
        """Seconds until the stalled host is used again, after it was resumed."""
        pool = self.product.services.pool
        return await until(lambda: STALLED in {seat.name for seat in pool.seats()}, BACK_SECONDS, "the stalled host")

    def wrong(self) -> list[str]:
        """What no request may meet."""
        return [told for told in map(self.wrong_with, self.endings) if told]

    def cut(self) -> list[Ending]:
        """Answers that had begun and were lost with their host."""
        return [ending for ending in self.endings if ending.begun and not ending.complete]

    def late(self, ending: Ending) -> float:
        """Seconds from when its loss could be known to its end."""
        return ending.ended - (self.killed if ending.host == KILLED else self.stopped + self.stall)

    def wrong_with(self, ending: Ending) -> str:
        """ "" where nothing is."""
        if ending.complete:
            return ""
        if not ending.begun:
            return f"failed before its first piece: {ending.status} {ending.last}"
        if ending.host == KEPT:
            return f"the host that was left alone lost an answer: {ending.last}"
        errors = sum(b'"error"' in line for line in ending.lines)
        if ending.broken or errors != 1 or "error" not in ending.last:
            return f"begun, and no one error line at its end: {ending.lines[-1:]!r}"
        late = self.late(ending)
        return "" if late <= ERROR_SECONDS else f"the error line of {ending.host} came {late:.1f} s late"

    async def _work(self, todo: Any) -> None:
        for number in todo:
            self.endings.append(await self._ask(number))

    async def _ask(self, number: int) -> Ending:
        ending = Ending()
        async with asking(self.product.url, self.body(number)) as client:
            found = b""
            try:
                ending.status = await client.head()
                ending.host = client.headers.get("x-loupe-host", "")
                while piece := await client.piece():
                    found += piece
            except (asyncio.IncompleteReadError, ConnectionError):
                ending.broken = True
        ending.ended, ending.lines = time.monotonic(), [line for line in found.split(b"\n") if line]
        return ending
