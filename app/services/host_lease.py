"""One generation slot of one host, held for as long as the generation runs."""

from __future__ import annotations

from collections.abc import Callable

from app.core.errors import LoupeError
from app.core.hosts import HostAddress
from app.core.ports import Backend
from app.services.watched_host import WatchedHost, canonical

Choose = Callable[[str, str], WatchedHost | None]
"""(model, name of the host to leave out) to the host that is to take it."""


class Lease:
    """One generation slot of one host, until `release`. May move to another host when the first one fails."""

    def __init__(self, host: WatchedHost, model: str, choose: Choose, changed: Callable[[], None]) -> None:
        self._host, self.model = host, model
        self._choose, self._changed = choose, changed
        self._held = True
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
        self._host.breaker.succeeded()

    def failed(self, error: LoupeError) -> None:
        self._host.report(error)

    def abandoned(self) -> None:
        """The caller left before the end."""
        self._host.breaker.abandoned()

    def move(self) -> bool:
        """Exchange the slot for one on another host. False, and nothing changed, where none is free."""
        other = self._choose(self.model, self._host.name)
        if other is None or not self._held:
            return False
        self._host.busy_slots -= 1
        self._host = other
        self._take()
        self._changed()
        return True

    def release(self) -> None:
        """Give the slot back. Calling it again does nothing."""
        if self._held:
            self._held = False
            self._host.busy_slots -= 1
            self._changed()

    def _take(self) -> None:
        self._host.busy_slots += 1
        self._host.breaker.begin()
