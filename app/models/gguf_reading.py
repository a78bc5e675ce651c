"""Walking through an untrusted GGUF header: every length is checked against the file before it is believed.

Nothing here allocates more than one window or one capped value, nests deeper than one array, or loops more often
than the file has bytes. `gguf_file` is the public face; this module knows bytes, not models.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from app.core.errors import ModelFileDamaged
from app.core.generation import Json

WINDOW = 1 << 20  # bytes read at a time
MAX_STRING = 16 << 20  # bytes; the longest real ones are chat templates of some 10 KiB
MAX_ARRAY = 16 << 20  # elements; the largest real vocabularies have under a million
KEY_LIMIT = 65_535  # bytes, from the GGUF specification

STRING, ARRAY, BOOL = 8, 9, 7
# metadata value type → struct code of one value, little-endian
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", BOOL: "?", 10: "Q", 11: "q", 12: "d"}
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one metadata record lies: `start` at its key, `value` at its value, `end` after it (bytes in the file).

    `kind` is the value's type number; for arrays `element` is the type and `count` the number of their elements.
    """

    key: str
    kind: int
    start: int
    value: int
    end: int
    element: int = 0
    count: int = 1


class Cursor:
    """A forward reader over `file` that refuses to leave it."""

    def __init__(self, file: BinaryIO, path: str, size: int) -> None:
        self._file, self._path, self.size = file, path, size
        self._buffer = b""
        self._base = 0  # file offset of the buffer's first byte
        self._at = 0  # index into the buffer

    @property
    def position(self) -> int:
        return self._base + self._at

    @property
    def remaining(self) -> int:
        return self.size - self.position

    def damaged(self, why: str) -> NoReturn:
        raise ModelFileDamaged(self._path, why)

    def skip(self, count: int, what: str) -> None:
        if count > self.remaining:
            self.damaged(f"{what} reaches past the end of the file")
        self._at += count

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes (callers cap `count`)."""
        if count > self.remaining:
            self.damaged(f"the file ends inside {what}")
        if self._at + count > len(self._buffer):
            self._refill(max(count, WINDOW), count, what)
        taken = self._buffer[self._at : self._at + count]
        self._at += count
        return taken

    def _refill(self, want: int, need: int, what: str) -> None:
        self._base, self._at = self.position, 0
        self._file.seek(self._base)
        self._buffer = self._file.read(want)
        if len(self._buffer) < need:  # it shrank while we read
            self.damaged(f"the file ends inside {what}")

    def u32(self, what: str) -> int:
        return int(_U32.unpack(self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(_U64.unpack(self.take(8, what))[0])

    def string(self, limit: int, what: str) -> str:
        """A short string that has to be valid UTF-8 (keys and tensor names)."""
        length = self.u64(what)
        if length > limit:
            self.damaged(f"{what} is {length} bytes long (at most {limit})")
        try:
            return self.take(length, what).decode()
        except UnicodeDecodeError:
            self.damaged(f"{what} is not text")

    def between(self, start: int, end: int, what: str) -> bytes:
        """The bytes [start, end) that were just walked over; the position ends at `end` again."""
        if start >= self._base:
            self._at = start - self._base
        else:
            self._buffer, self._base, self._at = b"", start, 0
        return self.take(end - start, what)

    def skip_strings(self, count: int, what: str) -> None:
        """Walk over `count` length-prefixed strings; fast while they lie inside the window."""
        done = 0
        while done < count:
            buffer, at, end = self._buffer, self._at, len(self._buffer)
            while done < count and at + 8 <= end:
                length = _U64.unpack_from(buffer, at)[0]
                if at + 8 + length > end:
                    break
                at += 8 + length
                done += 1
            self._at = at
            if done < count:
                self.skip_string(what)
                done += 1

    def skip_string(self, what: str) -> None:
        length = self.u64(what)
        if length > MAX_STRING:
            self.damaged(f"{what} holds a string of {length} bytes (at most {MAX_STRING})")
        self.skip(length, what)


def read_entry(cursor: Cursor) -> Entry:
    """Walk over one metadata record and say where it lies."""
    start = cursor.position
    key = cursor.string(KEY_LIMIT, "a metadata key")
    if not key or not key.isprintable():
        cursor.damaged("a metadata key is empty or not printable")
    kind = cursor.u32(f"the type of {key}")
    value = cursor.position
    if kind == ARRAY:
        return _read_array(cursor, key, start, value)
    if kind == STRING:
        cursor.skip_string(key)
    elif kind in _SCALARS:
        cursor.skip(struct.calcsize("<" + _SCALARS[kind]), key)
    else:
        cursor.damaged(f"{key} has the unknown type {kind}")
    return Entry(key, kind, start, value, cursor.position)


def _read_array(cursor: Cursor, key: str, start: int, value: int) -> Entry:
    element = cursor.u32(key)
    count = cursor.u64(key)
    if element == ARRAY:
        cursor.damaged(f"{key} is an array of arrays")
    if element != STRING and element not in _SCALARS:
        cursor.damaged(f"{key} is an array of the unknown type {element}")
    if count > MAX_ARRAY:
        cursor.damaged(f"{key} claims {count} elements (at most {MAX_ARRAY})")
    if element == STRING:
        if count * _U64.size > cursor.remaining:
            cursor.damaged(f"{key} claims more elements than the file has room for")
        cursor.skip_strings(count, key)
    else:
        cursor.skip(count * struct.calcsize("<" + _SCALARS[element]), key)
    return Entry(key, ARRAY, start, value, cursor.position, element, count)


def decode(entry: Entry, raw: bytes) -> Json:
    """The value of `entry` from its bytes [value, end). Strings that are not UTF-8 get replacement characters."""
    if entry.kind == ARRAY:
        return _decode_array(entry, raw)
    if entry.kind == STRING:
        return raw[8:].decode(errors="replace")
    value: Json = struct.unpack("<" + _SCALARS[entry.kind], raw)[0]
    return value


def _decode_array(entry: Entry, raw: bytes) -> Json:
    at = 12  # after the element type and the count
    if entry.element != STRING:
        return list(struct.unpack_from(f"<{entry.count}{_SCALARS[entry.element]}", raw, at))
    values: list[Json] = []
    for _ in range(entry.count):
        length = _U64.unpack_from(raw, at)[0]
        values.append(raw[at + 8 : at + 8 + length].decode(errors="replace"))
        at += 8 + length
    return values
