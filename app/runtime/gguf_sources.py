"""The model files that a create begins with: uploaded blobs, joined where they are parts of one, or a model's layers.

Everything here reads the disk; callers use threads. Source: server/create.go and server/model.go of Ollama 0.33; the
sentences are Ollama's where it has one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from app.core.errors import BadRequest, ModelFileDamaged, StoreError
from app.models.ggml_types import file_type_name
from app.models.gguf_copy import file_type_number
from app.models.gguf_file import GgufFile, read_gguf
from app.runtime.create_request import CannotCreate
from app.runtime.manifests import ADAPTER, MODEL, PROJECTOR, Layer
from app.runtime.model_store import ModelStore
from app.wire.go_duration import quote_go

DRAFT = "application/vnd.ollama.image.draft"
WEIGHTS = frozenset({MODEL, PROJECTOR, ADAPTER, DRAFT})
_EMBEDDED = ("a.", "mm.", "mtp.", "s.", "v.")
_PART_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """One GGUF layer to be, in one file or in `parts`. `source` is the model it was taken from, `name` the path under
    which it was uploaded; of the two one is set. `digest` and `size` are the first file's."""

    media_type: str
    parts: tuple[GgufFile, ...]
    digest: str
    size: int
    source: str = ""
    name: str = ""

    @property
    def gguf(self) -> GgufFile:
        return self.parts[0]

    @property
    def imported(self) -> bool:
        """Whether it was uploaded and is to be written anew; what another model has is taken as it is."""
        return bool(self.name)

    @property
    def has_embedded_tensors(self) -> bool:
        """Whether there are tensors of a vision, audio or draft part between those of the model: Ollama's own layout,
        which llama.cpp would not copy."""
        return any(tensor.name.startswith(_EMBEDDED) for part in self.parts for tensor in part.tensors)

    @property
    def file_type(self) -> str:
        """The label for what the weights are stored as; guessed from the tensors where the file does not say it."""
        return file_type_name(file_type_number(self.parts))

    @property
    def parameter_count(self) -> int:
        return sum(part.parameter_count for part in self.parts)


def kind_of_files(store: ModelStore, files: Mapping[str, str]) -> str:
    """ "gguf", "safetensors", or "" where neither the names nor the first bytes tell."""
    for path, digest in files.items():
        if path.endswith(".safetensors"):
            return "safetensors"
        if path.endswith(".gguf"):
            return "gguf"
        with contextlib.suppress(OSError, BadRequest), store.blob_path(digest).open("rb") as file:
            if file.read(4) == b"GGUF":
                return "gguf"
    return ""


def uploaded(store: ModelStore, name: str, digest: str, media_type: str = "") -> Weights:
    """The uploaded blob `digest` as a layer; its media type follows from what it holds unless it is given.

    Raises `CannotCreate` where it is missing or damaged, `BadRequest` where it is no GGUF at all.
    """
    try:
        path = store.blob_path(digest)
    except BadRequest as error:
        raise CannotCreate(error.message, "files") from error
    _check_magic(path)
    model = _read(path, name)
    _keep(path)
    kind = media_type or _media_type(model)
    return Weights(kind, (model,), _normal(digest), model.size, name=name)


def of_model(store: ModelStore, layer: Layer, model: str) -> Weights:
    """A GGUF layer of an installed model. Raises `CannotCreate` where it is damaged, `StoreError` where it is gone."""
    path = check_layer(store, layer, model)
    return Weights(layer.media_type, (_read(path, model),), layer.digest, layer.size, source=model)


def check_layer(store: ModelStore, layer: Layer, model: str) -> Path:
    """Where a layer lies, if it is whole by its size. Raises `StoreError`."""
    path = store.blob_path(layer.digest)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise StoreError(f"stat {path}: {(error.strerror or str(error)).lower()}") from error
    if size != layer.size:
        raise StoreError(f"the layer {layer.digest} of {model} is damaged: it has {size} of {layer.size} bytes")
    _keep(path)
    return path


