"""`keys.json`: read strictly, because a file that cannot be read must not look like one without keys. Blocks."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from pathlib import Path

from app.core.errors import DiskFull, StoreError
from app.core.generation import Json
from app.services.small_file import write_small

FILE = "keys.json"
_VERSION = 1


def read_keys(file: Path) -> list[dict[str, Json]]:
    """The rows; none where there is no file. Raises ValueError, KeyError or TypeError for another content, and
    `StoreError` where it cannot be opened."""
    try:
        content = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise StoreError(f"{file} cannot be read: {problem.strerror}") from problem
    told = json.loads(content)
    if told["version"] != _VERSION:
        raise ValueError("of another version")
    rows = told["keys"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TypeError("no list of keys")
    return rows


def write_keys(file: Path, rows: Sequence[dict[str, Json]]) -> None:
    """The whole file or nothing of it; without keys there is no file. Raises `StoreError`."""
    try:
        if rows:
            write_small(file, json.dumps({"version": _VERSION, "keys": list(rows)}, indent=1))
        else:
            file.unlink(missing_ok=True)
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space is left for {file}; the keys are as they were") from problem
        raise StoreError(f"{file} cannot be written: {problem.strerror}; the keys are as they were") from problem
