"""Small JSON files in the data folder: read whole or not at all, written whole or not at all. Both block."""

from __future__ import annotations

import json
import os
from pathlib import Path

from app.core.generation import Json

LIMIT = 1 << 20  # bytes


def read_small(file: Path) -> Json:
    """None where there is none, or what is there is no JSON."""
    try:
        with file.open("rb") as opened:
            value: Json = json.loads(opened.read(LIMIT))
            return value
    except (OSError, ValueError, RecursionError):
        return None


def write_small(file: Path, text: str) -> None:
    """Raises OSError."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