def joined(weights: Sequence[Weights]) -> list[Weights]:
    """`weights` with the parts of split models put together, at the end.

    Raises `CannotCreate` where parts do not fit together, or what comes of it is no model.
    """
    whole: list[Weights] = []
    groups: dict[tuple[str, str, int], list[Weights]] = {}
    for one in weights:
        key = _split_key(one)
        if key is None:
            whole.append(one)
        else:
            groups.setdefault(key, []).append(one)
    whole += [_merged(parts, key[2]) for key, parts in groups.items()]
    for one in whole:
        if not one.gguf.architecture or not any(part.tensors for part in one.parts):
            missing = "tensors" if one.gguf.architecture else "architecture"
            raise CannotCreate(f"{one.name} holds no model: it has no {missing}", "files")
    return whole


def _media_type(model: GgufFile) -> str:
    kind = model.text("general.type") or ""
    if kind == "adapter":
        return ADAPTER
    blocks, vision = model.own_number("block_count") or 0, model.own_number("vision.block_count") or 0
    clip = model.architecture == "clip" and (
        model.metadata.get("clip.has_vision_encoder") is True or model.metadata.get("clip.has_audio_encoder") is True
    )
    return PROJECTOR if kind in ("projector", "mmproj") or (blocks == 0 and (vision > 0 or clip)) else MODEL


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise CannotCreate(f"open {path}: no such file or directory", "files") from None
    except OSError as error:
        raise StoreError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    if magic != b"GGUF":
        raise BadRequest("supplied file was not in GGUF format", "files")


def _read(path: Path, name: str) -> GgufFile:
    try:
        return read_gguf(path)
    except ModelFileDamaged as error:
        raise CannotCreate(f"{name} is not a GGUF file that can be used: {error.why}", "files") from error


def _keep(path: Path) -> None:
    """Marks a blob as used, as Ollama does: what is older than an hour and in no manifest goes at the next start."""
    with contextlib.suppress(OSError):  # somebody else's file; it is in a manifest or will be soon
        os.utime(path)


def _normal(digest: str) -> str:
    return digest.replace("-", ":", 1)


def _split_key(weights: Weights) -> tuple[str, str, int] | None:
    count = _split_number(weights.gguf, "split.count")
    if count is None or count <= 1:
        return None
    shown = quote_go(weights.name)
    match = _PART_NAME.fullmatch(PurePosixPath(weights.name).name)
    if match is None or not int(match[2]) or not int(match[3]):
        raise CannotCreate(f"split GGUF {shown} must use llama.cpp split filename pattern", "files")
    if int(match[3]) != count:
        told = f"split GGUF {shown} filename count {int(match[3])} does not match metadata count {count}"
        raise CannotCreate(told, "files")
    number = _split_number(weights.gguf, "split.no")
    if number is None:
        raise CannotCreate(f"split GGUF {shown} is missing split.no metadata", "files")
    if number != int(match[2]) - 1:
        told = f"split GGUF {shown} filename index {int(match[2]) - 1} does not match metadata index {number}"
        raise CannotCreate(told, "files")
    return weights.media_type, match[1], count


def _split_number(model: GgufFile, key: str) -> int | None:
    value = model.number(key)
    value = model.own_number(key) if value is None else value
    return value if value is not None and 0 <= value <= 0xFFFF else None


def _merged(parts: list[Weights], count: int) -> Weights:
    by_number = {_split_number(part.gguf, "split.no"): part for part in parts}
    shown = quote_go(parts[0].name)
    if len(parts) != count:
        raise CannotCreate(f"split GGUF {shown} has {len(parts)} shards, expected {count}", "files")
    if len(by_number) != count:
        raise CannotCreate("split GGUF has a shard index twice", "files")
    ordered = [by_number[number] for number in range(count)]
    return replace(ordered[0], parts=tuple(part.gguf for part in ordered), size=sum(part.size for part in ordered))
