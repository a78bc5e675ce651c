"""One generation slot of one host, held for as long as the generation runs."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeVar

from app.core.errors import HostUnreachable, LoupeError
from app.core.hosts import HostAddress
from app.core.ports import Backend
from app.services.interruption import Interrupted, Interruption
from app.services.watched_host import WatchedHost, canonical

Result = TypeVar("Result")


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
        self._beginning = Interruption()
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

    def answers(self) -> None:
        """A piece of the answer came, so the model is in memory."""
        if not self.warm:  # it was loaded for this request, and something else may have had to go
            self._host.warm.add(canonical(self.model))
            self._host.look_again()

    def succeeded(self) -> None:
        self.answers()
        self._host.breaker.succeeded(self._number)
        self._owner.answered(self.model, self._prefix, self._host.name)

    def failed(self, error: LoupeError) -> None:
        self._host.report(error, self._number)

    def abandoned(self) -> None:
        """The caller left before the end."""
        self._host.breaker.abandoned(self._number)

    async def first(self, work: Awaitable[Result]) -> Result:
        """What an attempt gives first. Before that `give_up` ends it, and it raises `HostUnreachable`."""
        host = self._host
        host.unbegun.add(self)
        try:
            with self._beginning:
                return await work
        except Interrupted as error:
            raise HostUnreachable(host.name, "it stopped answering its health checks", sent=True) from error
        finally:
            host.unbegun.discard(self)

    def give_up(self) -> None:
        """The host is lost and another one can answer. Does nothing once the answer has begun."""
        self._beginning.fire()

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
