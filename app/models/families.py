"""Grouping the variants of one model: which entries of a model list are quantizations of the same weights. Pure.

One family shares its structure (which quantizing does not change) and its identity (what it was trained into).
Structure alone is never enough: a base model and its instruct version have the same. Where the evidence is thin,
models stay apart; an unmerged family is an inconvenience, a wrongly merged one a wrong comparison.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from app.core.generation import Json
from app.core.hosts import ModelDetail, ModelInfo, TensorInfo
from app.models.ggml_types import TYPE_BY_NAME, file_type_name
from app.models.naming import ModelName, canonical_label, nominal_bits, parse_name, read_tag

# Words that say that the weights are others, not only stored otherwise; and what to call each.
_KINDS = re.compile(
    r"(?:^|[-_.:/])(?:(?P<qat>qat)|(?P<distilled>distill)|(?P<abliterated>abliterat|heretic)|(?P<uncensored>uncensored)"
    r"|(?P<lora>lora)|(?P<pruned>prun|reap(?![a-z])|minitron)|(?P<merged>merged?(?![a-z])|slerp|dare[-_]ties))",
    re.IGNORECASE,
)
OTHER_WEIGHTS = (*_KINDS.groupindex, "adapter")  # every `Family.kind` but ""
_REPOSITORY_ENDING = re.compile(r"[-_.](?:gguf|mlx)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Structure:
    """What stays the same whatever the weights are stored in; None where a host does not tell."""

    architecture: str = ""
    parameter_count: int | None = None
    block_count: int | None = None
    embedding_length: int | None = None
    vocab_size: int | None = None
    head_count_kv: int | tuple[int, ...] | None = None

    @property
    def known(self) -> bool:
        return bool(self.architecture and self.parameter_count)


@dataclass(frozen=True, slots=True)
class VariantFacts:
    """What is known about one entry of a model list. `types` counts weights by storage format."""

    name: str
    digest: str
    size: int
    structure: Structure = Structure()
    identity: tuple[str, ...] = ()  # fine-tune, base name, size label, version
    parent: str = ""
    quantization_level: str = ""
    file_type: int | None = None
    adapter: bool = False
    types: Mapping[str, int] = field(default_factory=dict)
    bits_per_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One quantization: `name` is the name that says most, `aliases` other names of the same digest.

    `bits_per_weight` is computed from the tensors, None where a host does not list them. `size` in bytes. `types` is
    the share of the weights by storage format, the commonest first.
    """

    name: str
    aliases: tuple[str, ...]
    digest: str
    size: int
    label: str
    bits_per_weight: float | None
    types: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Family:
    """Variants of one model, the most bits first. `title` is for people, `kind` names what sets it apart (qat …)."""

    title: str
    kind: str
    structure: Structure
    variants: tuple[Variant, ...]


def facts_of(info: ModelInfo, detail: ModelDetail) -> VariantFacts:
    """The facts in one row of `/api/tags` and its `/api/show`."""
    types = _weights_by_type(detail.tensors)
    return VariantFacts(
        name=info.name,
        digest=info.digest,
        size=info.size,
        structure=structure_of(detail.info, detail.tensors),
        identity=tuple(_word(detail.info, key) for key in ("finetune", "basename", "size_label", "version")),
        parent=detail.details.parent_model,
        quantization_level=detail.details.quantization_level,
        file_type=_whole(detail.info.get("general.file_type")),
        adapter=_word(detail.info, "type") == "adapter",
        types=types,
        bits_per_weight=_true_bits(types),
    )


def structure_of(info: Mapping[str, Json], tensors: Sequence[TensorInfo] = ()) -> Structure:
    """The structural facts in a model's metadata (of a GGUF file or of `/api/show`)."""
    architecture = _word(info, "architecture")
    rows = next((t.shape[1] for t in tensors if t.name == "token_embd.weight" and len(t.shape) > 1), None)
    kv_heads = info.get(f"{architecture}.attention.head_count_kv")
    per_layer = tuple(head for head in kv_heads if isinstance(head, int)) if isinstance(kv_heads, list) else ()
    return Structure(
        architecture=architecture,
        parameter_count=_whole(info.get("general.parameter_count")),
        block_count=_whole(info.get(f"{architecture}.block_count")),
        embedding_length=_whole(info.get(f"{architecture}.embedding_length")),
        vocab_size=_whole(info.get(f"{architecture}.vocab_size")) or rows,
        head_count_kv=per_layer or _whole(kv_heads),
    )


def type_shares(types: Mapping[str, int]) -> dict[str, float]:
    """The share of the weights that each storage format holds, the commonest first: what a label stands for."""
    count = sum(types.values())
    return {kind: types[kind] / count for kind in sorted(types, key=lambda kind: (-types[kind], kind))} if count else {}


def group(facts: Iterable[VariantFacts]) -> tuple[Family, ...]:
    """Families in the order of their titles. Names of one digest become one variant with aliases."""
    by_digest: dict[str, list[VariantFacts]] = {}
    for fact in facts:
        by_digest.setdefault(fact.digest, []).append(fact)
    merged = [_merge(same) for same in by_digest.values()]
    buckets: dict[tuple[object, ...], list[_Entry]] = {}
    for entry in merged:
        buckets.setdefault(entry.bucket, []).append(entry)
    families = [_family(members) for bucket in buckets.values() for members in _by_stem(bucket)]
    return tuple(sorted(families, key=lambda family: (family.title.casefold(), family.kind, family.variants[0].digest)))


