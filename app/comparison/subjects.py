"""The variants under comparison as their host describes them, and which of them is the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.comparison.plan import MOST_VARIANTS, Asked
from app.comparison.results import Memory, VariantResult
from app.core.errors import BadRequest, ModelNotFound
from app.core.hosts import ModelDetail, ModelInfo
from app.core.ports import Backend
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.models.families import VariantFacts, facts_of, label_of
from app.models.licenses import license_name
from app.models.naming import canonical_label, nominal_bits, read_tag, same_model
from app.wire.model_names import parse_name

_FAMILY_QAT = "qat"


@dataclass(frozen=True, slots=True)
class Subject:
    """One digest. `names` are all of its names that were asked for, the first stands for it; `label` is the nickname of
    its quantization, `bits` its true bits a weight."""

    names: tuple[str, ...]
    info: ModelInfo
    detail: ModelDetail
    facts: VariantFacts
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def digest(self) -> str:
        return self.info.digest

    @property
    def label(self) -> str:
        return label_of(self.facts)

    @property
    def bits(self) -> float:
        """For putting in order; from the label where the host lists no tensors."""
        return self.facts.bits_per_weight or nominal_bits(self.label)

    @property
    def qat(self) -> bool:
        words = f"{self.name} {' '.join(self.facts.identity)}".casefold()
        return read_tag(parse_name(self.name).tag).qat or _FAMILY_QAT in words.replace("-", " ").split()

    @property
    def license(self) -> str:
        return license_name(self.detail.license)

    def result(self, *, reference: bool, memory: Memory | None) -> VariantResult:
        """What is known of it before anything was measured."""
        total = sum(self.facts.types.values())
        return VariantResult(
            name=self.name,
            digest=self.digest,
            quantization=self.label,
            size=self.info.size,
            bits_per_weight=self.facts.bits_per_weight,
            aliases=tuple(dict.fromkeys((*self.names[1:], *self.aliases))),
            types={kind: count / total for kind, count in self.facts.types.items()},
            reference=reference,
            memory=memory,
            license=self.license,
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is to be compared: names on one host."""

    family: str
    host: str
    names: tuple[str, ...]


def choose(asked: Asked, view: CatalogView) -> Chosen:
    """The variants on the host that has most of them. Raises `BadRequest`, `ModelNotFound`."""
    wanted = [*asked.models, *([asked.reference] if asked.reference else [])]
    family, first = _found(asked.models[0], view)
    found = [_found(name, view, family) for name in wanted]
    variants = {variant.name: variant for _, variant in found}
    if len(asked.models) == 1:
        variants |= {one.name: one for one in family.variants if _usable(one)}
    host = asked.host or _host_with_most(list(variants.values()), first)
    missing = [name for name, (_, variant) in zip(wanted, found, strict=True) if host not in variant.hosts]
    if missing:
        raise BadRequest(f"all variants have to be on one host: {', '.join(missing)} is not on {host}", "host")
    names = [name for name, variant in variants.items() if host in variant.hosts]
    if len({variants[name].digest for name in names}) < 2:
        raise BadRequest(_nothing_to_compare(asked, family.title, names[0], host), "model")
    if len(names) > MOST_VARIANTS:
        raise BadRequest(f"at most {MOST_VARIANTS} variants can be compared at once", "model")
    spelled = {variant.name: name for name, (_, variant) in zip(wanted, found, strict=True) if _is_name(name, variant)}
    names = [spelled.get(name, name) for name in names]
    named = zip(wanted, found, strict=True)
    twice = [name for name, (_, variant) in named if name not in names and _is_name(name, variant)]
    return Chosen(family.title, host, tuple(dict.fromkeys((*names, *twice))))


async def look(backend: Backend, names: Sequence[str]) -> list[Subject]:
    """What the host says of the names now, one subject for each digest, the most bits first. Raises `ModelNotFound`."""
    listed = await backend.models()
    subjects: dict[str, Subject] = {}
    for name in names:
        info = next((info for info in listed if same_model(info.name, name)), None)
        if info is None:
            raise ModelNotFound(name)
        if (known := subjects.get(info.digest)) is not None:
            subjects[info.digest] = replace(known, names=tuple(dict.fromkeys((*known.names, info.name))))
            continue
        detail = await backend.show(info.name)
        others = tuple(sorted(one.name for one in listed if one.digest == info.digest and one.name != info.name))
        subjects[info.digest] = Subject((info.name,), info, detail, facts_of(info, detail), others)
    return sorted(subjects.values(), key=lambda one: (-one.bits, -one.info.size, one.name))


def reference_of(subjects: Sequence[Subject], wanted: str = "") -> int:
    """The place of the reference: the one that was asked for, else the one of the most bits that is not QAT."""
    for at, subject in enumerate(subjects):
        if wanted and any(same_model(wanted, name) for name in (*subject.names, *subject.aliases)):
            return at
    return next((at for at, subject in enumerate(subjects) if not subject.qat), 0)


def _found(name: str, view: CatalogView, family: CatalogFamily | None = None) -> tuple[CatalogFamily, CatalogVariant]:
    """A variant by its name, a family by its title (its variant of the most bits), a quantization of `family`."""
    found = view.find(name) or _of_title(name, view) or _of_label(name, family)
    if found is None:
        raise ModelNotFound(name)
    family, variant = found
    if variant.remote:
        raise BadRequest(f"{name} is computed elsewhere: there is nothing of it here to compare", "model")
    if variant.state != "ready":
        raise BadRequest(f"{name} is still being made", "model")
    return family, variant


def _of_title(name: str, view: CatalogView) -> tuple[CatalogFamily, CatalogVariant] | None:
    """A family by its title, as the pages show it."""
    wanted = name.strip().casefold()
    family = next((one for one in view.families if one.title.casefold() == wanted or one.key == wanted), None)
    ready = [variant for variant in family.variants if _usable(variant)] if family else []
    return (family, ready[0]) if family and ready else None


def _of_label(name: str, family: CatalogFamily | None) -> tuple[CatalogFamily, CatalogVariant] | None:
    """`q4_K_M` of a family that has one such variant."""
    label = canonical_label(name)
    of_label = [variant for variant in (family.variants if family else ()) if variant.label.upper() == label]
    return (family, of_label[0]) if family and len(of_label) == 1 else None


def _usable(variant: CatalogVariant) -> bool:
    return variant.state == "ready" and not variant.remote


def _nothing_to_compare(asked: Asked, family: str, name: str, host: str) -> str:
    if len(asked.models) > 1:
        return f"there is nothing to compare: {', '.join(asked.models)} are one and the same file under several names"
    others = f"make or get another one first (python -m app models make {name})"
    return f"there is nothing to compare: {family} has one variant on {host}; {others}"


def _is_name(name: str, variant: CatalogVariant) -> bool:
    """Whether it names the variant, and not its family."""
    return any(same_model(name, known) for known in (variant.name, *variant.aliases))


def _host_with_most(variants: Sequence[CatalogVariant], first: CatalogVariant) -> str:
    hosts = [host for variant in variants for host in variant.hosts]
    return max(first.hosts, key=hosts.count, default="")
