"""GGUF to GGUF: every tensor into the format that llama-quantize would choose, with ggml's own kernels.

Reads, converts and writes piece by piece: memory is bounded by a few pieces per thread, whatever the size of the
file or of its largest tensor. Rows are independent of each other, so the result is the same for any number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from app.core.errors import BadRequest, Cancelled, ModelFileDamaged
from app.models.ggml_kernels import Kernels, kernels
from app.models.ggml_types import FILE_TYPE_NUMBERS, TYPE_BY_NAME
from app.models.gguf_file import GgufFile, GgufTensor, read_gguf
from app.models.gguf_writer import HashedFile, copied_entries, header, number_entry, padding, tensor_bytes
from app.models.tensor_types import DEFAULT_TYPES, UNQUANTIZED, choose_types, in_writing_order, shape_of

PIECE = 1 << 19  # elements converted at a time: 2 MiB as floats, at home in a core's cache
_QUANTIZATION_VERSION = 2  # ggml's GGML_QNT_VERSION
_REPLACED = frozenset({"general.quantization_version", "general.file_type"})
_SPLIT = frozenset({"split.no", "split.count", "split.tensors.count"})

Progress = Callable[[int, int], None]  # (bytes of source tensors done, of all)


@dataclass(frozen=True, slots=True)
class Quantized:
    """The file that was made. `types` counts tensors by format; `bits_per_weight` is over all tensors."""

    path: Path
    file_type: str
    size: int
    sha256: str
    types: dict[str, int]
    bits_per_weight: float


@dataclass(frozen=True, slots=True)
class _Piece:
    """Whole rows of one tensor: where they lie in the source, and what becomes of them."""

    tensor: GgufTensor
    target_type: str
    offset: int
    nbytes: int
    last: bool


def quantize(
    source: Path | str,
    target: Path | str,
    file_type: str,
    *,
    threads: int | None = None,
    on_progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    requantize: bool = False,
) -> Quantized:
    """Make `target` from the GGUF `source`; `file_type` is a name such as "Q4_K_M".

    `target` appears whole or not at all. Raises BadRequest (unknown file type, one that needs an importance matrix, a
    source that is already quantized unless `requantize`), ModelFileDamaged, StoreError or DiskFull, and Cancelled
    soon after `cancelled()` says so. `on_progress` is called from the calling thread.
    """
    model, target = read_gguf(source), Path(target)
    plan = _plan(model, file_type, requantize)
    workers = threads or os.cpu_count() or 1
    with HashedFile(target.with_name(f"{target.name}.{os.getpid()}.partial")) as out:
        for part in _header(model, plan, file_type):
            out.write(part)
        done, total = 0, model.tensor_bytes
        with closing(_converted(model, plan, workers)) as converted:
            for piece, result in converted:
                if cancelled is not None and cancelled():
                    raise Cancelled("stop")
                out.write(result)
                done += piece.nbytes
                if piece.last:
                    out.write(padding(tensor_bytes(replace(piece.tensor, type=piece.target_type)), model.alignment))
                if on_progress is not None:
                    on_progress(done, total)
        out.commit(target)
        return _described(out, target, file_type, plan)


def dequantise_to_f16(
    source: Path | str,
    target: Path | str,
    *,
    threads: int | None = None,
    on_progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Quantized:
    """The F16 file that a quantized `source` stands for; what was lost in quantizing stays lost."""
    return quantize(
        source, target, "F16", threads=threads, on_progress=on_progress, cancelled=cancelled, requantize=True
    )


def _plan(model: GgufFile, file_type: str, requantize: bool) -> list[tuple[GgufTensor, str]]:
    """Every tensor in writing order with the format it is to get."""
    if file_type not in DEFAULT_TYPES:
        raise BadRequest(f"{file_type} is not a file type that can be made", field="quantize")
    if (model.number("split.count") or 1) > 1:
        raise BadRequest(f"{model.path} is one part of a split model; join its parts first", field="files")
    tensors = in_writing_order(model.tensors)
    plan = list(zip(tensors, choose_types(tensors, shape_of(model), file_type), strict=True))
    for tensor, wanted in plan:
        if wanted == tensor.type:
            continue
        if tensor.type not in UNQUANTIZED and not requantize:
            raise BadRequest("quantization is only supported for F16, BF16 and F32 models", field="quantize")
        if not kernels().readable(tensor.type):
            raise BadRequest(f"{tensor.name} is stored as {tensor.type}, which cannot be converted", field="quantize")
    return plan


def _header(model: GgufFile, plan: list[tuple[GgufTensor, str]], file_type: str) -> Iterator[bytes]:
    """The source's metadata as it is, but for what the new file type changes (at the end, as llama-quantize does)."""
    kept = [model.metadata.entry(key) for key in model.metadata if key not in _REPLACED | _SPLIT]
    own = (
        number_entry("general.quantization_version", _QUANTIZATION_VERSION),
        number_entry("general.file_type", FILE_TYPE_NUMBERS[file_type]),
    )

    def entries() -> Iterator[bytes]:
        yield from copied_entries(model, kept)
        yield from own

    tensors = [replace(tensor, type=wanted) for tensor, wanted in plan]
    return header(len(kept) + len(own), entries(), tensors, model.alignment)


