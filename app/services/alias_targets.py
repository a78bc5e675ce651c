"""Where an alias leads: from targets to models, and what hinders each of them now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from app.core.errors import HostUnreachable, LoupeError, ModelNotFound
from app.core.hosts import ANSWERING
from app.services.alias_values import Alias, Defaults, Kind, Target
from app.services.host_pool import HostPool
from app.services.watched_host import canonical

DEEPEST = 8  # aliases that point at aliases


@dataclass(frozen=True, slots=True)
class Wish:
    """What the advisor is asked: the best of a family ("*": of all models), on one host or any ("").

    `loaded`: one that is loaded goes first. `context` None is the usual one.
    """

    family: str
    host: str = ""
    context: int | None = None
    loaded: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """Names, the best first; none where nothing is good. `why` is a sentence."""

    names: tuple[str, ...]
    why: str


Choose = Callable[[Wish], Awaitable[Choice]]


@dataclass(frozen=True, slots=True)
class Stop:
    """A model on the way of an alias. `why` tells how a choice was made, `defaults` are those in force for it."""

    target: Target
    model: str
    host: str
    defaults: Defaults
    why: str = ""

    @property
    def text(self) -> str:
        return self.model + (f" on {self.host}" if self.host else "")


@dataclass(frozen=True, slots=True)
class Step:
    """A target as it is now: the models that it stands for with what hinders each of them ("" nothing)."""

    target: Target
    stops: tuple[tuple[Stop, str], ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AliasView:
    """`model` and `host` answer now ("" none); `shadowed`: a host has a model of the alias's name too; `tried` are
    those that cannot answer."""

    alias: Alias
    steps: tuple[Step, ...]
    model: str = ""
    host: str = ""
    shadowed: bool = False
    tried: tuple[Tried, ...] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    stop: Stop
    error: LoupeError


class NoTargetAnswers(LoupeError):
    """Nothing that the alias points at can answer. The status is that of its first choice."""

    code = "no_target_answers"

    def __init__(self, alias: str, tried: Sequence[Tried]) -> None:
        told = "; ".join(f"{one.stop.text}: {one.error.message}" for one in tried) or "no model of these is here"
        super().__init__(f"nothing that {alias} points at can answer ({told})")
        errors = [one.error for one in tried]
        self.status = 404 if all(isinstance(error, ModelNotFound) for error in errors) else _worst(errors)
        waits = [error.retry_after for error in errors if error.retry_after is not None]
        self.retry_after = min(waits) if waits and self.status in (429, 503) else None


def _worst(errors: Sequence[LoupeError]) -> int:
    statuses = [error.status for error in errors if not isinstance(error, ModelNotFound)]
    return next((status for status in statuses if status in (429, 503)), statuses[0])


class AliasTargets:
    """`find` gives the alias of a name, `choose` asks the advisor."""

    def __init__(self, find: Callable[[str], Alias | None], pool: HostPool, choose: Choose) -> None:
        self._find, self._pool, self.choose = find, pool, choose

    async def steps(self, alias: Alias) -> list[tuple[Target, tuple[Stop, ...], str]]:
        """Its targets, each with the models that it stands for now and, where these are none, why."""
        return [(target, *await self._models(target, alias.defaults, 0)) for target in alias.targets]

    async def stops(self, alias: Alias) -> tuple[Stop, ...]:
        """The models that it leads to, the first choice first. Nothing is said of whether they can answer."""
        found: dict[tuple[str, str], Stop] = {}
        for _, stops, _ in await self.steps(alias):
            for stop in stops:
                found.setdefault((canonical(stop.model), stop.host), stop)
        return tuple(found.values())

    async def _models(self, target: Target, defaults: Defaults, deep: int) -> tuple[tuple[Stop, ...], str]:
        if target.kind is Kind.VARIANT:
            inner = self._find(target.name)
            if inner is None:
                return (Stop(target, target.name, target.host, defaults),), ""
            if deep >= DEEPEST:
                return (), "aliases point at aliases too deep"
            return await self._through(inner, target, defaults.over(inner.defaults), deep + 1)
        context = defaults.options.get("num_ctx")
        wish = Wish(
            target.name, target.host, context if isinstance(context, int) else None, loaded=target.kind is Kind.FAMILY
        )
        try:
            choice = await self.choose(wish)
        except LoupeError as error:
            return (), error.message
        return tuple(Stop(target, name, target.host, defaults, choice.why) for name in choice.names), choice.why

    async def _through(
        self, inner: Alias, target: Target, defaults: Defaults, deep: int
    ) -> tuple[tuple[Stop, ...], str]:
        found: list[Stop] = []
        problems = []
        for one in inner.targets:
            stops, why = await self._models(one, defaults, deep)
            found += [replace(stop, target=target, host=target.host or stop.host) for stop in stops]
            problems += [] if stops else [why]
        return tuple(found), "; ".join(problems)

    async def hindrance(self, stop: Stop) -> LoupeError | None:
        """Why it cannot answer now; None if it can, or if that is open (a host starts, or was lost a moment ago)."""
        try:
            found = await self._pool.resolve(stop.model)
        except LoupeError as error:
            return error
        if not stop.host or self._pool.offers(stop.model, stop.host):
            return None
        status = next((one for one in self._pool.statuses() if one.address.name == stop.host), None)
        if status is None:
            return HostUnreachable(stop.host, "there is no such host any more")
        if found.host and status.state in ANSWERING and not status.draining:
            return ModelNotFound(stop.model, f"{stop.host} does not have {stop.model}")
        return HostUnreachable(stop.host, status.error or ("it is drained" if status.draining else str(status.state)))

    def sure(self, stop: Stop) -> bool:
        """Whether it is known that a host has the model and can be used."""
        return self._pool.offers(stop.model, stop.host)

    async def view(self, alias: Alias) -> AliasView:
        steps, first, tried = [], None, list[Tried]()
        for target, stops, why in await self.steps(alias):
            told = []
            for stop in stops:
                problem = await self.hindrance(stop)
                first = first or (stop if problem is None else None)
                told.append((stop, "" if problem is None else problem.message))
                tried += [] if problem is None else [Tried(stop, problem)]
            steps.append(Step(target, tuple(told), "" if stops else why))
        model, host = (first.model, first.host) if first else ("", "")
        return AliasView(alias, tuple(steps), model, host, self._pool.offers(alias.name), tuple(tried))


def nobody(alias: Alias, tried: Sequence[Tried]) -> LoupeError:
    """An alias for one model fails as that model does, unless it is not there."""
    if len(tried) == 1 and not isinstance(tried[0].error, ModelNotFound):
        return tried[0].error
    return NoTargetAnswers(alias.name, tried)
