"""The hosts under watch: which there are, how they come and go, and who is told when something about them changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from app.core.errors import NoHealthyHost
from app.core.hosts import HostAddress, HostStatus, LoadedModel, Outage
from app.core.ports import Backend, Clock
from app.services.watched_host import WatchedHost

OUTAGE_SECONDS = 5.0


class HostSet:
    """`start` and `stop` in the event loop that uses it; `statuses` may be read from any thread.

    `outage` is how long (seconds) those who wait are held when the hosts are lost.
    """

    def __init__(self, backends: Sequence[Backend], clock: Clock, outage: float = OUTAGE_SECONDS) -> None:
        self._clock, self._outage = clock, outage
        self._hosts: list[WatchedHost] = []
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._mourners: list[Callable[[str], None]] = []
        self._news: asyncio.Event | None = None  # while somebody waits for some
        self._alarm: asyncio.TimerHandle | None = None
        self.populate(backends)

    def populate(self, backends: Sequence[Backend], added: Sequence[Backend] = ()) -> None:
        """Take these hosts, before `start`: which ones there are is known only once someone has looked.

        `added` ones may be removed again.
        """
        settled = [self._watched(backend) for backend in backends]
        self._hosts = [*settled, *(self._watched(backend, added=True) for backend in added)]

    async def start(self) -> None:
        """Ask every host once (2 s at most), then go on watching them."""
        await asyncio.gather(*(host.check() for host in self._hosts))
        for host in self._hosts:
            self._watch(host)

    async def stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        watchers, self._watchers = self._watchers, {}
        for watcher in watchers.values():
            watcher.cancel()
        await asyncio.gather(*watchers.values(), return_exceptions=True)
        await asyncio.gather(*(host.backend.close() for host in self._hosts))

    # Hosts that come and go

    async def add(self, backend: Backend) -> HostStatus:
        """Take one more host, which need not answer yet: it joins as soon as it does."""
        host = self._watched(backend, added=True)
        self._hosts = [*self._hosts, host]
        await host.check()
        self._watch(host)
        return host.status()

    def drain(self, name: str, *, draining: bool = True) -> None:
        """Send nothing new there; what runs may end. `draining` False takes that back."""
        self._named(name).draining = draining
        self.changed()

    async def remove(self, name: str) -> None:
        """Forget the host, and cut what still runs there: drain it first."""
        host = self._named(name)
        self._hosts = [other for other in self._hosts if other is not host]
        watcher = self._watchers.pop(name, None)
        if watcher is not None:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        await host.backend.close()
        self.changed()

    # Status

    def statuses(self) -> tuple[HostStatus, ...]:
        return tuple(host.status() for host in self._hosts)

    def spelled(self, model: str) -> str:
        """The model as a host that has it writes its name; as it came where none does."""
        return next((info.name for host in self._hosts if (info := host.find(model)) is not None), model)

    def loads(self) -> tuple[tuple[HostAddress, LoadedModel], ...]:
        """What each host had in memory when it last told; nobody is asked."""
        return tuple((host.backend.address, model) for host in self._hosts for model in host.loaded.values())

    def backend(self, host: str) -> Backend:
        """The host of that name. Raises `NoHealthyHost` if there is none."""
        return self._named(host).backend

    @property
    def slots(self) -> int:
        """Generations that may run at once, over the hosts that answer."""
        return sum(host.backend.address.slots for host in self._hosts if host.usable)

    @property
    def outage(self) -> Outage | None:
        """Set while no host can be used but those who wait are held, because one could be used a moment ago."""
        lost = [host for host in self._hosts if self._lately_lost(host)]
        if self._usable() or not lost:
            return None
        since = max(host.down_since for host in lost)
        return Outage(since, since + self._outage, self._reasons(self._hosts))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` in the event loop whenever a host's state or a slot changes."""
        self._listeners.append(listener)

    def on_gone(self, listener: Callable[[str], None]) -> None:
        """Call `listener` in the event loop with each digest that the last host which had it has no more."""
        self._mourners.append(listener)

    async def subscribe(self) -> AsyncGenerator[tuple[HostStatus, ...], None]:
        """The statuses now, and again after each change; changes that come together are told once."""
        told: tuple[HostStatus, ...] | None = None
        while True:
            now = self.statuses()
            if now != told:
                told = now
                yield now
            else:
                self._news = self._news or asyncio.Event()
                await self._news.wait()

    def changed(self) -> None:
        self._tell()
        for listener in self._listeners:
            listener()

    def look_again(self) -> None:
        """Ask all hosts at once (after a pull, a delete, a load), instead of at their next turn."""
        for host in self._hosts:
            host.look_again()

    # Inside

    def _watched(self, backend: Backend, *, added: bool = False) -> WatchedHost:
        host = WatchedHost(backend, self._clock, self._host_changed, added=added)
        host.lost = self._lost
        return host

    def _watch(self, host: WatchedHost) -> None:
        self._watchers[host.name] = asyncio.create_task(host.watch(), name=f"watch {host.name}")

    def _named(self, name: str) -> WatchedHost:
        for host in self._hosts:
            if host.name == name:
                return host
        raise NoHealthyHost({name: "there is no host of this name"})

    def _lost(self, digests: frozenset[str]) -> None:
        for digest in digests.difference(*(host.digests for host in self._hosts)):
            for listener in self._mourners:
                listener(digest)

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    def _host_changed(self) -> None:
        self._set_alarm()
        self.changed()

    def _set_alarm(self) -> None:
        """Nobody else says when a rate limit ends, or those who wait have been held for long enough."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        now = self._clock.monotonic()
        moments = [max(host.limited_until, host.down_since + self._outage) for host in self._hosts]
        coming = [moment - now for moment in moments if moment > now]
        if coming:
            self._alarm = asyncio.get_running_loop().call_later(min(coming), self._host_changed)

    def _usable(self) -> list[WatchedHost]:
        return [host for host in self._hosts if host.usable]

    def _lately_lost(self, host: WatchedHost) -> bool:
        return not host.up and self._clock.monotonic() < host.down_since + self._outage

    def _reasons(self, hosts: Sequence[WatchedHost]) -> dict[str, str]:
        return {
            host.name: host.error or ("it is being drained" if host.draining else str(host.state)) for host in hosts
        }
