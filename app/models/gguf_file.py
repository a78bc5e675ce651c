"""What a GGUF file says about its model: metadata, tensors, structure, true bits per weight.

The file is untrusted: the header is parsed by our own bounded reader (`gguf_reading`), never by mapping it into
memory, and everything that llama.cpp's loader refuses is refused here with a reason. GGUF versions 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from app.core.errors import ModelFileDamaged, StoreError
from app.core.generation import Json
from app.models.ggml_types import TYPE_BY_NUMBER
from app.models.gguf_reading import ARRAY, Cursor, Entry, decode, read_entry

MAX_ENTRIES = 10_000
MAX_TENSORS = 100_000
MAX_NAME = 127  # bytes; llama.cpp itself stops at 63
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20
_EAGER = 4096  # bytes; longer values (tokenizer arrays, templates) are read when they are asked for
_MIN_ENTRY, _MIN_TENSOR = 13, 33  # bytes of the smallest possible record
_MAX_ELEMENTS = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: ggml's type name, `shape` with the row length first, `offset` and `nbytes` in the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def elements(self) -> int:
        total = 1
        for size in self.shape:
            total *= size
        return total


class Metadata(Mapping[str, Json]):
    """Metadata by key, in file order. Long values are read from the file at each access and not kept.

    Looking up a long value raises ModelFileDamaged when the file has been changed since it was opened.
    """

    def __init__(self, path: Path, entries: Mapping[str, Entry], known: Mapping[str, Json]) -> None:
        self._path, self._entries, self._known = path, entries, known

    def __getitem__(self, key: str) -> Json:
        if key in self._known:
            return self._known[key]
        entry = self._entries[key]
        with _opened(self._path) as file:
            file.seek(entry.value)
            raw = file.read(entry.end - entry.value)
        if len(raw) < entry.end - entry.value:
            raise ModelFileDamaged(str(self._path), f"the file ends inside {key}")
        return decode(entry, raw)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, key: str) -> Entry:
        return self._entries[key]

    def array_length(self, key: str) -> int | None:
        """The number of elements without reading them; None where the value is no array, or absent."""
        entry = self._entries.get(key)
        return entry.count if entry is not None and entry.kind == ARRAY else None


@dataclass(frozen=True, slots=True, eq=False)
class GgufFile:
    """A parsed header. `data_offset` is where tensor data begins, `size` the size of the file (both in bytes)."""

    path: Path
    version: int
    alignment: int
    metadata: Metadata
    tensors: tuple[GgufTensor, ...]
    data_offset: int
    size: int

    @property
    def architecture(self) -> str:
        return self.text("general.architecture") or ""

    @property
    def file_type(self) -> int | None:
        return self.number("general.file_type")

    @property
    def parameter_count(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """What the tensors really take, the unquantized ones included; 0 for a file without tensors."""
        return self.tensor_bytes * 8 / self.parameter_count if self.tensors else 0.0

    @property
    def vocab_size(self) -> int | None:
        """From the metadata, else the rows of the embedding, else the length of the token list."""
        told = self.own_number("vocab_size")
        if told is not None:
            return told
        rows = [tensor.shape[1] for tensor in self.tensors if tensor.name == "token_embd.weight" and tensor.shape[1:]]
        return rows[0] if rows else self.metadata.array_length("tokenizer.ggml.tokens")

    def text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """An integer value; of an array (some architectures differ by layer) the first element."""
        value = self.metadata.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def own_number(self, name: str) -> int | None:
        """The architecture's own key, for example `llama.block_count` for "block_count"."""
        return self.number(f"{self.architecture}.{name}")


