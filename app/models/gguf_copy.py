"""Writing a GGUF anew with its tensors as they are, and joining the parts of a split one.

The result is that of `llama-quantize … COPY` (llama.cpp b10499), byte for byte: tensors in llama.cpp's order (those
without a layer first, then layer by layer, by name), `general.quantization_version` and `general.file_type` at the end
of the metadata, no `split.*` keys, GGUF version 3. Ollama passes every imported file through it, which is why a model
layer's digest is not the upload's (tests/data/ollama/create_from_gguf).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from app.core.errors import ModelFileDamaged
from app.models.ggml_types import FILE_TYPE_NUMBERS
from app.models.gguf_file import GgufFile, GgufTensor
from app.models.gguf_writer import HashedFile, copied_entries, header, number_entry, padding, text_entry
from app.models.tensor_types import in_writing_order

_PIECE = 4 << 20
_QUANTIZATION_VERSION = 2  # ggml's GGML_QNT_VERSION
_VERSION, _FILE_TYPE = "general.quantization_version", "general.file_type"
_SPLIT = frozenset({"split.no", "split.count", "split.tensors.count"})
_GUESSED = 1024  # llama.cpp's mark for a file type that the file itself does not give
# what llama.cpp takes a file for in which most tensors have these formats
_MIXTURES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}

Progress = Callable[[int, int], None]  # (bytes of tensors done, of all)


class Written(NamedTuple):
    """The file that was made: digest in bare hex, size in bytes."""

    sha256: str
    size: int


class _Source(NamedTuple):
    model: GgufFile
    tensor: GgufTensor


def copy_gguf(
    parts: Sequence[GgufFile],
    target: Path,
    *,
    texts: Sequence[tuple[str, str]] = (),
    on_progress: Progress | None = None,
) -> Written:
    """`parts` of one model as one file, its tensors as they are. `target` appears whole or not at all.

    Raises `ModelFileDamaged` for a tensor that is there twice or a part that became shorter, `StoreError`, `DiskFull`.
    """
    first = parts[0]
    sources = _in_order(parts)
    replaced = {_VERSION, _FILE_TYPE, *_SPLIT, *(f"{first.architecture}.{key}" for key in _SPLIT)}
    kept = [first.metadata.entry(key) for key in first.metadata if key not in replaced]
    own = [text_entry(key, value) for key, value in texts if key not in first.metadata]
    own += [number_entry(_VERSION, _QUANTIZATION_VERSION), number_entry(_FILE_TYPE, file_type_number(parts))]

    def entries() -> Iterator[bytes]:
        yield from copied_entries(first, kept)
        yield from own

    with HashedFile(target.with_name(f"{target.name}.partial")) as out:
        for piece in header(len(kept) + len(own), entries(), [source.tensor for source in sources], first.alignment):
            out.write(piece)
        _copy_tensors(out, sources, first.alignment, on_progress)
        out.commit(target)
        return Written(out.sha256, out.size)


def file_type_number(parts: Sequence[GgufFile]) -> int:
    """`general.file_type`, or llama.cpp's guess from the format that most tensors have, marked as a guess."""
    told = parts[0].file_type
    if told is not None:
        return told & 0xFFFF_FFFF
    counts: dict[str, int] = {}
    for part in parts:
        for tensor in part.tensors:
            counts[tensor.type] = counts.get(tensor.type, 0) + 1
    most = max(counts, key=lambda kind: counts[kind], default="F32")
    return FILE_TYPE_NUMBERS.get(_MIXTURES.get(most, most), 0) | _GUESSED


def _in_order(parts: Sequence[GgufFile]) -> list[_Source]:
    """Every tensor of every part in writing order."""
    owners: dict[str, _Source] = {}
    for model in parts:
        for tensor in model.tensors:
            if tensor.name in owners:
                raise ModelFileDamaged(str(model.path), f"the tensor {tensor.name} is in two parts of the model")
            owners[tensor.name] = _Source(model, tensor)
    return [owners[tensor.name] for tensor in in_writing_order([source.tensor for source in owners.values()])]


def _copy_tensors(out: HashedFile, sources: list[_Source], alignment: int, on_progress: Progress | None) -> None:
    total, done = sum(source.tensor.nbytes for source in sources), 0
    handles = {source.model.path: -1 for source in sources}
    try:
        for path in handles:
            handles[path] = os.open(path, os.O_RDONLY)
        for model, tensor in sources:
            for at in range(tensor.offset, tensor.offset + tensor.nbytes, _PIECE):
                size = min(_PIECE, tensor.offset + tensor.nbytes - at)
                piece = os.pread(handles[model.path], size, at)
                if len(piece) < size:
                    raise ModelFileDamaged(str(model.path), f"the file ends inside {tensor.name}")
                out.write(piece)
                done += size
                if on_progress is not None:
                    on_progress(done, total)
            out.write(padding(tensor.nbytes, alignment))
    finally:
        for handle in handles.values():
            if handle >= 0:
                os.close(handle)
