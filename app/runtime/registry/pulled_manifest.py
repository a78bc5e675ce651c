"""The manifest a registry sends: checked before a byte of a layer is asked for, installed byte for byte.

A manifest comes from outside and names files of the store, so only what a model can have is let through. Its bytes
are kept as they came, because the digest that /api/tags shows is theirs (recording tags_after_pull).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.core.errors import BadRequest, ModelNotFound, StoreError
from app.core.generation import Json
from app.runtime.manifests import ADAPTER, CONFIG_TYPE, MANIFEST_TYPE, MODEL, PROJECTOR, Layer
from app.runtime.model_store import ModelStore
from app.runtime.registry.errors import RegistryError
from app.wire.go_duration import quote_go
from app.wire.go_json import JsonError, loads
from app.wire.model_names import ModelName

LARGEST_MANIFEST = 1 << 20  # as much as the store reads back
_MOST_LAYERS = 128
_LARGEST_WEIGHTS = 4 << 40
_LARGEST_TEXT = 4 << 20  # template, system, parameters, licence, messages, config: as much as the store reads back

_MANIFEST_TYPES = {MANIFEST_TYPE, "application/vnd.oci.image.manifest.v1+json"}
_CONFIG_TYPES = {CONFIG_TYPE, "application/vnd.oci.image.config.v1+json"}
_TENSOR = "application/vnd.ollama.image.tensor"
_WEIGHTS = {MODEL, ADAPTER, PROJECTOR}
_LAYER_TYPE = re.compile(r"application/vnd\.ollama\.image\.[a-z0-9][a-z0-9_+-]{0,63}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PulledManifest:
    """A manifest that was found sound. `raw` is what the registry sent."""

    raw: bytes
    config: Layer
    layers: tuple[Layer, ...]

    @property
    def everything(self) -> tuple[Layer, ...]:
        """In the order in which Ollama fetches them: the config last (recording pull_ok)."""
        return (*self.layers, self.config)

    @property
    def digests(self) -> set[str]:
        return {layer.digest for layer in self.everything}


def parse_manifest(raw: bytes) -> PulledManifest:
    """What the registry sent, or `RegistryError` with what is wrong with it."""
    try:
        value = loads(raw)
    except JsonError as error:
        raise RegistryError(error.message) from error
    if not isinstance(value, dict):
        raise RegistryError("the manifest is not a JSON object")
    if value.get("schemaVersion") != 2 or value.get("mediaType", MANIFEST_TYPE) not in _MANIFEST_TYPES:
        raise RegistryError("the manifest is of a kind that holds no model")
    layers = value.get("layers")
    if not isinstance(layers, list) or not layers:
        raise RegistryError("the manifest lists no layers")
    if any(_media_type(layer) == _TENSOR for layer in layers):
        # Word for word as Ollama where it cannot run such models (server/images.go of 0.33)
        raise RegistryError("this model requires MLX support, but the MLX runtime is not available")
    if len(layers) > _MOST_LAYERS:
        raise RegistryError(f"the manifest lists more than {_MOST_LAYERS} layers")
    return PulledManifest(raw, _config(value.get("config")), tuple(_layer(layer) for layer in layers))


def _media_type(value: Json) -> Json:
    return value.get("mediaType") if isinstance(value, dict) else None


def _config(value: Json) -> Layer:
    media_type = _media_type(value)
    if not isinstance(media_type, str) or media_type not in _CONFIG_TYPES:
        raise RegistryError(f"the manifest has a config of an unknown media type: {_quoted(media_type)}")
    return _sized(value, media_type, _LARGEST_TEXT)


def _layer(value: Json) -> Layer:
    media_type = _media_type(value)
    if not isinstance(media_type, str) or not _LAYER_TYPE.fullmatch(media_type):
        raise RegistryError(f"the manifest has a layer of an unknown media type: {_quoted(media_type)}")
    return _sized(value, media_type, _LARGEST_WEIGHTS if media_type in _WEIGHTS else _LARGEST_TEXT)


def _sized(value: Json, media_type: str, largest: int) -> Layer:
    digest = value.get("digest") if isinstance(value, dict) else None
    size = value.get("size") if isinstance(value, dict) else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise RegistryError(f"invalid digest format: {_quoted(digest)}")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= largest:
        raise RegistryError(f"the manifest gives {digest} a size it cannot have: {_quoted(size)}")
    return Layer(digest, size, media_type)


def _quoted(value: Json) -> str:
    text = value if isinstance(value, str) else repr(value)
    return quote_go(text[:80])


def spelled_as_stored(store: ModelStore, name: ModelName) -> ModelName:
    """`name` with each part spelled as a model in the store spells it: one name, one place, whatever the case.

    Source: getExistingName of Ollama 0.33. Reads the disk.
    """
    parts = list(name.parts)
    for stored in store.names():
        for index, spelling in enumerate(stored.parts):
            if spelling.casefold() == name.folded[index]:
                parts[index] = spelling
    return ModelName(*parts)


def install(store: ModelStore, name: ModelName, pulled: PulledManifest) -> set[str]:
    """Lists the model and returns the digests that the model of that name had before and has no more.

    Every blob must be there already. Raises `StoreError`, `DiskFull`. Does disk work and waits for the store's lock.
    """
    with store._changing():
        for layer in pulled.everything:
            if not store.blob_path(layer.digest).is_file():
                raise StoreError(f"the layer {layer.digest} was removed from the store during the pull; pull again")
        before = _digests_of(store, name)
        store._put(store._find(name) or store.manifests.joinpath(*name.parts), pulled.raw)
    return before - pulled.digests


def _digests_of(store: ModelStore, name: ModelName) -> set[str]:
    try:
        return {layer.digest for layer in store.manifest(name).everything}
    except (ModelNotFound, StoreError, BadRequest):  # none yet, or one that cannot be read: replaced as it is
        return set()


def remove_unused(store: ModelStore, digests: set[str]) -> int:
    """Removes those of `digests` that no model has any more; returns the bytes freed. Raises `StoreError`."""
    with store._changing():
        return store._drop_unused(digests)
