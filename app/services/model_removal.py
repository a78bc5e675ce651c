"""What deleting a model frees: only the layers that no other model of the host has.

Ollama's protocol shows no layers. Where the host's store can be read from here its manifests tell exactly; elsewhere
the files behind FROM and ADAPTER in what the host shows tell which weights are shared, and the few kilobytes of
templates and licences are left out of account.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from app.core.errors import HostError, ModelNotFound
from app.core.hosts import ModelDetail, ModelInfo
from app.core.ports import Backend
from app.models.naming import parse_name, same_model
from app.models.quantized_size import shown_model, source_bytes
from app.wire.modelfile import read_modelfile

SHOWS_AT_ONCE = 4
_MANIFEST_LIMIT = 4 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Removal:
    """`frees` bytes really become free; `shared_with` are the models that go on using the rest of them."""

    name: str
    host: str
    frees: int
    shared_with: tuple[str, ...] = ()
    loaded: bool = False


async def removal_of(name: str, backend: Backend) -> Removal:
    """Raises `ModelNotFound` and `HostError`."""
    models, loaded = await asyncio.gather(backend.models(), backend.loaded())
    target = next((model for model in models if same_model(model.name, name)), None)
    if target is None:
        raise ModelNotFound(name)
    others = [model for model in models if model is not target]
    details = await _details(backend, [target, *others])
    paths = {model: _paths(detail) for model, detail in details.items()}
    mine = paths.get(target.name, ())
    layers = await asyncio.to_thread(_layers_of_store, mine[0]) if mine else {}
    exact = {model.name: layers.get(parse_name(model.name).folded) for model in models}
    if exact[target.name] is not None:
        frees, shared = _exact(target, others, {key: value or {} for key, value in exact.items()})
    else:
        frees, shared = _estimated(target, others, paths, details)
    running = any(same_model(model.name, target.name) for model in loaded)
    return Removal(target.name, backend.address.name, frees, shared, running)


async def _details(backend: Backend, models: Sequence[ModelInfo]) -> dict[str, ModelDetail]:
    """What the host shows of each; one that it cannot show (a damaged one) is left out."""
    gate = asyncio.Semaphore(SHOWS_AT_ONCE)
    found: dict[str, ModelDetail] = {}

    async def look(model: ModelInfo) -> None:
        async with gate:
            with contextlib.suppress(HostError, ModelNotFound):
                found[model.name] = await backend.show(model.name)

    await asyncio.gather(*(look(model) for model in models))
    return found


def _paths(detail: ModelDetail) -> tuple[str, ...]:
    told = read_modelfile(detail.modelfile)
    return (*told.files, *told.adapters, *told.drafts)


def _blob(path: str) -> str:
    """The last part of a path, whichever system the host runs."""
    return PureWindowsPath(path).name


def _exact(
    target: ModelInfo, others: Sequence[ModelInfo], layers: Mapping[str, Mapping[str, int]]
) -> tuple[int, tuple[str, ...]]:
    mine = layers[target.name]
    used = {digest for other in others for digest in layers[other.name]}
    large = {digest for digest, size in mine.items() if size > 1 << 20}
    shared = tuple(other.name for other in others if large & set(layers[other.name]))
    return sum(size for digest, size in mine.items() if digest not in used), shared


def _estimated(
    target: ModelInfo, others: Sequence[ModelInfo], paths: Mapping[str, tuple[str, ...]],
    details: Mapping[str, ModelDetail],
) -> tuple[int, tuple[str, ...]]:  # fmt: skip
    mine = [_blob(path) for path in paths.get(target.name, ())]
    used = {other.name: {_blob(path) for path in paths.get(other.name, ())} for other in others}
    shared = tuple(name for name, blobs in used.items() if blobs & set(mine))
    kept = [blob for blob in mine if any(blob in blobs for blobs in used.values())]
    if not kept:
        return target.size, shared
    if len(kept) == len(mine):
        return 0, shared
    detail = details[target.name]
    model = shown_model(detail.info, detail.tensors)
    weights = source_bytes(model) if model else 0
    return (weights if mine[0] not in kept else max(0, target.size - weights)), shared


def _layers_of_store(path: str) -> dict[tuple[str, ...], dict[str, int]]:
    """Digest → size of every model in the store that holds `path`; empty where it cannot be read from here."""
    root = Path(path).parent.parent
    if Path(path).parent.name != "blobs" or not Path(path).is_file():
        return {}
    found = {}
    for manifest in (root / "manifests").glob("*/*/*/*"):
        try:
            if manifest.stat().st_size > _MANIFEST_LIMIT:
                continue
            told = json.loads(manifest.read_bytes())
            rows = [told["config"], *(told.get("layers") or [])]
            sizes = {str(row["digest"]): int(row["size"]) for row in rows}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a model that the host itself does not list either
        found[tuple(part.casefold() for part in manifest.relative_to(root / "manifests").parts)] = sizes
    return found
