"""What models are there: families and variants over all hosts, with what is loaded and what is being made.

Asks the hosts through the `Fleet` port and remembers each model's details by digest, so that a look costs two short
requests a host. Grouping is `families`; this module only gathers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.core.errors import HostError, LoupeError, ModelNotFound
from app.core.generation import GenerationRequest, Json
from app.core.hosts import ANSWERING, HostStatus, LoadedModel, ModelDetail, ModelInfo
from app.core.making import STARTER_FAMILY, STARTER_PROVENANCE
from app.core.ports import Backend, Clock, Fleet, SystemClock
from app.models.families import Family, Variant, facts_of, group
from app.models.naming import parameter_size, parse_name, read_tag, same_model

FRESH_SECONDS = 1.0  # one look serves all pages that ask within this time
STALE_SECONDS = 10.0
SHOWS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class CatalogVariant:
    """One quantization. `size` in bytes, `bpw` true bits per weight (None where the host lists no tensors).

    `state` is ready, making or waiting (to be made); `progress` 0..1 while it is being made. `defaults` are the model's
    own parameters. `conflict`: another host has other content under this name. `types` is the share of the weights by
    storage format, the commonest first.
    """

    name: str
    label: str
    digest: str = ""
    size: int = 0
    bpw: float | None = None
    aliases: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    loaded: LoadedModel | None = None
    state: str = "ready"
    progress: float | None = None
    reference: bool = False
    conflict: bool = False
    remote: bool = False
    defaults: Mapping[str, Json] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    types: Mapping[str, float] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return self.hosts[0] if self.hosts else ""

    @property
    def key(self) -> str:
        """The name, with the digest where that alone does not say which one: what `CatalogView.find` finds it by."""
        return f"{self.name} {self.digest[:12]}" if self.conflict else self.name


@dataclass(frozen=True, slots=True)
class CatalogFamily:
    """Variants of one model, the most bits first. `kind` names what sets it apart (qat, adapter …), or ""."""

    key: str
    title: str
    kind: str
    parameter_size: str
    context_length: int | None
    variants: tuple[CatalogVariant, ...]
    provenance: str = ""
    license: str = ""


@dataclass(frozen=True, slots=True)
class CatalogView:
    """One look. `problems` are sentences about hosts or models that could not be read."""

    families: tuple[CatalogFamily, ...] = ()
    hosts: tuple[HostStatus, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def loaded(self) -> tuple[LoadedModel, ...]:
        return tuple(one.loaded for family in self.families for one in family.variants if one.loaded is not None)

    def find(self, name: str) -> tuple[CatalogFamily, CatalogVariant] | None:
        """By name or alias, as a user may have typed it, or by key."""
        for family in self.families:
            for variant in family.variants:
                if name == variant.key or any(same_model(name, known) for known in (variant.name, *variant.aliases)):
                    return family, variant
        return None


@dataclass(slots=True)
class _Gathered:
    """What the hosts said in one look."""

    infos: dict[str, list[tuple[ModelInfo, str]]] = field(default_factory=dict)  # by digest, with the host
    loaded: dict[str, LoadedModel] = field(default_factory=dict)  # by digest
    problems: list[str] = field(default_factory=list)
    heard: int = 0  # hosts that answered


class Catalog:
    """`run` carries a load or unload request the way every request goes; `making` tells what is being made now."""

    def __init__(
        self, fleet: Fleet, run: Callable[[GenerationRequest], Awaitable[None]],
        making: Callable[[], Mapping[str, float | None]] = dict, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self._fleet, self._run, self._making = fleet, run, making
        self._clock = clock or SystemClock()
        self._details: dict[str, ModelDetail] = {}
        self._view, self._seen_at = CatalogView(), float("-inf")
        self._lock = asyncio.Lock()
        self._looking: asyncio.Task[CatalogView] | None = None

    async def snapshot(self, *, stale_ok: bool = False) -> CatalogView:
        """The present view, at most a second old. Never raises for a host that fails: it is named in `problems`.

        With `stale_ok` one of up to ten seconds comes at once, and a new look is begun behind it: a host that is busy
        with a prompt answers late, and a page that draws an answer must not wait for it.

        While no host answers at all, the models last seen stay in the view (none of them loaded): a host that is
        started again has them still, and a list that empties itself for a moment helps nobody.
        """
        age = self._clock.monotonic() - self._seen_at
        if stale_ok and age <= STALE_SECONDS:
            if age > FRESH_SECONDS and (self._looking is None or self._looking.done()):
                self._looking = asyncio.create_task(self._look(), name="catalog")
            return self._view
        return await self._look()

    async def _look(self) -> CatalogView:
        async with self._lock:
            if self._clock.monotonic() - self._seen_at > FRESH_SECONDS:
                gathered = await self._gather()
                families = self._families(gathered) if gathered.heard else _remembered(self._view.families)
                families = tuple(with_making(families, self._making()))
                self._view = CatalogView(families, self._fleet.statuses(), tuple(gathered.problems))
                self._seen_at = self._clock.monotonic()
            return self._view

    def detail(self, digest: str) -> ModelDetail | None:
        """What `/api/show` told of a model of the last look."""
        return self._details.get(digest)

    def with_weights(self, sha256: str) -> str:
        """The variant whose host shows a file of that hash as its weights, a loaded one first; "" for none."""
        found = [
            variant
            for family in self._view.families
            for variant in family.variants
            if (detail := self._details.get(variant.digest)) and sha256 in detail.modelfile
        ]
        return max(found, key=lambda variant: variant.loaded is not None).name if found else ""

    def look_again(self) -> None:
        self._seen_at = float("-inf")

    async def load(self, name: str) -> None:
        """Load a variant and return when it is ready. Raises what a generation would raise."""
        await self._ask(name, {})

    async def unload(self, name: str) -> None:
        await self._ask(name, {"keep_alive": 0})

    async def _ask(self, name: str, extra: dict[str, Json]) -> None:
        try:
            await self._run(GenerationRequest("generate", {"model": name, "stream": True, **extra}))
        finally:
            self.look_again()

    # -- gathering ----------------------------------------------------------------------------------------------

    async def _gather(self) -> _Gathered:
        gathered = _Gathered()
        up = [s.address.name for s in self._fleet.statuses() if s.state in ANSWERING]
        await asyncio.gather(*(self._read_host(name, gathered) for name in up))
        await self._read_details(gathered)
        return gathered

    async def _read_host(self, name: str, gathered: _Gathered) -> None:
        try:
            backend = self._fleet.backend(name)
            models, loaded = await asyncio.gather(backend.models(), backend.loaded())
        except LoupeError as error:
            gathered.problems.append(error.message)
            return
        gathered.heard += 1
        for info in models:
            gathered.infos.setdefault(info.digest, []).append((info, name))
        gathered.loaded |= {model.digest: model for model in loaded}

    async def _read_details(self, gathered: _Gathered) -> None:
        gate = asyncio.Semaphore(SHOWS_AT_ONCE)

        async def read(digest: str, info: ModelInfo, backend: Backend) -> None:
            async with gate:
                try:
                    self._details[digest] = await backend.show(info.name)
                except (HostError, ModelNotFound) as error:
                    gathered.problems.append(f"{info.name}: {error.message}")

        missing = [
            read(digest, rows[0][0], self._fleet.backend(rows[0][1]))
            for digest, rows in gathered.infos.items()
            if digest not in self._details
        ]
        await asyncio.gather(*missing)
        self._details = {digest: self._details[digest] for digest in gathered.infos if digest in self._details}

    # -- the view -----------------------------------------------------------------------------------------------

    def _families(self, gathered: _Gathered) -> tuple[CatalogFamily, ...]:
        facts = [
            facts_of(info, self._details.get(digest, ModelDetail({})))
            for digest, rows in gathered.infos.items()
            for info in {info.name: info for info, _ in rows}.values()
        ]
        counts: dict[tuple[str, ...], set[str]] = {}
        for digest, rows in gathered.infos.items():
            for info, _ in rows:
                counts.setdefault(parse_name(info.name).folded, set()).add(digest)
        conflicts = {name for name, digests in counts.items() if len(digests) > 1}
        return tuple(self._family(family, gathered, conflicts) for family in group(facts))

    def _family(self, family: Family, gathered: _Gathered, conflicts: set[tuple[str, ...]]) -> CatalogFamily:
        first = gathered.infos[family.variants[0].digest][0][0]
        detail = self._details.get(first.digest, ModelDetail({}))
        variants = tuple(
            self._variant(variant, gathered, conflicts, reference=index == 0 and _is_full(variant))
            for index, variant in enumerate(family.variants)
        )
        count = family.structure.parameter_count
        return CatalogFamily(
            key=family.variants[0].digest[:12],
            title=family.title,
            kind=family.kind,
            parameter_size=first.details.parameter_size or (parameter_size(count) if count else ""),
            context_length=first.details.context_length or _context(detail),
            variants=variants,
            provenance=STARTER_PROVENANCE if any(v.name in STARTER_FAMILY for v in variants) else "",
            license=detail.license.strip().partition("\n")[0],
        )

    def _variant(
        self, variant: Variant, gathered: _Gathered, conflicts: set[tuple[str, ...]], *, reference: bool
    ) -> CatalogVariant:
        rows = gathered.infos[variant.digest]
        detail = self._details.get(variant.digest, ModelDetail({}))
        return CatalogVariant(
            name=variant.name,
            label=variant.label,
            digest=variant.digest,
            size=variant.size,
            bpw=variant.bits_per_weight,
            types=variant.types,
            aliases=variant.aliases,
            hosts=tuple(dict.fromkeys(host for _, host in rows)),
            loaded=gathered.loaded.get(variant.digest),
            reference=reference,
            conflict=parse_name(variant.name).folded in conflicts,
            remote=bool(rows[0][0].remote_host),
            defaults=parse_parameters(detail.parameters),
            capabilities=detail.capabilities or rows[0][0].capabilities,
        )


def _remembered(families: tuple[CatalogFamily, ...]) -> tuple[CatalogFamily, ...]:
    return tuple(
        replace(family, variants=variants)
        for family in families
        if (variants := tuple(replace(v, loaded=None) for v in family.variants if v.state == "ready"))
    )


def _is_full(variant: Variant) -> bool:
    """Only unquantized weights can be what the others are measured against."""
    return variant.label in ("F32", "F16", "BF16")


def _context(detail: ModelDetail) -> int | None:
    length = detail.info.get(f"{detail.info.get('general.architecture')}.context_length")
    return length if isinstance(length, int) else None


def with_making(families: Sequence[CatalogFamily], making: Mapping[str, float | None]) -> list[CatalogFamily]:
    """Add the variants that are being made, or wait to be, to their family (a new one if there is none yet)."""
    result = list(families)
    for name, progress in making.items():
        parsed = parse_name(name)
        reading = read_tag(parsed.tag)
        if any(name == variant.name for family in result for variant in family.variants):
            continue
        state = "waiting" if progress is None else "making"
        variant = CatalogVariant(name, reading.label, state=state, progress=progress)
        title = f"{parsed.model}:{reading.stem}" if reading.stem else parsed.model
        home = next((i for i, family in enumerate(result) if family.title == title), None)
        if home is None:
            provenance = STARTER_PROVENANCE if name in STARTER_FAMILY else ""
            result.append(CatalogFamily(title, title, "", "", None, (variant,), provenance))
        else:
            result[home] = replace(result[home], variants=(*result[home].variants, variant))
    return result


def parse_parameters(text: str) -> dict[str, Json]:
    """The `parameters` text of `/api/show`: a name, blanks, a value on each line; a repeated name is a list.

    Strings are Go-quoted (recorded: `stop    "<|im_start|>"`), everything else is a JSON number or word.
    """
    found: dict[str, list[Json]] = {}
    for line in text.splitlines():
        name, _, raw = line.strip().partition(" ")
        if not name or not raw.strip():
            continue
        try:
            value: Json = json.loads(raw.strip())
        except ValueError:
            value = raw.strip()
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 or name == "stop" else values[0] for name, values in found.items()}
