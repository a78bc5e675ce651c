"""A model that quantizations are made of: what its host says of it, its file, and what stands in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import LoupeError, ModelNotFound
from app.core.hosts import ModelDetail, ModelInfo
from app.core.ports import Backend
from app.models.ggml_kernels import kernels
from app.models.naming import same_model
from app.models.quantized_size import shown_model
from app.models.tensor_types import Described
from app.services.make_offers import HOST_LEVELS, check_source
from app.services.making import room_missing
from app.services.making_time import Task
from app.services.source_file import SourceFile, find_source
from app.wire.modelfile import read_modelfile


@dataclass(frozen=True, slots=True)
class MakeSource:
    """`names` are all models of the host; `file` is the source's file, or why it cannot be read here."""

    host: str
    info: ModelInfo
    detail: ModelDetail
    names: tuple[str, ...]
    file: SourceFile | str

    @property
    def model(self) -> Described | None:
        """From the file where it can be read, because a host shows no arrays."""
        if isinstance(self.file, SourceFile):
            return self.file.model
        return shown_model(self.detail.info, self.detail.tensors)

    def task(self, level: str, size: int) -> Task | None:
        """For reckoning its time; None where the host does not show the tensors."""
        return Task(self.model, level, way_of(level), size) if self.model else None


async def look_at_source(backend: Backend, name: str, stores: Sequence[Path]) -> MakeSource:
    """Raises `ModelNotFound`, `HostError`, and `BadRequest` where nothing can be made of it."""
    models = await backend.models()
    info = next((model for model in models if same_model(model.name, name)), None)
    if info is None:
        raise ModelNotFound(name)
    detail = await backend.show(info.name)
    check_source(info, detail)
    file = await asyncio.to_thread(find_source, detail, stores)
    return MakeSource(backend.address.name, info, detail, tuple(model.name for model in models), file)


def way_of(level: str) -> str:
    return "host" if level in HOST_LEVELS else "loupe"


def refusal(source: MakeSource, level: str, size: int, folder: Path) -> str:
    """Why `level` cannot be made, and what to do; "" where it can. `folder` is where files are made here. Blocks."""
    here = way_of(level) == "loupe"
    if here and isinstance(source.file, str):
        others = f"{', '.join(HOST_LEVELS[:-1])} and {HOST_LEVELS[-1]}"
        return f"{source.file}, so {level} cannot be made from it; {source.host} itself can make {others}"
    told = read_modelfile(source.detail.modelfile)
    if here and (told.adapters or told.drafts):
        return f"a model with an adapter or a draft model can only be quantized by {source.host} itself"
    if here and (missing := _no_kernels()):
        return missing
    store = source.file.path.parent if isinstance(source.file, SourceFile) else None
    if store is not None and (missing := room_missing(store, _needed(store, folder, size, here=here))):
        return missing
    return room_missing(folder, size) if here else ""


def _needed(store: Path, folder: Path, size: int, *, here: bool) -> int:
    """In the store the host writes the new file, and for an upload a second time while it checks it."""
    copies = 1 + here
    if here and folder.parent.exists() and store.stat().st_dev == folder.parent.stat().st_dev:
        copies += 1
    return copies * size


def _no_kernels() -> str:
    try:
        kernels()
    except LoupeError as error:
        return error.message
    return ""
