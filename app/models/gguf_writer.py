"""Writing GGUF piece by piece: the header as an iterator of bytes, the tensors in the order they are given.

Nothing is held but one piece at a time. `HashedFile` computes the digest of what it writes, so that a finished file
need not be read again to get its name in the store.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from app.core.errors import DiskFull, StoreError
from app.models.ggml_types import TYPE_BY_NAME
from app.models.gguf_file import GgufFile, GgufTensor
from app.models.gguf_reading import Entry

_PIECE = 1 << 20
_FULL = frozenset({28, 122, 27})  # ENOSPC, EDQUOT, EFBIG (a limit on file sizes)
_U32 = 4  # metadata value type


class HashedFile:
    """A new file at `path`; `sha256` and `size` tell about all that was written.

    `commit` makes it durable under its final name; leaving the context without it removes the file. A full disk is
    DiskFull, everything else the system refuses StoreError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()
        self._committed = False
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise write_error(path, error) from error

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        try:
            self._file.write(piece)
        except OSError as error:
            raise write_error(self.path, error) from error
        self._digest.update(piece)
        self.size += len(piece)

    def commit(self, final: Path) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self.path.replace(final)
            sync_folder(final.parent)
        except OSError as error:
            raise write_error(self.path, error) from error
        self._committed = True

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._committed:
            return
        try:
            self._file.close()
        except OSError as close_error:  # the buffer could not be flushed; the file goes away anyway
            if error is None:
                raise write_error(self.path, close_error) from close_error
        finally:
            self.path.unlink(missing_ok=True)


def write_error(path: Path, error: OSError) -> StoreError:
    """The error to raise for an `error` that the system gave while writing `path`."""
    if error.errno in _FULL:
        return DiskFull(f"there is no space left for {path}")
    return StoreError(f"{path} cannot be written: {error.strerror or error}")


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def text_entry(key: str, value: str) -> bytes:
    """A metadata record holding a string."""
    return _string(key) + struct.pack("<I", 8) + _string(value)


def number_entry(key: str, value: int) -> bytes:
    """A metadata record holding an unsigned 32-bit number."""
    return _string(key) + struct.pack("<II", _U32, value)


def copied_entries(source: GgufFile, entries: Iterable[Entry]) -> Iterator[bytes]:
    """The records of `source`, byte for byte, in pieces."""
    with source.path.open("rb") as file:
        for entry in entries:
            file.seek(entry.start)
            left = entry.end - entry.start
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    raise StoreError(f"the model file {source.path} became shorter while it was read")
                left -= len(piece)
                yield piece


def header(
    entry_count: int, entries: Iterable[bytes], tensors: Sequence[GgufTensor], alignment: int
) -> Iterator[bytes]:
    """Everything before the tensor data, padded. Offsets follow from the order, types and shapes of `tensors`."""
    written = 0
    for piece in _unpadded(entry_count, entries, tensors, alignment):
        written += len(piece)
        yield piece
    yield padding(written, alignment)


def _unpadded(count: int, entries: Iterable[bytes], tensors: Sequence[GgufTensor], alignment: int) -> Iterator[bytes]:
    yield b"GGUF" + struct.pack("<IQQ", 3, len(tensors), count)
    yield from entries
    offset = 0
    for tensor in tensors:
        kind = TYPE_BY_NAME[tensor.type]
        yield _string(tensor.name)
        yield struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        yield struct.pack("<IQ", kind.number, offset)
        size = tensor_bytes(tensor)
        offset += size + len(padding(size, alignment))


def tensor_bytes(tensor: GgufTensor) -> int:
    """What the tensor's data takes in its type, without padding."""
    return TYPE_BY_NAME[tensor.type].row_bytes(tensor.shape[0]) * (tensor.elements // tensor.shape[0])


def padding(size: int, alignment: int) -> bytes:
    return bytes(-size % alignment)


def _string(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw
