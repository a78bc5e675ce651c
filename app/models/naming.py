"""What names and tags tell: quantization labels, what is left of a tag without them, sizes as Ollama prints them. Pure.

Tags are a convention (`<size>[-variant]-<quantization>`), so a label read from one is a nickname; the truth is in the
tensors. The grammar of names is in `wire.model_names`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from app.models.ggml_types import TYPE_BY_NAME, file_type_name
from app.wire.model_names import DEFAULT_TAG, ModelName, parse_name

__all__ = [
    "ModelName",
    "TagReading",
    "canonical_label",
    "file_type_name",
    "nominal_bits",
    "parameter_size",
    "parse_name",
    "read_tag",
    "same_model",
    "with_level",
]

_LABEL = re.compile(
    r"(?:(?<=[-_.:/])|^)"
    r"(?P<label>(?:ud-)?(?:"
    r"iq[1-4]_(?:xxs|xs|s|m|nl|xl)"
    r"|q[1-8]_k(?:_(?:xxs|xs|s|m|l|xl|xxl))?"
    r"|q[1-8]_[01]|tq[12]_0"
    r"|bf16|fp?16|fp?32|fp8|mxfp4_moe|mxfp[468]|nvfp4|int[2-8]|[2-8]-?bit"
    r")|(?P<bare>q[1-8]))"
    r"(?=$|[-.:/])",
    re.IGNORECASE,
)
_QAT = re.compile(r"(?:^|[-_.])qat(?=$|[-_.])", re.IGNORECASE)
_SPELLINGS = {"FP16": "F16", "FP32": "F32"}
_FAMILIAR = ("INT", "FP", "MXFP", "NVFP", "IQ", "Q")
_STEPS = {"XXS": -0.4, "XS": -0.2, "S": 0.0, "M": 0.3, "L": 0.5, "XL": 0.6, "XXL": 0.7}  # within one K format


@dataclass(frozen=True, slots=True)
class TagReading:
    """A tag taken apart: `label` is canonical ("" where it names no quantization), `stem` the rest of it.

    `qat` says that the tag names weights trained for quantization: other weights, not only another format.
    """

    stem: str
    label: str
    qat: bool

    @property
    def dynamic(self) -> bool:
        """Whether the label names a mixture that differs by layer beyond llama-quantize's own (UD-…)."""
        return self.label.startswith("UD-")


def read_tag(tag: str) -> TagReading:
    """Take a tag apart. `latest` has an empty stem: it says nothing about the model."""
    found = list(_LABEL.finditer(tag))
    qat = bool(_QAT.search(tag))
    if not found:
        return TagReading("" if tag.casefold() == DEFAULT_TAG else tag, "", qat)
    last = found[-1]
    stem = (tag[: last.start()].rstrip("-_.:/") + tag[last.end() :]).lstrip("-_.:/")
    stem = re.sub(r"\.gguf$", "", stem, flags=re.IGNORECASE)
    return TagReading(stem, "" if last["bare"] else canonical_label(last["label"]), qat)


def canonical_label(text: str) -> str:
    """One spelling for a quantization label: upper case, F16 for fp16, INT4 for 4bit; "" for nothing and "unknown"."""
    label = text.strip().upper()
    if label in ("", "UNKNOWN"):
        return ""
    bits = re.fullmatch(r"([2-8])-?BIT", label)
    return f"INT{bits[1]}" if bits else _SPELLINGS.get(label, label)


def nominal_bits(label: str) -> float:
    """Roughly how many bits a weight takes under `label`, for putting labels in order; 0 for an unknown one."""
    name = canonical_label(label).removeprefix("UD-").removesuffix("_MOE")
    if name in TYPE_BY_NAME:
        return TYPE_BY_NAME[name].bits_per_weight
    base, _, step = name.rpartition("_")
    if base in TYPE_BY_NAME and step in _STEPS:
        return TYPE_BY_NAME[base].bits_per_weight + _STEPS[step]
    digits = re.search(r"\d+", name)
    return float(digits[0]) if digits and name.startswith(_FAMILIAR) else 0.0


def with_level(name: str, level: str) -> str:
    """The name that a quantization of `name` has by the convention of its tag: `m:7b-fp16` → `m:7b-q5_K_M`.

    The first letters are small, as in Ollama's library, unless the tag itself is written in capitals (`m:F16`).
    """
    parsed = parse_name(name)
    found = _LABEL.search(parsed.tag)
    capitals = bool(found) and found["label"].isupper() if found else False
    digit = re.search(r"\d", level)
    head = level[: digit.start()] if digit else level
    label = level if capitals else head.lower() + level[len(head) :]
    stem = read_tag(parsed.tag).stem
    return replace(parsed, tag=f"{stem}-{label}" if stem else label).shortest


def same_model(one: str, other: str) -> bool:
    """Whether two spellings mean one model: `x`, `X:latest` and the name with the default host written out do."""
    return parse_name(one).folded == parse_name(other).folded


def parameter_size(count: int) -> str:
    """`count` parameters as Ollama prints them: 134515008 → "134.52M", 8030261248 → "8.0B", 1_000_000 → "1M"."""
    for unit, suffix, decimals in ((10**9, "B", 1), (10**6, "M", 2)):
        if count >= unit:
            return f"{count / unit:.{0 if count % unit == 0 else decimals}f}{suffix}"
    return f"{count / 1000:.0f}K" if count >= 1000 else str(count)