def read_gguf(path: Path | str) -> GgufFile:
    """Parse the header of `path`. Raises ModelFileDamaged (what is wrong with it) or StoreError (not readable)."""
    path = Path(path)
    with _opened(path) as file:
        size = file.seek(0, 2)
        return _parse(path, Cursor(file, str(path), size))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open for reading; what the system says against it becomes one StoreError."""
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            raise StoreError(f"the model file {path} is not there, or is no ordinary file")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise StoreError(f"the model file {path} cannot be read: {error.strerror}") from error


def _parse(path: Path, cursor: Cursor) -> GgufFile:
    version, tensor_count, entry_count = _read_counts(cursor)
    entries, known = _read_metadata(cursor, entry_count)
    metadata = Metadata(path, entries, known)
    alignment = _alignment(cursor, metadata)
    described = _read_tensor_list(cursor, tensor_count)
    data_offset = _padded(cursor.position, alignment)
    tensors = _placed(cursor, described, data_offset, alignment)
    return GgufFile(path, version, alignment, metadata, tensors, data_offset, cursor.size)


def _read_counts(cursor: Cursor) -> tuple[int, int, int]:
    if cursor.take(4, "the first four bytes") != b"GGUF":
        cursor.damaged("it does not begin with GGUF")
    version = cursor.u32("the version")
    if version & 0xFFFF == 0 and version:
        cursor.damaged("it is a big-endian file")
    if version not in (2, 3):
        cursor.damaged(f"GGUF version {version} is not known (2 and 3 are)")
    tensors, entries = cursor.u64("the tensor count"), cursor.u64("the metadata count")
    if tensors > MAX_TENSORS or tensors * _MIN_TENSOR > cursor.remaining:
        cursor.damaged(f"it claims {tensors} tensors, more than can be in it")
    if entries > MAX_ENTRIES or entries * _MIN_ENTRY > cursor.remaining:
        cursor.damaged(f"it claims {entries} metadata records, more than can be in it")
    return version, tensors, entries


def _read_metadata(cursor: Cursor, count: int) -> tuple[dict[str, Entry], dict[str, Json]]:
    entries: dict[str, Entry] = {}
    known: dict[str, Json] = {}
    for _ in range(count):
        entry = read_entry(cursor)
        if entry.key in entries:
            cursor.damaged(f"the metadata key {entry.key} is there twice")
        entries[entry.key] = entry
        if entry.end - entry.value <= _EAGER:
            known[entry.key] = decode(entry, cursor.between(entry.value, entry.end, entry.key))
    return entries, known


def _alignment(cursor: Cursor, metadata: Metadata) -> int:
    """`general.alignment` must be a power of two of type uint32 (as llama.cpp demands); 32 where it is absent."""
    if "general.alignment" not in metadata:
        return 32
    value = metadata["general.alignment"]
    if metadata.entry("general.alignment").kind != 4 or not isinstance(value, int):
        cursor.damaged("general.alignment is not a 32-bit number")
    if not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        cursor.damaged(f"the alignment {value} is not a power of two up to {MAX_ALIGNMENT}")
    return value


def _read_tensor_list(cursor: Cursor, count: int) -> list[GgufTensor]:
    """Tensors with `offset` still counted from the beginning of the data."""
    tensors: list[GgufTensor] = []
    names: set[str] = set()
    for _ in range(count):
        tensor = _read_tensor(cursor)
        if tensor.name in names:
            cursor.damaged(f"the tensor {tensor.name} is there twice")
        names.add(tensor.name)
        tensors.append(tensor)
    return tensors


def _read_tensor(cursor: Cursor) -> GgufTensor:
    name = cursor.string(MAX_NAME, "a tensor name")
    if not name or not name.isprintable():
        cursor.damaged("a tensor name is empty or not printable")
    dimensions = cursor.u32(name)
    if not 0 < dimensions <= MAX_DIMENSIONS:
        cursor.damaged(f"{name} has {dimensions} dimensions (1 to {MAX_DIMENSIONS})")
    shape = tuple(cursor.u64(name) for _ in range(dimensions))
    kind = TYPE_BY_NUMBER.get(number := cursor.u32(name))
    if kind is None:
        cursor.damaged(f"{name} has the unknown tensor type {number}")
    offset, elements = cursor.u64(name), 1
    for size in shape:
        elements *= size
    if not 0 < elements <= _MAX_ELEMENTS:
        cursor.damaged(f"{name} has an impossible shape {list(shape)}")
    if shape[0] % kind.block:
        cursor.damaged(f"{name} has rows of {shape[0]} elements, which {kind.name} cannot store")
    return GgufTensor(name, kind.name, shape, offset, kind.row_bytes(shape[0]) * (elements // shape[0]))


def _placed(cursor: Cursor, described: list[GgufTensor], base: int, alignment: int) -> tuple[GgufTensor, ...]:
    """Tensors at their place in the file. They must follow each other without gaps, as llama.cpp demands."""
    expected = 0
    placed: list[GgufTensor] = []
    for tensor in described:
        if tensor.offset != expected:
            cursor.damaged(f"{tensor.name} lies at {tensor.offset} where {expected} was expected")
        if base + tensor.offset + tensor.nbytes > cursor.size:
            cursor.damaged(f"the data of {tensor.name} reaches past the end of the file")
        expected = _padded(tensor.offset + tensor.nbytes, alignment)
        placed.append(replace(tensor, offset=base + tensor.offset))
    return tuple(placed)


def _padded(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
