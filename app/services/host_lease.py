"""One generation slot of one host, held for as long as the generation runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from app.core.errors import HostUnreachable, LoupeError
from app.core.hosts import HostAddress
from app.core.ports import Backend
from app.services.watched_host import WatchedHost, canonical


class Owner(Protocol):
    """The pool, as a lease needs it."""

    def choose(self, model: str, exclude: str = "") -> WatchedHost | None: ...

    def changed(self) -> None: ...

    def answered(self, model: str, prefix: int, host: str) -> None: ...


class Lease:
    """One generation slot of one host, until `release`. May move to another host when the first one fails.

    `prefix` stands for the beginning of the conversation (0: none), so that it comes back to where that is held.
    """

    def __init__(self, host: WatchedHost, model: str, owner: Owner, prefix: int = 0) -> None:
        self._host, self._owner = host, owner
        self.model, self._prefix = model, prefix
        self._held = True
        self._limit: asyncio.Timeout | None = None
        self._take()

    @property
    def backend(self) -> Backend:
        return self._host.backend

    @property
    def address(self) -> HostAddress:
        return self._host.backend.address

    @property
    def warm(self) -> bool:
        """Whether the model is known to be loaded there."""
        return canonical(self.model) in self._host.warm

    def succeeded(self) -> None:
        if not self.warm:  # it was loaded for this request, and something else may have had to go
            self._host.warm.add(canonical(self.model))
            self._host.look_again()
        self._host.breaker.succeeded(self._number)
        self._owner.answered(self.model, self._prefix, self._host.name)

    def failed(self, error: LoupeError) -> None:
        self._host.report(error, self._number)

    def abandoned(self) -> None:
        """The caller left before the end."""
        self._host.breaker.abandoned(self._number)

    @contextlib.asynccontextmanager
    async def until_begun(self) -> AsyncIterator[Callable[[], None]]:
        """Around an attempt; call what it gives at the first byte. Before that, `give_up` ends the attempt.

        Raises `HostUnreachable` then.
        """
        host = self._host
        try:
            async with asyncio.timeout(None) as self._limit:
                host.unbegun.add(self)
                try:
                    yield lambda: host.unbegun.discard(self)
                finally:
                    host.unbegun.discard(self)
        except TimeoutError as error:
            raise HostUnreachable(host.name, "it stopped answering its health checks") from error

    def give_up(self) -> None:
        """The host is lost and another one can answer. Does nothing once the answer has begun."""
        if self in self._host.unbegun and self._limit is not None:
            self._host.unbegun.discard(self)
            self._limit.reschedule(asyncio.get_running_loop().time())

    def move(self) -> bool:
        """Exchange the slot for one on another host. False, and nothing changed, where none is free."""
        other = self._owner.choose(self.model, self._host.name)
        if other is None or not self._held:
            return False
        self._host.busy_slots -= 1
        self._host = other
        self._take()
        self._owner.changed()
        return True

    def release(self) -> None:
        """Give the slot back. Calling it again does nothing."""
        if self._held:
            self._held = False
            self.abandoned()  # without effect if there was an outcome
            self._host.busy_slots -= 1
            self._owner.changed()

    def _take(self) -> None:
        self._host.busy_slots += 1
        self._number = self._host.breaker.begin()
