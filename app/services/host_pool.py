"""The model hosts together: which one takes a request, who holds which slot, and the unions of their lists.

A generation holds one slot of one host (`reserve` gives a `Lease`); short requests (`lease`) take none. `host_choice`
says which host a request goes to. The last host that may answer is never given up unasked; where every host that has
a model was lost a moment ago, those who wait for it are held for a short while instead of being refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from app.core.errors import HostError, HostsRateLimited, ModelNotFound, ModelNotLocal, NoHealthyHost
from app.core.hosts import HostAddress, HostSeats, HostState, LoadedModel, ModelInfo
from app.core.ports import Backend, Clock
from app.services.host_choice import Conversations, Predict, best
from app.services.host_lease import Lease
from app.services.host_room import Beside
from app.services.host_set import OUTAGE_SECONDS, HostSet
from app.services.host_versions import older_than
from app.services.watched_host import WatchedHost, canonical
from app.wire.model_names import names_cloud

LIST_AGE = 1.0  # seconds; how old the lists may be when a model is missing from them: it may have been pulled just now
LIMIT_WAIT = 30.0  # seconds for which requests wait for a rate limit to end; they are refused where it is longer
STARTING = (HostState.WARMING, HostState.UNKNOWN)


class ResolvedModel(NamedTuple):
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


class HostPool(HostSet):
    """`remote` admits models that their host does not run itself. `predict` may be set by whoever has measured how
    long requests take."""

    def __init__(
        self, backends: Sequence[Backend], clock: Clock, *, outage: float = OUTAGE_SECONDS, remote: bool = False
    ) -> None:
        super().__init__(backends, clock, outage)
        self._remote = remote
        self._contexts: dict[tuple[str, str, str], int] = {}
        self._conversations = Conversations()
        self.predict: Predict | None = None

    # Choosing

    def seats(self) -> tuple[HostSeats, ...]:
        """The hosts that can be used, as the queue sees them."""
        return tuple(host.seats() for host in self._usable())

    def lists(self, model: str) -> bool:
        """Whether a host that answers has the model, as far as is known: then `resolve` need not ask anybody."""
        return self._listed() and bool(self._having(model))

    def offers(self, model: str, host: str = "") -> bool:
        """Whether that host (any for "") can be used and has the model, as far as is known."""
        return any(host in ("", having.name) for having in self._having(model))

    def can(self, model: str, capability: str) -> bool:
        """Whether the model has it; also true where no host tells."""
        told = [info.capabilities for host in self._having(model) if (info := host.find(model)) is not None]
        return not any(told) or any(capability in capabilities for capabilities in told)

    def older(self, model: str, version: tuple[int, int, int]) -> bool:
        """Whether a host that may answer for the model is an Ollama from before that version."""
        return any(older_than(host.version, version, host.server) for host in self._having(model))

    async def resolve(self, model: str, *, fresh: bool = False) -> ResolvedModel:
        """Where the model is now. Raises `ModelNotFound` if no host has it, `NoHealthyHost` if none answers,
        `ModelNotLocal` if it would be computed elsewhere.

        `fresh` asks for lists not older than a second. While our own runtime is still starting, or the hosts were lost
        a moment ago, the answer is open: an empty host and digest.
        """
        if fresh and (model_now := self.known(model)) is not None:
            return model_now
        await self._awake(held=True)
        if fresh or not self.lists(model):
            await self._refresh(oldest=LIST_AGE)
        having = self._having(model)
        if not having:
            self._explain(model)
            return ResolvedModel(model, "", "", "", loaded=False)
        return _resolved(best(having, model, self.predict) or having[0], model)

    def known(self, model: str) -> ResolvedModel | None:
        """What `resolve` with `fresh` would say without asking anybody; None where it has to ask, or would raise."""
        if names_cloud(model) and not self._remote:
            return None
        now, name, having = self._clock.monotonic(), canonical(model), []
        for host in self._hosts:
            if not host.usable:
                continue
            if now - host.listed_at >= LIST_AGE:
                return None
            info = (host.models or {}).get(name)
            if info is not None and (self._remote or not info.remote_host):
                having.append(host)
        return _resolved(best(having, model, self.predict) or having[0], model) if having else None

    async def identify(self, model: str, host: str) -> ResolvedModel | None:
        """What the name means on one host, asked anew; None if the host does not say, or has it no more."""
        watched = next((watched for watched in self._hosts if watched.name == host and watched.up), None)
        if watched is None:
            return None
        await self._forgiving(watched, partial(watched.refresh, oldest=0.0))
        return _resolved(watched, model) if watched.find(model) and watched.identity else None

    def reserve(
        self, model: str, avoid: str = "", among: Collection[str] | None = None, prefix: int = 0
    ) -> Lease | None:
        """Take a slot for the model at once; None if waiting may help: all slots are taken, a host is starting, or was
        lost a moment ago.

        The host `avoid` is taken only if no other one has the model; `among` names the hosts to choose from; `prefix`
        is any number that stands for the beginning of the conversation. Raises `NoHealthyHost` or `ModelNotFound` when
        waiting would not help.
        """
        avoided = avoid if avoid and self.has_other(model, avoid) else ""
        host = self.choose(model, avoided, among, prefix)
        if host is None:
            return None
        lease = Lease(host, model, self, prefix)
        self._tell()  # the queue is the one who asks: it is not called back
        return lease

    def has_other(self, model: str, host: str) -> bool:
        """Whether a host beside this one answers and has the model, free or not."""
        return any(other.name != host for other in self._having(model))

    def choose(
        self, model: str, exclude: str = "", among: Collection[str] | None = None, prefix: int = 0
    ) -> WatchedHost | None:
        having = self._having(model)
        if exclude:
            having = [host for host in having if host.name != exclude]
        if not having:
            if not exclude:
                self._explain(model)
            return None
        ready = [host for host in having if not host.limited]
        if not ready:
            self._check_limits(having)
            return None
        rested = [host for host in ready if host.rested] or ready
        free = [host for host in rested if host.free_slots and (among is None or host.name in among)]
        return best(free, model, self.predict, self._conversations.host(model, prefix))

    def beside(self, models: Collection[str]) -> tuple[tuple[HostAddress, Beside], ...]:
        """Of each host that can be used and has all of these models: whether they fit there beside one another."""
        told = []
        for host in self._usable():
            infos = {canonical(model): host.find(model) for model in models}
            sizes = {name: info.size for name, info in infos.items() if info is not None}
            if len(sizes) == len(infos):
                told.append((host.backend.address, host.room.beside(sizes)))
        return tuple(told)

    def answered(self, model: str, prefix: int, host: str) -> None:
        """The host now holds the beginning of this conversation."""
        self._conversations.remember(model, prefix, host)

    @contextlib.asynccontextmanager
    async def lease(self, model: str = "", only: str = "") -> AsyncIterator[Backend]:
        """A host for a short request (show, copy, …): one that has `model`, the one named `only`, or any. Takes no
        generation slot."""
        await self._awake()
        if model and not any(host.has(model) for host in self._usable()):
            await self._refresh(oldest=LIST_AGE)
        usable = self._answering()
        host = best([host for host in usable if host.has(model)] if model else usable, model, None) or usable[0]
        host = self._named(only) if only else host
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
        await self._forgiving(host, host.refresh_loaded)
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
        await asyncio.gather(*(self._forgiving(host, host.refresh_loaded) for host in hosts))
        return tuple(PooledLoad(model, host.name) for host in hosts for model in host.loaded.values())

    # Inside

    def _answering(self) -> list[WatchedHost]:
        hosts = self._usable()
        if not hosts:
            raise NoHealthyHost(self._reasons(self._hosts))
        return hosts

    def _listed(self) -> bool:
        """Whether every host that can be used has told what it has."""
        return not [host for host in self._hosts if host.models is None and host.usable]

    def _host_changed(self) -> None:
        for host in self._hosts:
            for lease in () if host.up else tuple(host.unbegun):
                if self.has_other(lease.model, host.name):
                    lease.give_up()
        super()._host_changed()

    def _having(self, model: str) -> list[WatchedHost]:
        """The hosts that can be used and run the model themselves."""
        if names_cloud(model) and not self._remote:
            return []
        name, having = canonical(model), []
        for host in self._hosts:
            if host.usable:
                info = host.models.get(name) if host.models is not None else None
                listed = info is not None and (self._remote or not info.remote_host)
                if listed or host.models is None:  # one that has not told its list may have it
                    having.append(host)
        return having

    def _explain(self, model: str) -> None:
        """No host that can be used has the model: return where waiting may help, else raise why it does not."""
        having = [host for host in self._hosts if host.has(model)]
        elsewhere = next(filter(None, (_elsewhere(host, model) for host in having)), "")
        if not self._remote and (elsewhere or names_cloud(model)):
            raise ModelNotLocal(model, elsewhere)
        lost = [host for host in having if not host.up and host.models is not None]
        if any(self._lately_lost(host) for host in lost) or any(host.state in STARTING for host in having):
            return
        drained = [host for host in having if host.usable != host.up]
        if lost or drained:
            raise NoHealthyHost(self._reasons([*lost, *drained]))
        self._answering()
        raise ModelNotFound(model)

    def _check_limits(self, hosts: Sequence[WatchedHost]) -> None:
        rest = min(host.limited_until for host in hosts) - self._clock.monotonic()
        if rest > LIMIT_WAIT:
            raise HostsRateLimited({host.name: f"it may be asked again in {rest:.0f} s" for host in hosts}, rest)

    async def _awake(self, *, held: bool = False) -> None:
        """With no usable host, ask once more before giving up: the last host is never refused unasked.

        `held`: no error while those who wait are held anyway.
        """
        if self._usable():
            return
        await asyncio.gather(*(host.check(rise=1) for host in self._hosts))
        starting = any(host.state is HostState.WARMING for host in self._hosts)
        if not (self._usable() or starting or (held and self.outage)):
            raise NoHealthyHost(self._reasons(self._hosts))

    async def _refresh(self, oldest: float) -> None:
        stale = [host for host in self._usable() if host.list_age >= oldest]
        if stale:
            await asyncio.gather(*(self._forgiving(host, partial(host.refresh, oldest=oldest)) for host in stale))

    async def _forgiving(self, host: WatchedHost, work: Callable[[], Awaitable[None]]) -> None:
        """A host that fails to list is reported and left out; the others still answer."""
        try:
            await work()
        except HostError as error:
            host.report(error)


def _elsewhere(host: WatchedHost, model: str) -> str:
    """Where the host has the model computed; "" where it does that itself."""
    info = host.find(model)
    return info.remote_host if info else ""


def _resolved(host: WatchedHost, model: str) -> ResolvedModel:
    info = host.find(model)
    return ResolvedModel(
        model, host.name, info.digest if info else "", host.identity, loaded=canonical(model) in host.warm
    )
