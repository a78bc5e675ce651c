"""The model hosts together: which one takes a request, who holds which slot, and the unions of their lists.

A generation holds one slot of one host (`reserve` gives a `Lease`); short requests (`lease`) take none. A request
goes to a host that has its model loaded, else to one that has the model, the emptiest first. The last host that
may still answer is never given up unasked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from app.core.errors import HostError, ModelNotFound, NoHealthyHost
from app.core.hosts import HostSeats, HostState, HostStatus, LoadedModel, ModelInfo
from app.core.ports import Backend, Clock
from app.services.host_lease import Lease
from app.services.watched_host import WatchedHost, canonical

LIST_AGE = 1.0  # seconds; how old the lists may be when a model is missing from them: it may have been pulled just now


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """Where a name leads now. `server` is the host's kind, build and version; "" and `digest` "" where unknown."""

    name: str
    host: str
    digest: str
    server: str
    loaded: bool


@dataclass(frozen=True, slots=True)
class PooledModel:
    """One model of the union. `conflict`: another host has other content under the same name."""

    info: ModelInfo
    hosts: tuple[str, ...]
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class PooledLoad:
    model: LoadedModel
    host: str


class HostPool:
    """`start` and `stop` in the event loop that uses it; `statuses` may be read from any thread."""

    def __init__(self, backends: Sequence[Backend], clock: Clock) -> None:
        self._clock = clock
        self._hosts: list[WatchedHost] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._listeners: list[Callable[[], None]] = []
        self._contexts: dict[tuple[str, str, str], int] = {}
        self._news = asyncio.Event()
        self.populate(backends)

    def populate(self, backends: Sequence[Backend]) -> None:
        """Take these hosts, before `start`: which ones there are is known only once someone has looked."""
        self._hosts = [WatchedHost(backend, self._clock, self.changed) for backend in backends]

    async def start(self) -> None:
        """Ask every host once (2 s at most), then go on watching them."""
        await asyncio.gather(*(host.check() for host in self._hosts))
        self._watchers = [asyncio.create_task(host.watch(), name=f"watch {host.name}") for host in self._hosts]

    async def stop(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers = []
        await asyncio.gather(*(host.backend.close() for host in self._hosts))

    # Status

    def statuses(self) -> tuple[HostStatus, ...]:
        return tuple(host.status() for host in self._hosts)

    def backend(self, host: str) -> Backend:
        """The host of that name. Raises `NoHealthyHost` if there is none."""
        for watched in self._hosts:
            if watched.name == host:
                return watched.backend
        raise NoHealthyHost({host: "there is no host of this name"})

    @property
    def slots(self) -> int:
        """Generations that may run at once, over the hosts that answer."""
        return sum(host.backend.address.slots for host in self._hosts if host.usable)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` in the event loop whenever a host's state or a slot changes."""
        self._listeners.append(listener)

    async def subscribe(self) -> AsyncGenerator[tuple[HostStatus, ...], None]:
        """The statuses now, and again after each change; changes that come together are told once."""
        told: tuple[HostStatus, ...] | None = None
        while True:
            news, now = self._news, self.statuses()
            if now != told:
                told = now
                yield now
            else:
                await news.wait()

    def changed(self) -> None:
        self._tell()
        for listener in self._listeners:
            listener()

    def look_again(self) -> None:
        """Ask all hosts at once (after a pull, a delete, a load), instead of at their next turn."""
        for host in self._hosts:
            host.look_again()

    # Choosing

    def lists(self, model: str) -> bool:
        """Whether a host that answers has the model, as far as is known: then `resolve` need not ask anybody."""
        return any(host.usable and host.has(model) for host in self._hosts)

    async def resolve(self, model: str, *, fresh: bool = False) -> ResolvedModel:
        """Where the model is now. Raises `ModelNotFound` if no host has it, `NoHealthyHost` if none answers.

        `fresh` asks for lists not older than a second. While our own runtime is still starting the answer is open:
        an empty host and digest.
        """
        await self._awake()
        if fresh or not any(host.has(model) for host in self._usable()):
            await self._refresh(oldest=LIST_AGE)
        usable = self._usable()
        having = [host for host in usable if host.has(model)]
        if usable and not having:
            raise ModelNotFound(model)
        if not having:
            return ResolvedModel(model, "", "", "", loaded=False)
        return _resolved(min(having, key=lambda host: self._rank(host, model)), model)

    async def identify(self, model: str, host: str) -> ResolvedModel | None:
        """What the name means on one host, asked anew; None if the host does not say, or has it no more."""
        watched = next((watched for watched in self._usable() if watched.name == host), None)
        if watched is None:
            return None
        await self._forgiving(watched, watched.refresh(oldest=0.0))
        return _resolved(watched, model) if watched.find(model) and watched.identity else None

    def seats(self) -> tuple[HostSeats, ...]:
        """The hosts that can be used, as the queue sees them."""
        return tuple(host.seats() for host in self._usable())

    def reserve(self, model: str, avoid: str = "", among: Collection[str] | None = None) -> Lease | None:
        """Take a slot for the model at once; None if all are taken or a host is still starting.

        The host `avoid` is taken only if no other one has the model; `among` names the hosts to choose from. Raises
        `NoHealthyHost` or `ModelNotFound` when waiting would not help.
        """
        host = self.choose(model, avoid if avoid and self.has_other(model, avoid) else "", among)
        if host is None:
            return None
        lease = Lease(host, model, self.choose, self.changed)
        self._tell()  # the queue is the one who asks: it is not called back
        return lease

    def has_other(self, model: str, host: str) -> bool:
        """Whether a host beside this one answers and has the model, free or not."""
        return any(other.has(model) for other in self._usable() if other.name != host)

    def choose(self, model: str, exclude: str = "", among: Collection[str] | None = None) -> WatchedHost | None:
        usable = [host for host in self._usable() if host.name != exclude]
        if not usable:
            if exclude or any(host.state in (HostState.WARMING, HostState.UNKNOWN) for host in self._hosts):
                return None
            raise NoHealthyHost(self._reasons())
        having = [host for host in usable if host.has(model)]
        if not having:
            if exclude:
                return None
            raise ModelNotFound(model)
        rested = [host for host in having if host.breaker.state != "open"] or having
        free = [host for host in rested if host.free_slots and (among is None or host.name in among)]
        return min(free, key=lambda host: self._rank(host, model), default=None)

    @contextlib.asynccontextmanager
    async def lease(self, model: str = "") -> AsyncIterator[Backend]:
        """A host for a short request (show, copy, …): one that has `model`, or any. Takes no generation slot."""
        await self._awake()
        if model and not any(host.has(model) for host in self._usable()):
            await self._refresh(oldest=LIST_AGE)
        usable = self._usable()
        if not usable:
            raise NoHealthyHost(self._reasons())
        host = min(usable, key=lambda host: (not host.has(model) if model else False, *self._rank(host, model)))
        try:
            yield host.backend
        except HostError as error:
            host.report(error)
            raise

    def default_context(self, model: ResolvedModel) -> int | None:
        """The context the host gives the model when a request names none; None until it was seen."""
        return self._contexts.get((model.host, model.digest, model.server))

    async def learn_context(self, model: ResolvedModel) -> int | None:
        """Look the context up, just after the host answered a request that named none."""
        host = next((host for host in self._hosts if host.name == model.host), None)
        if host is None:
            return None
        await self._forgiving(host, host.refresh_loaded())
        loaded = host.loaded.get(canonical(model.name))
        if loaded is None or not loaded.context_length:
            return None
        self._contexts[model.host, model.digest, model.server] = loaded.context_length
        return loaded.context_length

    # Unions

    async def tags(self) -> tuple[PooledModel, ...]:
        """The models of all hosts that answer, newest first; the same content under the same name is one row."""
        await self._awake()
        await self._refresh(oldest=0.0)
        rows: dict[tuple[str, str], list[tuple[ModelInfo, str]]] = {}
        for host in self._answering():
            for name, info in (host.models or {}).items():
                rows.setdefault((name, info.digest), []).append((info, host.name))
        names = [name for name, _ in rows]
        union = [
            PooledModel(found[0][0], tuple(host for _, host in found), conflict=names.count(name) > 1)
            for (name, _), found in rows.items()
        ]
        return tuple(sorted(union, key=lambda row: row.info.modified_at, reverse=True))

    async def ps(self) -> tuple[PooledLoad, ...]:
        """What is loaded where, over all hosts that answer."""
        await self._awake()
        hosts = self._answering()
        await asyncio.gather(*(self._forgiving(host, host.refresh_loaded()) for host in hosts))
        return tuple(PooledLoad(model, host.name) for host in hosts for model in host.loaded.values())

    # Inside

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _usable(self) -> list[WatchedHost]:
        return [host for host in self._hosts if host.usable]

    def _answering(self) -> list[WatchedHost]:
        hosts = self._usable()
        if not hosts:
            raise NoHealthyHost(self._reasons())
        return hosts

    def _rank(self, host: WatchedHost, model: str) -> tuple[bool, bool, float, float, int]:
        load = host.busy_slots / max(1, host.backend.address.slots)
        busy, cold = host.state is HostState.BUSY, canonical(model) not in host.warm
        return (busy, cold, load, host.round_trip or 0.0, self._hosts.index(host))

    def _reasons(self) -> dict[str, str]:
        return {host.name: host.error or str(host.state) for host in self._hosts}

    async def _awake(self) -> None:
        """With no usable host, ask once more before giving up: the last host is never refused unasked."""
        if self._usable():
            return
        await asyncio.gather(*(host.check(rise=1) for host in self._hosts))
        if not self._usable() and not any(host.state is HostState.WARMING for host in self._hosts):
            raise NoHealthyHost(self._reasons())

    async def _refresh(self, oldest: float) -> None:
        stale = [host for host in self._usable() if host.list_age >= oldest]
        if stale:
            await asyncio.gather(*(self._forgiving(host, host.refresh(oldest=oldest)) for host in stale))

    async def _forgiving(self, host: WatchedHost, work: Awaitable[None]) -> None:
        """A host that fails to list is reported and left out; the others still answer."""
        try:
            await work
        except HostError as error:
            host.report(error)


def _resolved(host: WatchedHost, model: str) -> ResolvedModel:
    info = host.find(model)
    return ResolvedModel(
        model, host.name, info.digest if info else "", host.identity, loaded=canonical(model) in host.warm
    )
