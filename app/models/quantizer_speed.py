"""How fast this machine quantizes and hashes, measured in a fraction of a second: noise through each kernel."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import time
from collections.abc import Mapping
from functools import cache

from app.models.ggml_kernels import kernels
from app.models.ggml_types import TYPE_BY_NAME
from app.models.gguf_file import GgufTensor
from app.models.tensor_types import Described, choose_types, in_writing_order, shape_of

_ROW, _ROWS = 4096, 16  # 64 thousand weights: 2 to 15 ms a format
_TIMES = 2  # the better of two: the first one also warms up


@cache
def weights_a_second(target: str, source: str) -> float:
    """Weights that one core converts from one format to another. Raises LoupeError where ggml is not installed."""
    ggml, noise = kernels(), random.Random(target)
    values = [noise.gauss(0.0, 0.02) for _ in range(_ROW)]
    floats = struct.pack(f"<{_ROW}f", *values) * _ROWS
    kind = TYPE_BY_NAME[source]
    raw = bytes(ggml.convert(floats, TYPE_BY_NAME["F32"], kind, _ROW))
    best = float("inf")
    for _ in range(_TIMES):
        began = time.perf_counter()
        ggml.convert(raw, kind, TYPE_BY_NAME[target], _ROW)
        best = min(best, time.perf_counter() - began)
    return _ROW * _ROWS / max(best, 1e-9)


@cache
def digest_bytes_a_second() -> float:
    """Bytes a second that SHA-256 takes in."""
    piece, best = bytes(1 << 20), float("inf")
    for _ in range(_TIMES):
        began = time.perf_counter()
        hashlib.sha256(piece).digest()
        best = min(best, time.perf_counter() - began)
    return len(piece) / max(best, 1e-9)


def predicted_seconds(model: Described, level: str, cores: int | None = None) -> float:
    """Seconds that the kernels take for `model` under `level`, on all cores (or `cores`); disk and digests left out."""
    tensors = in_writing_order(model.tensors)
    work = _by_format(tensors, choose_types(tensors, shape_of(model), level))
    busy = sum(weights / weights_a_second(target, source) for (target, source), weights in work.items())
    return busy / (cores or os.cpu_count() or 1)


def _by_format(tensors: list[GgufTensor], targets: list[str]) -> Mapping[tuple[str, str], int]:
    work: dict[tuple[str, str], int] = {}
    for tensor, target in zip(tensors, targets, strict=True):
        if target != tensor.type:
            work[target, tensor.type] = work.get((target, tensor.type), 0) + tensor.elements
    return work