@dataclass(frozen=True, slots=True)
class _Entry:
    """One digest on its way into a family."""

    facts: VariantFacts
    variant: Variant
    name: ModelName
    stem: str  # letters and digits of model and tag without the quantization
    kind: str

    @property
    def identified(self) -> bool:
        return any(self.facts.identity)

    @property
    def bucket(self) -> tuple[object, ...]:
        """What must be equal before names are even looked at."""
        if not self.facts.structure.known:
            return (self.facts.digest,)
        derived = self.stem if self._derived else ""
        return (self.facts.structure, tuple(word.casefold() for word in self.facts.identity), self.kind, derived)

    @property
    def _derived(self) -> bool:
        """Made from a model of another name (`FROM …`): its system prompt or parameters may differ."""
        parent = parse_name(self.facts.parent)
        return bool(self.facts.parent) and _model_stem(parent) != _model_stem(self.name)


def _merge(same: list[VariantFacts]) -> _Entry:
    """One entry for all names of a digest; the name with a label and the most to say stands for them."""

    def telling(fact: VariantFacts) -> tuple[bool, int, str]:
        reading = read_tag(parse_name(fact.name).tag)
        return (bool(reading.label), len(reading.stem), fact.name)

    best = max(same, key=telling)
    name = parse_name(best.name)
    variant = Variant(
        name=best.name,
        aliases=tuple(sorted(fact.name for fact in same if fact is not best)),
        digest=best.digest,
        size=best.size,
        label=label_of(best),
        bits_per_weight=best.bits_per_weight,
        types=type_shares(best.types),
    )
    stem = _squeezed(_model_stem(name) + read_tag(name.tag).stem)
    return _Entry(best, variant, name, stem, _kind(best))


def label_of(fact: VariantFacts) -> str:
    """The nickname of a quantization: from the tag, else what the host says, the file type, the commonest format."""
    dominant = max(fact.types, key=lambda name: fact.types[name], default="")
    candidates = (
        read_tag(parse_name(fact.name).tag).label,
        canonical_label(fact.quantization_level),
        canonical_label(file_type_name(fact.file_type)),
        canonical_label(dominant),
    )
    return next((label for label in candidates if label), "unknown")


def _by_stem(bucket: list[_Entry]) -> list[list[_Entry]]:
    """Split a bucket by name. A shorter stem (`llama3.2:3b`) joins the one longer stem that continues it, but only
    where the metadata identifies the fine-tune: otherwise `3b` may be the instruct and `3b-text` the base model."""
    stems = {entry.stem for entry in bucket}
    homes: dict[str, list[_Entry]] = {}
    for entry in bucket:
        longer = [stem for stem in stems if stem != entry.stem and stem.startswith(entry.stem)]
        ends = [stem for stem in longer if not any(other != stem and other.startswith(stem) for other in longer)]
        home = ends[0] if entry.identified and len(ends) == 1 else entry.stem
        homes.setdefault(home, []).append(entry)
    return list(homes.values())


def _family(members: list[_Entry]) -> Family:
    def order(entry: _Entry) -> tuple[float, int, str]:
        variant = entry.variant
        return (-(variant.bits_per_weight or nominal_bits(variant.label)), -variant.size, variant.name)

    members = sorted(members, key=order)
    speaking = max(members, key=lambda entry: len(entry.stem))
    tag_stem = read_tag(speaking.name.tag).stem
    model = _REPOSITORY_ENDING.sub("", speaking.name.model)
    return Family(
        title=f"{model}:{tag_stem}" if tag_stem else model,
        kind=speaking.kind,
        structure=speaking.facts.structure,
        variants=tuple(entry.variant for entry in members),
    )


def _kind(fact: VariantFacts) -> str:
    if fact.adapter:
        return "adapter"
    name = parse_name(fact.name)
    found = _KINDS.search(f"{name.model}:{name.tag}") or _KINDS.search("-".join(fact.identity))
    return found.lastgroup or "" if found else ""


def _model_stem(name: ModelName) -> str:
    return _squeezed(_REPOSITORY_ENDING.sub("", name.model))


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold())


def _weights_by_type(tensors: Sequence[TensorInfo]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for tensor in tensors:
        weights = 1
        for size in tensor.shape:
            weights *= size
        kind = tensor.type.upper()
        counts[kind] = counts.get(kind, 0) + weights
    return counts


def _true_bits(types: Mapping[str, int]) -> float | None:
    """Bits per weight over all tensors; None where there are none or a format is not known to us."""
    if not types or any(name not in TYPE_BY_NAME for name in types):
        return None
    return sum(TYPE_BY_NAME[name].bits_per_weight * count for name, count in types.items()) / sum(types.values())


def _word(info: Mapping[str, Json], key: str) -> str:
    value = info.get(f"general.{key}")
    return value if isinstance(value, str) else ""


def _whole(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
