"""What the tests of creating have in common: the upload of the recorded session, small models, a look at a store."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import cache
from pathlib import Path
from typing import Any

from app.core.errors import LoupeError
from app.models.gguf_file import read_gguf
from app.runtime.create import create
from app.runtime.model_store import ModelStore
from app.wire.requests import decode
from tests.gguf_samples import STRING, Sample, small_llama, string
from tests.recordings import FOLDER
from tests.starter_cache import CACHE, reference_gguf, starter_gguf

Record = dict[str, Any]
UPLOADED = "fea43f3ffef83a020894679eb91b2ab0127287d657a7313b47ba9c411dd4d47f"  # recording blob_create
FP16 = "smollm2:135m-instruct-fp16"


@cache
def uploaded_gguf() -> Path:
    """The file that was uploaded when the recordings were made: the starter's file, dequantised, in its own order of
    tensors and metadata, which is not llama-quantize's."""
    target = CACHE / f"{UPLOADED}.gguf"
    if not target.is_file():
        starter, reference = read_gguf(starter_gguf()), read_gguf(reference_gguf())
        places = {tensor.name: tensor for tensor in reference.tensors}
        told = starter.metadata.entry("general.file_type")
        temporary = target.with_name(f"{target.name}.{os.getpid()}")
        with starter.path.open("rb") as origin, reference.path.open("rb") as weights, temporary.open("wb") as out:
            out.write(_header_as_f16(origin.read(starter.data_offset), told.value, starter.path, reference.path))
            for tensor in starter.tensors:
                place = places[tensor.name]
                weights.seek(place.offset)
                out.write(weights.read(place.nbytes))
                out.write(bytes(-place.nbytes % 32))
        assert hashlib.sha256(temporary.read_bytes()).hexdigest() == UPLOADED
        temporary.replace(target)
    return target


def _header_as_f16(header: bytes, file_type_at: int, starter: Path, reference: Path) -> bytes:
    """The starter's header with F16 for the file type and for the type of every tensor that has become F16."""
    told = bytearray(header)
    told[file_type_at : file_type_at + 4] = (1).to_bytes(4, "little")
    kinds = {tensor.name: tensor.type for tensor in read_gguf(reference).tensors}
    at, offset = 0, 0
    for tensor in read_gguf(starter).tensors:
        name = string(tensor.name)
        at = told.index(name, at) + len(name) + 4 + 8 * len(tensor.shape)
        size = tensor.elements * (4 if kinds[tensor.name] == "F32" else 2)
        told[at : at + 4] = (0 if kinds[tensor.name] == "F32" else 1).to_bytes(4, "little")
        told[at + 4 : at + 12] = offset.to_bytes(8, "little")
        offset += size + -size % 32
    return bytes(told)


def stored(name: str) -> Record:
    """A manifest of the recorded store with its small blobs."""
    told: Record = json.loads((FOLDER / "store" / f"{name}.json").read_text())
    return told


async def created(store: ModelStore, body: Record, **more: Any) -> list[Record]:
    """All records of a creation; an error becomes the last one, as the route writes it."""
    records: list[Record] = []
    try:
        async with aclosing(create(store, decode("CreateRequest", json.dumps(body)), **more)) as stream:
            async for record in stream:
                records.append(record)
    except LoupeError as error:
        records.append({"error": error.message, "status_code": error.status})
    return records


def as_lines(records: list[Record]) -> list[str]:
    return [json.dumps(record, separators=(",", ":")) for record in records]


async def pieces(
    content: bytes, size: int = 65_536, before: Callable[[int], None] | None = None
) -> AsyncIterator[bytes]:
    """`content` as an upload comes. `before` is called with the offset of each piece."""
    for offset in range(0, len(content), size):
        if before is not None:
            before(offset)
        yield content[offset : offset + size]


def tiny(type_name: str = "F16", template: str = "", *, layers: int = 1, width: int = 64, **changed: Any) -> Sample:
    """A model of some hundred kilobytes. `changed` are metadata values by key, with _ for the dots; None takes out."""
    sample = small_llama(layers, width, type_name)
    entries = {key: (kind, value) for key, kind, value in sample.entries}
    for key, value in changed.items():
        dotted = key.replace("__", ".")
        if value is None:
            del entries[dotted]
        else:
            entries[dotted] = value
    sample.entries = [(key, kind, value) for key, (kind, value) in entries.items()]
    if template:
        sample.entries.append(("tokenizer.chat_template", STRING, template))
    return sample


def put(store: ModelStore, content: bytes | Sample) -> str:
    """A blob as if it had been uploaded; its digest."""
    return store.add_blob(content if isinstance(content, bytes) else content.bytes()).digest


def sound_names(store: ModelStore) -> set[str]:
    """The models that are listed, after a look at everything that a store has to promise: each file among the blobs
    that has a blob's name holds what it says, and each manifest finds its layers, whole."""
    for path in store.blobs.glob("sha256-*"):
        assert path.name == f"sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}"
    names = set()
    for manifest in ModelStore(store.root).all():
        for layer in manifest.everything:
            assert store.blob_path(layer.digest).stat().st_size == layer.size
        names.add(manifest.name.shortest)
    assert len(names) == len([path for path in store.manifests.glob("*/*/*/*") if path.is_file()])
    return names


def loose_files(store: ModelStore) -> set[str]:
    """Names of the files among the blobs that no manifest names."""
    used = {
        layer.digest.replace(":", "-") for manifest in ModelStore(store.root).all() for layer in manifest.everything
    }
    return {path.name for path in store.blobs.iterdir()} - used
