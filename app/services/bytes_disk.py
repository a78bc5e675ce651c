"""A diskcache `Disk` that stores text keys and bytes in the database, and reads nothing else.

The stock `Disk` and `JSONDisk` unpickle whatever a row says is a pickle, and open or remove whatever file a row
names (CVE-2025-69872): who can write a row runs code. Here such a row is an `OSError`, which diskcache takes for a
miss.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from diskcache import Disk
from diskcache.core import MODE_RAW, UNKNOWN

ENTRY_LIMIT = 1 << 20
"""Bytes. Larger values would go to files of their own, which we never use."""


class ForeignRow(OSError):
    """A row that we did not write."""


class BytesDisk(Disk):  # type: ignore[misc]  # diskcache has no types
    def __init__(self, directory: str, **settings: Any) -> None:
        super().__init__(directory, **settings)
        self.foreign = 0
        """How many foreign rows were met; the reader deletes what raised the count."""

    def put(self, key: Any) -> tuple[str, bool]:
        if type(key) is not str:
            raise TypeError("keys are text")
        return key, True

    def get(self, key: Any, raw: bool) -> str:
        if not raw or type(key) is not str:
            raise self._refuse()
        return key

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, None, memoryview]:
        if type(value) is not bytes or read:
            raise TypeError("values are bytes")
        if len(value) >= ENTRY_LIMIT:
            raise ValueError("the value is too large")
        return 0, MODE_RAW, None, sqlite3.Binary(value)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> bytes:
        if mode != MODE_RAW or filename is not None or type(value) is not bytes or read:
            raise self._refuse()
        return value

    def remove(self, file_path: str) -> None:
        """Nothing: no row of ours has a file, so a named file is somebody else's."""
        self.foreign += 1

    def _refuse(self) -> ForeignRow:
        self.foreign += 1
        return ForeignRow("a row that Loupe did not write")
