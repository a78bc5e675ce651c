"""One model host under watch: whether it answers, what it has, what is loaded there, how many slots are taken.

Knows nothing of the other hosts; the pool chooses among them. Checks begin every 5 s (a little earlier by chance, so
that hosts are not asked in step), and three that fail within 2 s each take it down: at most 17 s after its last sign
of life. A refused connection does so at once, and so does a failed check right after a failed request.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

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
from app.services.asked_together import AskedTogether
from app.services.breaker import Breaker
from app.services.host_room import HostRoom
from app.services.host_versions import version_warnings
from app.services.retry_policy import counts_against

if TYPE_CHECKING:
    from app.services.host_lease import Lease

log = structlog.get_logger("loupe.hosts")

CHECK_SECONDS = 5.0
RECOVERY_SECONDS = 1.0  # while it is away: the page is to recover within 5 s of its return, and two passes are needed
CHECK_TIMEOUT = 2.0
EARLIEST = 0.9  # of the time between two checks
LIST_SECONDS = 15.0
FALL, RISE = 3, 2
BUSY_SECONDS, LONGEST_BUSY = 2.0, 60.0  # how long a "server busy" answer makes us prefer other hosts
LIMITED_SECONDS, LONGEST_LIMITED = 5.0, 600.0  # how long a host is left alone that answers 429
SMOOTHING = 1 / 8  # of the round trip, as TCP smooths its own (RFC 6298)
KEY_REFUSED = (401, 403)
DOWN_BEHIND_PROXY = (502, 503, 504)


@functools.lru_cache(1024)
def canonical(model: str) -> str:
    """The form in which two spellings of one model are equal: default registry and tag filled in or left out alike."""
    name = model.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


class WatchedHost:
    """`added`: at run time. Outcomes of requests come by `Lease`, other trouble by `report`."""

    def __init__(self, backend: Backend, clock: Clock, changed: Callable[[], None], *, added: bool = False) -> None:
        self.backend, self.added = backend, added
        self.breaker = Breaker(clock)
        self.room = HostRoom()
        self.models: dict[str, ModelInfo] | None = None  # by canonical name; None until the host has told
        self.loaded: dict[str, LoadedModel] = {}
        self.loaded_at = float("-inf")  # when it was asked what is loaded, by the monotonic clock
        self.warm: set[str] = set()  # canonical names that we know to be loaded there
        self.busy_slots = 0
        self.unbegun: set[Lease] = set()  # requests that wait here for their first byte
        self.draining = self.suspect = False
        self.error = ""
        self.version = self.server = ""
        self.round_trip: float | None = None
        self.down_since = float("-inf")
        """When it was last lost (monotonic); minus infinity if it never answered."""
        self.lost: Callable[[frozenset[str]], None] = lambda _: None  # is told digests that are not listed any more
        self._clock, self._changed = clock, changed
        self._state = HostState.UNKNOWN
        self._failures = self._passes = 0
        self._busy_until = self.limited_until = float("-inf")
        self.listed_at = float("-inf")
        """When it told what it has (monotonic)."""
        self._wake = asyncio.Event()
        self._listing, self._listing_loaded = AskedTogether(self._ask_for_models), AskedTogether(self._ask_for_loaded)
        self._lister: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.backend.address.name

    @property
    def state(self) -> HostState:
        if self._state is not HostState.HEALTHY:
            return self._state
        now = self._clock.monotonic()
        if now < self.limited_until:
            return HostState.RATE_LIMITED
        return HostState.BUSY if now < self._busy_until else HostState.HEALTHY

    @property
    def up(self) -> bool:
        """Whether it answers, as far as we know."""
        return self._state is HostState.HEALTHY

    @property
    def usable(self) -> bool:
        return self._state is HostState.HEALTHY and not self.draining

    @property
    def limited(self) -> bool:
        return self._clock.monotonic() < self.limited_until

    @property
    def rested(self) -> bool:
        """Nothing speaks against sending it a request now."""
        return not self.suspect and self.breaker.state != "open"

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
            loaded=tuple(sorted(self.warm)),
            breaker=self.breaker.state,
            rests_until=self.limited_until if self.limited else self.breaker.open_until,
            draining=self.draining,
            added=self.added,
            warnings=version_warnings(self.version, self.server),
        )

    def seats(self) -> HostSeats:
        """As the queue sees it."""
        address, now = self.backend.address, self._clock.monotonic()
        free, limited = max(0, address.slots - self.busy_slots), now < self.limited_until
        resting = limited or not self.rested or now < self._busy_until
        loaded = frozenset(self.loaded)
        return HostSeats(address.name, address.slots, free, resting, limited, self.models, loaded, self.loaded_at)

    def has(self, model: str) -> bool:
        """Whether the host lists the model; a host that has not told its list yet may have it."""
        return self.models is None or canonical(model) in self.models

    @property
    def list_age(self) -> float:
        """Seconds since the host told what it has."""
        return self._clock.monotonic() - self.listed_at

    @property
    def digests(self) -> frozenset[str]:
        """What the host has, by content; of a host that is away what it had."""
        return frozenset(model.digest for model in (self.models or {}).values())

    def find(self, model: str) -> ModelInfo | None:
        return (self.models or {}).get(canonical(model))

    async def check(self, *, rise: int = RISE) -> None:
        """Ask once whether the host answers. `rise`: how many passes in a row bring it back."""
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                self.version, self.server = await self.backend.version()
                took = self._clock.monotonic() - began
                if self._state is HostState.MISCONFIGURED:
                    await self.refresh()  # a key may be wanted for the lists alone
        except TimeoutError:
            self._failed(HostTimeout(self.name, "health check", CHECK_TIMEOUT))
        except HostError as error:
            self._failed(error)
        else:
            before = self.round_trip
            self.round_trip = took if before is None else before + SMOOTHING * (took - before)
            self._passed(rise)

    async def refresh(self, *, oldest: float = 0.0) -> None:
        """Ask for the lists of models, unless the last answer is younger than `oldest` seconds."""
        await self._listing(unless=lambda: self.list_age < oldest)

    async def _ask_for_models(self) -> None:
        before = self.digests
        self.models = {canonical(model.name): model for model in await self.backend.models()}
        self.listed_at = self._clock.monotonic()
        if gone := before - self.digests:
            self.lost(gone)
        self._changed()

    async def refresh_loaded(self) -> None:
        """Ask what is loaded. Ollama holds this answer back while it loads a model: then what was known stays."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self._listing_loaded()

    async def _ask_for_loaded(self) -> None:
        asked = self._clock.monotonic()
        self.loaded = {canonical(model.name): model for model in await self.backend.loaded()}
        self.warm = set(self.loaded)
        self.loaded_at = asked
        self.room.see(self.loaded, self._clock.now())

    async def watch(self) -> None:
        """Check for ever: every 5 s, each second while away."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                await self._look()
                period = CHECK_SECONDS if self.up else RECOVERY_SECONDS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(began + period * random.uniform(EARLIEST, 1.0)):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            if self._lister is not None:
                self._lister.cancel()

    def look_again(self) -> None:
        """Check at once instead of at the next turn, lists included."""
        self.listed_at = float("-inf")
        self._wake.set()

    def report(self, error: LoupeError, number: int = 0) -> None:
        """A request failed here (the breaker's `number` if it has one).

        A refused connection takes the host down at once; after other failures it must pass a check before others are
        passed over for it. "Busy" and "later" say nothing against it.
        """
        if not isinstance(error, HostError):
            self.breaker.abandoned(number)
            if isinstance(error, ModelNotFound):
                self.look_again()  # its list is no longer true
            return
        if isinstance(error, HostRefused) and error.busy:
            self._put_off(error)
        self.breaker.failed(error, number)
        if isinstance(error, HostUnreachable) and self.up:
            self._set(HostState.OFFLINE, _told(error))
        self.suspect = self.suspect or (counts_against(error) and self.up)
        self.look_again()

    def _put_off(self, error: HostRefused) -> None:
        now, asked = self._clock.monotonic(), error.retry_after
        if error.status == 429:
            self.limited_until = now + min(LIMITED_SECONDS if asked is None else asked, LONGEST_LIMITED)
        else:
            self._busy_until = now + min(BUSY_SECONDS if asked is None else asked, LONGEST_BUSY)
        self._changed()

    async def _look(self) -> None:
        try:
            await self.check()
        except Exception:
            log.exception("health check broke", host=self.name)
        if self.up and self.list_age >= LIST_SECONDS and (self._lister is None or self._lister.done()):
            self._lister = asyncio.create_task(self._list(), name=f"lists of {self.name}")

    async def _list(self) -> None:
        """Beside the checks: a long list, or a host that stalls over it, holds none of them up."""
        try:
            await self.refresh()
            await self.refresh_loaded()
        except HostError as error:
            log.warning("host list failed", host=self.name, error=str(error))
            if isinstance(error, HostRefused) and error.status in KEY_REFUSED:
                self._set(HostState.MISCONFIGURED, _told(error))
        except Exception:
            log.exception("host list broke", host=self.name)

    def _passed(self, rise: int) -> None:
        self._failures, self._passes, self.suspect = 0, self._passes + 1, False
        first = self._state in (HostState.UNKNOWN, HostState.WARMING)
        if self.up or first or self._passes >= rise:
            self._set(HostState.HEALTHY, "")

    def _failed(self, error: HostError) -> None:
        if isinstance(error, HostRefused) and error.status == 429:
            self._put_off(error)  # it is there
            return
        self._passes, self._failures = 0, self._failures + 1
        if isinstance(error, HostWarming):
            self._set(HostState.WARMING, str(error))
        elif not self.up or self.suspect or self._failures >= FALL:
            self._set(_fallen(error), _told(error))

    def _set(self, state: HostState, error: str) -> None:
        if (state, error) == (self._state, self.error):
            return
        if state is not self._state:
            log.info("host state", host=self.name, state=str(state), error=error or None)
        if self.up and state is not HostState.HEALTHY:
            self.down_since = self._clock.monotonic()
        if state is not HostState.HEALTHY:
            self._passes, self.warm, self.loaded, self.suspect = 0, set(), {}, False
            self.listed_at = float("-inf")
        self._state, self.error = state, error
        self._changed()


def _fallen(error: HostError) -> HostState:
    strange = isinstance(error, HostProtocolError) or (
        isinstance(error, HostRefused) and error.status not in DOWN_BEHIND_PROXY
    )
    return HostState.MISCONFIGURED if strange else HostState.OFFLINE


def _told(error: HostError) -> str:
    """What is wrong, for where the host's name and its state stand beside it."""
    if isinstance(error, HostUnreachable) and error.why:
        return error.why
    if isinstance(error, HostRefused) and error.status in KEY_REFUSED:
        return (
            f"the model host {error.host} refuses the key that Loupe shows it, or wants one ({error.status}: {error})"
        )
    return str(error)
