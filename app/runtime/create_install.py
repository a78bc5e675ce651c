"""Putting a finished model into the store: blobs, then the manifest, under the store's lock, all or nothing.

Until the manifest has its name nothing is listed, and a blob has its name only when it is whole. What an error leaves
is taken away again; what kill -9 leaves are whole blobs that no manifest names, which go at a later start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from app.core.errors import BadRequest, DiskFull, ModelNotFound, StoreError
from app.runtime.atomic_files import move_into_place, store_errors, write_atomically
from app.runtime.create_layers import LayerDraft
from app.runtime.manifests import CONFIG_TYPE, Layer, encode_manifest
from app.runtime.model_store import ModelStore
from app.wire.model_names import ModelName


def install(
    store: ModelStore, name: ModelName, layers: Sequence[LayerDraft], config: LayerDraft, *, prune: bool
) -> list[str]:
    """Lists the model `name`, replacing one of that name, and returns the layers' status lines.

    `prune` removes layers that only the replaced model had. Raises `StoreError`, `DiskFull`, also where a layer that
    was to be shared has gone meanwhile. Does disk work and waits for the store's lock.
    """
    with store._changing(), store_errors(store.root), contextlib.ExitStack() as undoing:
        statuses = [_put(store, layer, undoing) for layer in layers]
        _put(store, config, undoing)
        before = _digests_of(store, name)
        _list(store, name, config, layers, undoing)
        if prune:
            store._drop_unused(before - {layer.digest for layer in (*layers, config)})
    return statuses


def require_room(store: ModelStore, needed: int) -> None:
    """Raises `DiskFull` where a file of `needed` bytes has no room among the blobs."""
    with store_errors(store.root):
        free = shutil.disk_usage(store.blobs).free
    if free < needed:
        told = f"no space left for the model store {store.root}: {needed} bytes are needed, {free} are free"
        raise DiskFull(told)


def _put(store: ModelStore, layer: LayerDraft, undoing: contextlib.ExitStack) -> str:
    """Sees to it that the layer's blob is there, and says how it came there."""
    target = store.blob_path(layer.digest)
    with contextlib.suppress(FileNotFoundError):
        if target.is_file() and target.stat().st_size == layer.size:
            with contextlib.suppress(PermissionError):  # somebody else's blob; the manifest protects it from now on
                os.utime(target)
            return layer.status or f"using existing layer {layer.digest}"
    if layer.file is not None:
        move_into_place(layer.file, target)
    elif layer.content is not None:
        write_atomically(target, layer.content)
    else:
        raise StoreError(f"the layer {layer.digest} was removed from the store meanwhile; create the model again")
    undoing.callback(target.unlink, missing_ok=True)
    return layer.status or f"creating new layer {layer.digest}"


def _list(
    store: ModelStore,
    name: ModelName,
    config: LayerDraft,
    layers: Sequence[LayerDraft],
    undoing: contextlib.ExitStack,
) -> None:
    """Writes the manifest. It is prepared among the blobs: an odd file between the manifests would keep a real Ollama
    from clearing up at its start. From the renaming on nothing is undone: the model may be listed."""
    content = encode_manifest(
        Layer(config.digest, config.size, CONFIG_TYPE),
        [Layer(layer.digest, layer.size, layer.media_type, layer.source) for layer in layers],
    )
    target = store._find(name) or store.manifests.joinpath(*name.parts)
    prepared = store.blobs / f".manifest.{secrets.token_hex(6)}.tmp"
    try:
        write_atomically(prepared, content)
        _make_folders(store, target.parent)
        undoing.pop_all()
        move_into_place(prepared, target)
    finally:
        prepared.unlink(missing_ok=True)


def _make_folders(store: ModelStore, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"{folder} in the model store {store.root} is not a folder") from error


def _digests_of(store: ModelStore, name: ModelName) -> set[str]:
    try:
        return {layer.digest for layer in store.manifest(name).everything}
    except (ModelNotFound, StoreError, BadRequest):  # none yet, or one that cannot be read: replaced as it is
        return set()
