"""How large a quantization will be, before it is made: from the tensors that a host shows, or from the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.core.generation import Json
from app.core.hosts import TensorInfo
from app.models.ggml_types import TYPE_BY_NAME
from app.models.gguf_file import GgufTensor
from app.models.gguf_writer import padding, tensor_bytes
from app.models.tensor_types import Described, choose_types, in_writing_order, shape_of

_ALIGNMENT = 32  # bytes; GGUF's own where a file does not say another


@dataclass(frozen=True, slots=True)
class ShownModel:
    """A model as `/api/show` tells it. Arrays are not shown, so of one whose heads differ by layer they are unknown."""

    info: Mapping[str, Json]
    tensors: tuple[GgufTensor, ...]

    @property
    def architecture(self) -> str:
        value = self.info.get("general.architecture")
        return value if isinstance(value, str) else ""

    def own_number(self, name: str) -> int | None:
        value = self.info.get(f"{self.architecture}.{name}")
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def shown_model(info: Mapping[str, Json], tensors: Sequence[TensorInfo]) -> ShownModel | None:
    """None where the host lists no tensors, or some in a format that is not known to us."""
    described = []
    for tensor in tensors:
        kind = TYPE_BY_NAME.get(tensor.type.upper())
        if kind is None or not tensor.shape or min(tensor.shape) < 1 or tensor.shape[0] % kind.block:
            return None
        described.append(GgufTensor(tensor.name, kind.name, tensor.shape, 0, 0))
    return ShownModel(info, tuple(described)) if described else None


def growth(model: Described, level: str) -> int:
    """Bytes that a file under `level` has more than the present one; below zero for one that is smaller.

    Raises BadRequest for a level that cannot be made.
    """
    tensors = in_writing_order(model.tensors)
    wanted = choose_types(tensors, shape_of(model), level)
    made = sum(_stored(replace(tensor, type=kind)) for tensor, kind in zip(tensors, wanted, strict=True))
    return made - sum(_stored(tensor) for tensor in tensors)


def source_bytes(model: Described) -> int:
    """Bytes of tensors that quantizing has to read."""
    return sum(tensor_bytes(tensor) for tensor in model.tensors)


def _stored(tensor: GgufTensor) -> int:
    size = tensor_bytes(tensor)
    return size + len(padding(size, _ALIGNMENT))
