"""What a model's metadata says about the memory it will take, layer by layer. Pure.

Source: the keys that llama.cpp's loader reads for each architecture, with its defaults. What an answer withholds
(`/api/show` empties long arrays unless asked to be verbose) or an architecture keeps in a way that is not modelled
here is named in `ModelFacts.unknown`, and the part that hangs on it stays None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from app.core.generation import Json
from app.core.hosts import ModelDetail, TensorInfo
from app.models.ggml_types import TYPE_BY_NAME
from app.models.gguf_file import GgufFile, GgufTensor
from app.models.memory_architectures import MODELLED
from app.models.memory_layers import Keys, Layer, Scratch, Withheld, layers_of, scratch_of, sliding_window


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`weights` in bytes; `copied` the bytes of block matrices by type; `layers` None where they are not known.

    `window` is the sliding window in tokens (0: none), `context_length` the longest context it was made for.
    `weights_exact` is False where the weights are the size of a file, which holds the vocabulary's text as well.
    """

    architecture: str
    weights: int | None
    weights_exact: bool = True
    copied: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[Layer, ...] | None = None
    window: int = 0
    scratch: Scratch | None = None
    vocabulary: int | None = None
    context_length: int | None = None
    unknown: tuple[str, ...] = ()


def facts_of_file(file: GgufFile) -> ModelFacts:
    """The facts in a GGUF file. Raises ModelFileDamaged when the file has changed since it was opened."""
    return _facts(file.metadata, file.tensors, file.vocab_size, None)


def facts_of_detail(detail: ModelDetail, size: int | None = None) -> ModelFacts:
    """The facts in `/api/show`; `size` (of `/api/tags`, in bytes) stands in for tensors that it does not list."""
    keys = Keys(detail.info)
    vocabulary = keys.number("vocab_size") or _rows(detail.tensors) or _length(detail.info, "tokenizer.ggml.tokens")
    return _facts(detail.info, detail.tensors, vocabulary, size)


def _facts(
    info: Mapping[str, Json], tensors: Sequence[GgufTensor | TensorInfo], vocabulary: int | None, size: int | None
) -> ModelFacts:
    keys = Keys(info)
    unknown: list[str] = []
    weights = _weights(tensors)
    if weights is None and size is None:
        unknown.append("weights: the tensors are not listed, or one is of an unknown type")
    elif weights is None:
        unknown.append("weights: taken from the size of the file")
    layers, scratch, window = None, None, 0
    try:
        window = sliding_window(keys)
        layers, scratch = layers_of(keys), scratch_of(keys)
    except Withheld as withheld:
        unknown.append(f"layers: {withheld}")
    if keys.architecture not in MODELLED and layers is not None:
        unknown.append(f"layers: {keys.architecture or 'the architecture'} is taken for a plain transformer")
    if vocabulary is None:
        unknown.append("vocabulary: its size is not told")
    return ModelFacts(
        architecture=keys.architecture,
        weights=weights if weights is not None else size,
        weights_exact=weights is not None,
        copied=_copied(tensors),
        layers=layers,
        window=window,
        scratch=scratch,
        vocabulary=vocabulary,
        context_length=keys.number("context_length"),
        unknown=tuple(unknown),
    )


def _weights(tensors: Iterable[GgufTensor | TensorInfo]) -> int | None:
    """Bytes of all tensors; None where there are none, or one has a type or a shape that cannot be."""
    sizes = [tensor_size(tensor) for tensor in tensors]
    known = [size for size in sizes if size is not None]
    return sum(known) if known and len(known) == len(sizes) else None


def _copied(tensors: Iterable[GgufTensor | TensorInfo]) -> dict[str, int]:
    """Bytes by type of the matrices that a backend may keep a second time, rearranged for its kernels."""
    found: dict[str, int] = {}
    for tensor in tensors:
        # The kernels take eight rows at a time (ggml-cpu/repack); an embedding is looked up row by row and left alone.
        if len(tensor.shape) < 2 or tensor.shape[1] % 8 or tensor.name == "token_embd.weight":
            continue
        found[tensor.type] = found.get(tensor.type, 0) + (tensor_size(tensor) or 0)
    return found


def tensor_size(tensor: GgufTensor | TensorInfo) -> int | None:
    """Bytes of a tensor; None where its type is unknown, or has no such shape."""
    kind = TYPE_BY_NAME.get(tensor.type)
    if kind is None or not tensor.shape or tensor.shape[0] % kind.block or min(tensor.shape) <= 0:
        return None
    size = kind.row_bytes(tensor.shape[0])
    for rows in tensor.shape[1:]:
        size *= rows
    return size


def _rows(tensors: Iterable[GgufTensor | TensorInfo]) -> int | None:
    return next((t.shape[1] for t in tensors if t.name == "token_embd.weight" and len(t.shape) > 1), None)


def _length(info: Mapping[str, Json], key: str) -> int | None:
    value = info.get(key)
    return len(value) if isinstance(value, list) and value else None
