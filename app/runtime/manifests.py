"""Manifests of the model store: the JSON that lists a model's config and layers, byte for byte as Ollama writes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.core.generation import Json
from app.wire.go_json import dumps, loads
from app.wire.model_names import ModelName

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_IMAGE = "application/vnd.ollama.image."
MODEL, TEMPLATE, SYSTEM = f"{_IMAGE}model", f"{_IMAGE}template", f"{_IMAGE}system"
PARAMS, LICENSE, MESSAGES = f"{_IMAGE}params", f"{_IMAGE}license", f"{_IMAGE}messages"
ADAPTER, PROJECTOR = f"{_IMAGE}adapter", f"{_IMAGE}projector"

_LARGEST_MANIFEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Layer:
    """A blob in a manifest. `digest` is "sha256:<hex>", `size` in bytes, `source` the model it was taken from."""

    digest: str
    size: int
    media_type: str = ""
    source: str = ""

    def of_type(self, media_type: str) -> Layer:
        return replace(self, media_type=media_type)

    def shared_from(self, model: str) -> Layer:
        return replace(self, source=model)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One model as the store has it. `digest` is the manifest's sha256 in bare hex; times in nanoseconds."""

    name: ModelName
    config: Layer
    layers: tuple[Layer, ...]
    raw: bytes
    digest: str
    modified_ns: int
    inode: int

    @property
    def everything(self) -> tuple[Layer, ...]:
        return (self.config, *self.layers)

    @property
    def size(self) -> int:
        """Bytes of all layers and the config, as /api/tags gives it."""
        return sum(layer.size for layer in self.everything)

    @property
    def parent(self) -> str:
        """The model whose weights this one shares, or ""."""
        model = self.layer(MODEL)
        return model.source if model else ""

    def layer(self, media_type: str) -> Layer | None:
        """The last layer of a type (a later one replaces an earlier one)."""
        return next((layer for layer in reversed(self.layers) if layer.media_type == media_type), None)

    def layers_of(self, media_type: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.media_type == media_type)


def encode_manifest(config: Layer, layers: Sequence[Layer]) -> bytes:
    """The manifest's bytes, with the newline that Go's encoder ends with (its digest covers it)."""
    return (
        dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": _encoded(config.of_type(config.media_type or CONFIG_TYPE)),
                "layers": [_encoded(layer) for layer in layers],
            }
        )
        + b"\n"
    )


def _encoded(layer: Layer) -> Json:
    shape: dict[str, Json] = {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
    if layer.source:
        shape["from"] = layer.source
    return shape


def read_manifest(name: ModelName, path: Path) -> Manifest:
    """The manifest in `path`. Raises OSError, or ValueError where it is not one."""
    with path.open("rb") as file:
        raw = file.read(_LARGEST_MANIFEST + 1)
        status = path.stat()
    if len(raw) > _LARGEST_MANIFEST:
        raise ValueError("larger than a manifest may be")
    value = loads(raw)
    if not isinstance(value, dict) or not isinstance(layers := value.get("layers"), list):
        raise ValueError("not a manifest")
    return Manifest(
        name=name,
        config=_decoded(value.get("config")),
        layers=tuple(_decoded(layer) for layer in layers),
        raw=raw,
        digest=hashlib.sha256(raw).hexdigest(),
        modified_ns=status.st_mtime_ns,
        inode=status.st_ino,
    )


def _decoded(value: Json) -> Layer:
    if not isinstance(value, dict):
        raise ValueError("a layer is not an object")
    digest, size = value.get("digest"), value.get("size")
    if not isinstance(digest, str) or not digest.startswith("sha256") or not isinstance(size, int) or size < 0:
        raise ValueError("a layer has no digest or size")
    return Layer(digest, size, str(value.get("mediaType") or ""), str(value.get("from") or ""))
