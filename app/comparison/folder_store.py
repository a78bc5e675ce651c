"""A folder for each thing that is kept, by its id: files written whole or not at all, files of lines that grow.

Everything here blocks. Raises `StoreError`, or `DiskFull`, where something cannot be written.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.core.errors import DiskFull, LoupeError, StoreError
from app.core.generation import Json
from app.services.line_file import append_lines
from app.services.small_file import write_small

_ID = re.compile(r"[0-9a-f][0-9a-f-]{0,63}")


class FolderStore:
    """`root` is made when something is written. `what` is kept, as sentences call it; `missing` is the error for an id
    that is none."""

    def __init__(self, root: Path, what: str, missing: Callable[[str], LoupeError]) -> None:
        self.root, self._what, self._missing = root, what, missing

    def of(self, kept_id: str) -> Path:
        """Its folder. Raises what `missing` makes."""
        if not _ID.fullmatch(kept_id):
            raise self._missing(kept_id)
        return self.root / kept_id

    def write(self, kept_id: str, name: str, value: Json) -> None:
        folder = self.of(kept_id)
        with self._told():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_small(folder / name, json.dumps(value))

    def append(self, file: Path, rows: Iterable[Json]) -> None:
        with self._told():
            append_lines(file, rows)

    def delete(self, kept_id: str) -> None:
        shutil.rmtree(self.of(kept_id), ignore_errors=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENOSPC:
                full = f"the disk with Loupe's data folder is full: {self._what} cannot be kept"
                raise DiskFull(full) from error
            raise StoreError(f"{self._what} cannot be kept: {error.strerror or error}") from error
