"""Writing a model file anew: as it is, joined from its parts, or quantized. Runs as a process of its own.

Ollama passes every imported GGUF through `llama-quantize … COPY`: tensors in llama.cpp's order (without a layer first,
then layer by layer, by name), `general.quantization_version` and `general.file_type` at the end of the metadata, no
`split.*` keys, GGUF version 3. That is why the layer's digest is not the upload's (create_from_gguf), and `copy_gguf`
does the same, byte for byte.

    python -m app.runtime.gguf_rewrite    with one line of JSON on standard input, see `Job`

Standard output carries {"completed", "total"} (bytes of tensors) at most ten times a second, and ends with
{"sha256", "size"} or {"error", "code"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from app.core.errors import BadRequest, LoupeError, ModelFileDamaged
from app.models.ggml_types import FILE_TYPE_NUMBERS
from app.models.gguf_file import GgufFile, GgufTensor, read_gguf
from app.models.gguf_writer import HashedFile, copied_entries, header, number_entry, padding, text_entry
from app.models.quantizer import quantize
from app.models.tensor_types import DEFAULT_TYPES, in_writing_order
from app.runtime.guarded import die_with_parent

_PIECE = 4 << 20
_QUANTIZATION_VERSION = 2  # ggml's GGML_QNT_VERSION
_VERSION, _FILE_TYPE = "general.quantization_version", "general.file_type"
_SPLIT = frozenset({"split.no", "split.count", "split.tensors.count"})
_GUESSED = 1024  # llama.cpp's mark for a file type that the file itself does not give
_MIXTURES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}  # what llama.cpp takes these formats for
_NICENESS = 10  # somebody is chatting meanwhile
_REPORT_EVERY = 0.1  # seconds

Progress = Callable[[int, int], None]  # (bytes of tensors done, of all)


@dataclass(frozen=True, slots=True)
class Job:
    """What to write: `parts` of one model, in order, into `target`. `file_type` "" copies; `texts` are metadata to
    add where they are absent."""

    parts: tuple[str, ...]
    target: str
    file_type: str = ""
    texts: tuple[tuple[str, str], ...] = ()

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


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
    name = _MIXTURES.get(most, most)
    return (FILE_TYPE_NUMBERS[name] if name in DEFAULT_TYPES else 0) | _GUESSED


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


def carry_out(job: Job, on_progress: Progress | None = None) -> Written:
    """Does a job in this process. Raises what `copy_gguf` and `quantizer.quantize` raise."""
    target = Path(job.target)
    parts = [read_gguf(path) for path in job.parts]
    if not job.file_type:
        return copy_gguf(parts, target, texts=job.texts, on_progress=on_progress)
    joined = parts[0].path
    if len(parts) > 1:
        joined = target.with_name(f"{target.name}.joined")
        copy_gguf(parts, joined)
    made = quantize(joined, target, job.file_type, on_progress=on_progress)
    if len(parts) > 1:
        joined.unlink()
    return Written(made.sha256, made.size)


class _Reporter:
    def __init__(self) -> None:
        self._at = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._at < _REPORT_EVERY:
            return
        self._at = now
        _say({"completed": done, "total": total})


def _say(record: dict[str, object]) -> None:
    print(json.dumps(record), flush=True)


def main() -> int:
    """0 after the result was told; 1 after an error was."""
    told = json.loads(sys.stdin.buffer.readline())
    job = Job(tuple(told["parts"]), told["target"], told["file_type"], tuple((k, v) for k, v in told["texts"]))
    die_with_parent()
    os.nice(_NICENESS)
    try:
        written = carry_out(job, _Reporter())
    except (BadRequest, ModelFileDamaged) as error:
        _say({"error": error.message, "code": "cannot_create"})
        return 1
    except LoupeError as error:
        _say({"error": error.message, "code": error.code})
        return 1
    _say(written._asdict())
    return 0


if __name__ == "__main__":
    sys.exit(main())
