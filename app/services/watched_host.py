"""One model host under watch: whether it answers, what it has, what is loaded there, how many slots are taken.

Knows nothing of the other hosts; the pool chooses among them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Callable

import structlog

from app.core.errors import (
    HostError,
    HostProtocolError,
    HostRefused,
    HostTimeout,
    HostUnreachable,
    HostWarming,
    LoupeError,
    ModelNotFound,
)
from app.core.hosts import HostSeats, HostState, HostStatus, LoadedModel, ModelInfo
from app.core.ports import Backend, Clock
from app.services.retry_policy import Breaker

log = structlog.get_logger("loupe.hosts")

CHECK_SECONDS = 5.0
RECOVERY_SECONDS = 1.0  # while it is away: the page is to recover within 5 s of its return, and two passes are needed
CHECK_TIMEOUT = 2.0
LIST_SECONDS = 15.0
FALL, RISE = 3, 2
BUSY_SECONDS = 2.0  # how long a "server busy" answer makes us prefer other hosts

USABLE = (HostState.HEALTHY, HostState.BUSY)


@functools.lru_cache(1024)
def canonical(model: str) -> str:
    """The form in which two spellings of one model are equal: default registry and tag filled in or left out alike."""
    name = model.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


class WatchedHost:
    def __init__(self, backend: Backend, clock: Clock, changed: Callable[[], None]) -> None:
        self.backend = backend
        self.breaker = Breaker(clock)
        self.models: dict[str, ModelInfo] | None = None  # by canonical name; None until the host has told
        self.loaded: dict[str, LoadedModel] = {}
        self.loaded_at = float("-inf")  # when it said what is loaded, by the monotonic clock
        self.warm: set[str] = set()  # canonical names that we know to be loaded there
        self.busy_slots = 0
        self.draining = False
        self.error = ""
        self.version = self.server = ""
        self.round_trip: float | None = None
        self._clock, self._changed = clock, changed
        self._state = HostState.UNKNOWN
        self._failures = self._passes = 0
        self._busy_until = self._listed_at = float("-inf")
        self._wake = asyncio.Event()
        self._listing = asyncio.Lock()

    @property
    def name(self) -> str:
        return self.backend.address.name

    @property
    def state(self) -> HostState:
        busy = self._state is HostState.HEALTHY and self._clock.monotonic() < self._busy_until
        return HostState.BUSY if busy else self._state

    @property
    def usable(self) -> bool:
        return self.state in USABLE and not self.draining

    @property
    def free_slots(self) -> int:
        return max(0, self.backend.address.slots - self.busy_slots)

    @property
    def identity(self) -> str:
        """What the host's answers depend on beside the model: kind, build and protocol version."""
        return f"{self.server or 'ollama'} {self.version}" if self.version else ""

    def status(self) -> HostStatus:
        return HostStatus(
            address=self.backend.address,
            state=self.state,
            version=self.version,
            server=self.server,
            error=self.error,
            round_trip=self.round_trip,
            busy_slots=self.busy_slots,
        )

    def seats(self) -> HostSeats:
        """As the queue sees it."""
        slots, loaded = self.backend.address.slots, frozenset(self.loaded)
        return HostSeats(self.name, slots, self.free_slots, self.models, loaded, self.loaded_at)

    def has(self, model: str) -> bool:
        """Whether the host lists the model; a host that has not told its list yet may have it."""
        return self.models is None or canonical(model) in self.models

    @property
    def list_age(self) -> float:
        """Seconds since the host told what it has."""
        return self._clock.monotonic() - self._listed_at

    def find(self, model: str) -> ModelInfo | None:
        return (self.models or {}).get(canonical(model))

    async def check(self, *, rise: int = RISE) -> None:
        """Ask once whether the host answers. `rise`: how many passes in a row bring it back."""
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                self.version, self.server = await self.backend.version()
        except TimeoutError:
            self._failed(HostTimeout(self.name, "health check", CHECK_TIMEOUT))
        except HostError as error:
            self._failed(error)
        else:
            self.round_trip = self._clock.monotonic() - began
            self._passed(rise)

    async def refresh(self, *, oldest: float = 0.0) -> None:
        """Ask for the lists of models, unless the last answer is younger than `oldest` seconds."""
        async with self._listing:
            if self.list_age < oldest:
                return
            self.models = {canonical(model.name): model for model in await self.backend.models()}
            self._listed_at = self._clock.monotonic()
        self._changed()

    async def refresh_loaded(self) -> None:
        """Ask what is loaded. Ollama holds this answer back while it loads a model: then what was known stays."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_TIMEOUT):
                self.loaded = {canonical(model.name): model for model in await self.backend.loaded()}
                self.warm = set(self.loaded)
                self.loaded_at = self._clock.monotonic()

    async def watch(self) -> None:
        """Check for ever: every 5 s (with jitter, so that hosts are not asked in step), each second while away."""
        while True:
            await self._look()
            pause = CHECK_SECONDS if self._state is HostState.HEALTHY else RECOVERY_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.9, 1.1)):
                    await self._wake.wait()
            self._wake.clear()

    def look_again(self) -> None:
        """Check at once instead of at the next turn, lists included."""
        self._listed_at = float("-inf")
        self._wake.set()

    def report(self, error: LoupeError) -> None:
        """A request failed here. A refused connection counts at once; the rest is for the breaker and the check."""
        if not isinstance(error, HostError):
            self.breaker.abandoned()
            if isinstance(error, ModelNotFound):
                self.look_again()  # its list is no longer true
            return
        if isinstance(error, HostRefused) and error.busy:
            self._busy_until = self._clock.monotonic() + BUSY_SECONDS
        self.breaker.failed(error)
        if isinstance(error, HostUnreachable) and self._state is HostState.HEALTHY:
            self._set(HostState.OFFLINE, str(error))
        self.look_again()

    async def _look(self) -> None:
        try:
            await self.check()
            if self.usable:
                await self._list()
        except HostError as error:
            log.warning("host list failed", host=self.name, error=str(error))
        except Exception:
            log.exception("health check broke", host=self.name)

    async def _list(self) -> None:
        if self.list_age >= LIST_SECONDS:
            await self.refresh()
            await self.refresh_loaded()

    def _passed(self, rise: int) -> None:
        self._failures, self._passes = 0, self._passes + 1
        first = self._state in (HostState.UNKNOWN, HostState.WARMING)
        if self._state is HostState.HEALTHY or first or self._passes >= rise:
            self._set(HostState.HEALTHY, "")

    def _failed(self, error: HostError) -> None:
        self._passes, self._failures = 0, self._failures + 1
        if isinstance(error, HostWarming):
            self._set(HostState.WARMING, str(error))
        elif self._state is not HostState.HEALTHY or self._failures >= FALL:
            strange = isinstance(error, HostProtocolError | HostRefused)
            self._set(HostState.MISCONFIGURED if strange else HostState.OFFLINE, str(error))

    def _set(self, state: HostState, error: str) -> None:
        if (state, error) == (self._state, self.error):
            return
        if state is not self._state:
            log.info("host state", host=self.name, state=str(state), error=error or None)
        if state is not HostState.HEALTHY:
            self._passes, self.warm, self.loaded = 0, set(), {}
            self._listed_at = float("-inf")
        self._state, self.error = state, error
        self._changed()
