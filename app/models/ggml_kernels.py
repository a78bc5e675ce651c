"""ggml's own conversion routines, from the shared library in the package `libggml-python`.

Calls release the interpreter lock, so threads share the work. The library holds no state for the formats that need
no importance matrix beyond tables that it builds once, under its own lock.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from app.core.errors import LoupeError
from app.models.ggml_types import TYPE_BY_NAME, TensorType

_LIBRARY = "libggml-base.dylib" if sys.platform == "darwin" else "libggml-base.so"
_TO_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _TypeTraits(ctypes.Structure):
    """`struct ggml_type_traits` of ggml.h."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("block_interleave", ctypes.c_int64),
        ("block_bytes", ctypes.c_size_t),
        ("quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
        ("from_float_ref", ctypes.c_void_p),
    )


class Kernels:
    """Conversions between storage formats, whole rows at a time."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._quantize = library.ggml_quantize_chunk
        self._quantize.restype = ctypes.c_size_t
        self._quantize.argtypes = (
            *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
            *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
        )
        self._valid = library.ggml_validate_row_data
        self._valid.restype = ctypes.c_bool
        self._valid.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
        self._traits = library.ggml_get_type_traits
        self._traits.restype = ctypes.POINTER(_TypeTraits)
        self._traits.argtypes = (ctypes.c_int,)
        self._to_float = {kind.name: self._float_routine(kind) for kind in TYPE_BY_NAME.values()}

    def _float_routine(self, kind: TensorType) -> Callable[[object, object, int], None] | None:
        traits = self._traits(kind.number).contents
        if (traits.block, traits.block_bytes) != (kind.block, kind.block_bytes):
            raise LoupeError(f"this libggml-python stores {kind.name} differently; install the locked version")
        return _TO_FLOAT(traits.to_float) if traits.to_float else None

    def readable(self, type_name: str) -> bool:
        return type_name == "F32" or self._to_float[type_name] is not None

    def convert(self, raw: bytes, source: TensorType, target: TensorType, row: int) -> bytes | memoryview:
        """`raw`, whole rows of `row` elements in format `source`, in format `target`.

        Raises ValueError for values that `target` cannot hold (not a number, infinite).
        """
        if source is target:
            return raw
        elements = len(raw) // source.block_bytes * source.block
        floats: object = raw
        if source.name != "F32":
            floats = (ctypes.c_float * elements)()
            routine = self._to_float[source.name]
            if routine is None:
                raise LoupeError(f"{source.name} cannot be converted to anything")
            routine(raw, floats, elements)
        size = target.row_bytes(elements)
        result = (ctypes.c_ubyte * size)()
        written = self._quantize(target.number, floats, result, 0, elements // row, row, None)
        if written != size:
            raise LoupeError(f"ggml wrote {written} bytes of {target.name} where {size} were expected")
        if not self._valid(target.number, result, size):
            raise ValueError("a value is not finite")
        return memoryview(result).cast("B")


@cache
def kernels() -> Kernels:
    """The library, loaded once. Raises LoupeError where the extra `embedded` is not installed."""
    found = importlib.util.find_spec("libggml")
    folders = found.submodule_search_locations if found else None
    paths = [path for folder in folders or () for path in sorted(Path(folder).rglob(_LIBRARY))]
    if not paths:
        raise LoupeError("quantizing needs the package libggml-python (the extra `embedded`), which is not installed")
    try:
        return Kernels(ctypes.CDLL(str(paths[0])))
    except OSError as error:
        raise LoupeError(f"ggml's library cannot be loaded: {error}") from error
