"""The advisor's choice for an alias: which variant of a family, or of all models, to run here.

What was measured goes in: the newest finished scorecard of each variant. For the others published ladders stand in and
memory is predicted. The memory counted on is what is free and what loaded models would give back. Between families the
one with the most weights goes first that has a sound variant which fits: a small model is never better for losing less.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from app.comparison.advice import candidate
from app.comparison.results import Scorecard, Severity
from app.comparison.room import Room
from app.core.errors import LoupeError, ModelNotFound
from app.core.hosts import HostAddress
from app.core.measures import MemoryPoint
from app.core.ports import Clock
from app.core.runtime_setup import PLAIN_KV
from app.models.advisor import UNLIMITED, Candidate, advise
from app.models.catalog import Catalog, CatalogFamily, CatalogVariant, CatalogView
from app.models.memory_report import memory_at
from app.models.naming import canonical_label
from app.models.wishes import Wish as Asked
from app.services.alias_targets import Choice, Wish
from app.services.alias_values import EVERYTHING

CHOICE_SECONDS = 60.0  # how long a choice holds: an alias that changed its mind with every request would swap models
NOTHING_SECONDS = 2.0  # … where there was nothing to choose from: a host may be starting
CONTEXT = 4096  # tokens that have to fit where the alias sets none
NAMES = 3


@dataclass(frozen=True, slots=True)
class AliasChooser:
    """`cards` gives the scorecards, `address` a host's by its name, `room` what a model may take there."""

    catalog: Catalog
    cards: Callable[[], Iterable[Scorecard]]
    address: Callable[[str], HostAddress]
    room: Room

    async def __call__(self, wish: Wish) -> Choice:
        """Raises `ModelNotFound` where there is no such family."""
        view = await self.catalog.snapshot(stale_ok=True)
        families = self._families(view, wish)
        if not families:
            if wish.family == EVERYTHING:
                return Choice((), "no model that can talk is here")
            raise ModelNotFound(wish.family, f"no host has a model of the family {wish.family}")
        names: list[str] = []
        why = ""
        for variants, weights in sorted(families, key=lambda found: -found[1]):
            chosen, sentence = self._of_family(variants, wish, view)
            names += chosen
            why = why or (sentence if chosen or not weights else "")
            if len(names) >= NAMES:
                break
        if not names:
            why = self._of_family(families[0][0], wish, view)[1]
        return Choice(tuple(names[:NAMES]), why)

    def _families(self, view: CatalogView, wish: Wish) -> list[tuple[list[CatalogVariant], float]]:
        found = []
        for family in view.families:
            if wish.family != EVERYTHING and not _is(family, wish.family, view):
                continue
            usable = [one for one in family.variants if _usable(one, wish.host)]
            if usable and (wish.family != EVERYTHING or not family.kind):
                found.append((usable, max((8 * one.size / one.bpw for one in usable if one.bpw), default=0.0)))
        return found

    def _of_family(self, variants: list[CatalogVariant], wish: Wish, view: CatalogView) -> tuple[list[str], str]:
        """The best first; where one that is loaded will do, that one before it."""
        measured = self._measured()
        context = wish.context or CONTEXT
        pool = [self._candidate(one, context, measured.get(one.digest)) for one in variants]
        told = advise(pool, Asked(self._budget(variants, view), context, kv_type=self._kv_type(variants)))
        names = [name for name in (told.variant, *told.tied, told.runner_up) if name]
        if wish.loaded:
            loaded = [one.name for one in variants if one.loaded is not None]
            smallest = min(variants, key=lambda one: one.size).name
            names = [*loaded, *(names or [smallest])]
        own = {one.digest: one.name for one in variants}
        spelled = {card.name: own[digest] for digest, card in measured.items() if digest in own}
        return list(dict.fromkeys(spelled.get(name, name) for name in names)), told.sentence

    def _measured(self) -> Mapping[str, Candidate]:
        """By digest, from the newest scorecard that has it and does not refuse it."""
        found: dict[str, Candidate] = {}
        for card in self.cards():
            if card.state != "done":
                continue
            refused = {name for one in card.findings if one.severity is Severity.REFUSED for name in one.variants}
            for one in card.variants:
                if one.name not in refused:
                    found.setdefault(one.digest, candidate(one))
        return found

    def _candidate(self, variant: CatalogVariant, context: int, measured: Candidate | None) -> Candidate:
        """What was measured, with the memory that it takes as its host is set up now."""
        now = self._predicted(variant, context)
        if measured is None:
            return now
        return replace(measured, memory=now.memory, margin=now.margin) if now.memory else measured

    def _kv_type(self, variants: list[CatalogVariant]) -> str:
        """What their hosts keep the context in; where they differ, what takes most."""
        kinds = {address.kv_type for one in variants if (address := self._address(one.host)) is not None}
        return kinds.pop() if len(kinds) == 1 else PLAIN_KV

    def _predicted(self, variant: CatalogVariant, context: int) -> Candidate:
        detail = self.catalog.detail(variant.digest)
        address = self._address(variant.host)
        points, margin = tuple[MemoryPoint, ...](), variant.size // 2
        if detail is not None and address is not None:
            memory = memory_at(address, detail, variant.size, context)
            if memory.points:
                points, margin = memory.points, memory.band or 0
        return Candidate(
            name=variant.name, label=canonical_label(variant.label), size=variant.size,
            bits_per_weight=variant.bpw, memory=points, margin=margin, reference=variant.reference,
        )  # fmt: skip

    def _budget(self, variants: list[CatalogVariant], view: CatalogView) -> int:
        """Of another machine nothing is known."""
        hosts = {host for one in variants for host in one.hosts}
        addresses = [address for host in hosts if (address := self._address(host)) is not None]
        return max((self.room.budget(address, view.loaded) for address in addresses), default=UNLIMITED)

    def _address(self, host: str) -> HostAddress | None:
        try:
            return self.address(host)
        except LoupeError:
            return None


class KeptChoices:
    """The choices of `choose`, each for a while."""

    def __init__(self, choose: Callable[[Wish], Awaitable[Choice]], clock: Clock) -> None:
        self._choose, self._clock = choose, clock
        self._kept: dict[Wish, tuple[float, Choice]] = {}

    async def __call__(self, wish: Wish) -> Choice:
        now = self._clock.monotonic()
        until, choice = self._kept.get(wish, (0.0, Choice((), "")))
        if now >= until:
            choice = await self._choose(wish)
            if len(self._kept) > 256:
                self._kept.clear()
            self._kept[wish] = (now + (CHOICE_SECONDS if choice.names else NOTHING_SECONDS), choice)
        return choice

    def look_again(self) -> None:
        """Models have come or gone."""
        self._kept.clear()


def _is(family: CatalogFamily, name: str, view: CatalogView) -> bool:
    """By title or key, or by the name of one of its variants."""
    wanted = name.strip().casefold()
    found = view.find(name)
    return wanted in (family.title.casefold(), family.key) or (found is not None and found[0].key == family.key)


def _usable(variant: CatalogVariant, host: str) -> bool:
    talks = not variant.capabilities or "completion" in variant.capabilities
    return variant.state == "ready" and not variant.remote and talks and (not host or host in variant.hosts)
