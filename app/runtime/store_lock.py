"""One supervisor for a store: a lock on the folder itself, so that a read-only store can be locked too."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from app.core.errors import StoreError

_NOTE = ".supervisor"  # holds the pid of the one that has the lock, for the error message alone


class StoreLock:
    """Held until the process ends or `release`. Raises `StoreError` naming the pid of the other supervisor."""

    def __init__(self, root: Path) -> None:
        self._note = root / _NOTE
        try:
            self._handle = os.open(root, os.O_RDONLY)
        except OSError as error:
            raise StoreError(f"the model store {root} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._handle)
            raise StoreError(f"the model store {root} is in use by another runtime{self._holder()}") from error
        with contextlib.suppress(OSError):  # a read-only store: only the message of the next one is poorer
            self._note.write_text(str(os.getpid()))

    def release(self) -> None:
        with contextlib.suppress(OSError):
            self._note.unlink()
        os.close(self._handle)

    def _holder(self) -> str:
        try:
            return f" (pid {int(self._note.read_text())})"
        except (OSError, ValueError):
            return ""