def _pieces(plan: list[tuple[GgufTensor, str]]) -> Iterator[_Piece]:
    for tensor, wanted in plan:
        row_bytes = TYPE_BY_NAME[tensor.type].row_bytes(tensor.shape[0])
        step = max(1, PIECE // tensor.shape[0]) * row_bytes
        for start in range(0, tensor.nbytes, step):
            size = min(step, tensor.nbytes - start)
            yield _Piece(tensor, wanted, tensor.offset + start, size, start + size == tensor.nbytes)


def _converted(
    model: GgufFile, plan: list[tuple[GgufTensor, str]], workers: int
) -> Generator[tuple[_Piece, bytes | memoryview], None, None]:
    """Converted pieces in writing order; at most two per thread exist at a time."""
    handle = os.open(model.path, os.O_RDONLY)
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="quantizer") as pool:
            waiting: deque[tuple[_Piece, Future[bytes | memoryview]]] = deque()
            try:
                for piece in _pieces(plan):
                    if len(waiting) >= 2 * workers:
                        first, result = waiting.popleft()
                        yield first, result.result()
                    waiting.append((piece, pool.submit(_convert, kernels(), model.path, handle, piece)))
                while waiting:
                    first, result = waiting.popleft()
                    yield first, result.result()
            finally:
                for _, result in waiting:
                    result.cancel()
    finally:
        os.close(handle)


def _convert(ggml: Kernels, path: Path, handle: int, piece: _Piece) -> bytes | memoryview:
    raw = os.pread(handle, piece.nbytes, piece.offset)
    if len(raw) < piece.nbytes:
        raise ModelFileDamaged(str(path), f"the file ends inside {piece.tensor.name}")
    source, target = TYPE_BY_NAME[piece.tensor.type], TYPE_BY_NAME[piece.target_type]
    try:
        return ggml.convert(raw, source, target, piece.tensor.shape[0])
    except ValueError as error:
        raise ModelFileDamaged(str(path), f"{piece.tensor.name}: {error}") from error


def _described(out: HashedFile, target: Path, file_type: str, plan: list[tuple[GgufTensor, str]]) -> Quantized:
    types: dict[str, int] = {}
    for _, wanted in plan:
        types[wanted] = types.get(wanted, 0) + 1
    stored = sum(tensor_bytes(replace(tensor, type=wanted)) for tensor, wanted in plan)
    weights = sum(tensor.elements for tensor, _ in plan)
    return Quantized(target, file_type, out.size, out.sha256, types, stored * 8 / weights if weights else 0.0)
