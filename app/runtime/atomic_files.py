"""Files that are either whole or not there: temporary file beside the target, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from app.core.errors import DiskFull, StoreError

_PIECE = 4 << 20
_MODE = 0o644  # as Ollama leaves its files: another user's Ollama may be meant to read them


def content_digest(source: Path | bytes) -> tuple[str, int]:
    """("sha256:<hex>", size in bytes) of a file or of bytes."""
    if isinstance(source, bytes):
        return f"sha256:{hashlib.sha256(source).hexdigest()}", len(source)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"sha256:{digest}", file.tell()


def write_atomically(target: Path, source: Path | bytes) -> None:
    """Copies `source` to `target`; on any error nothing is left behind. Raises OSError."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("wb") as file:
            if isinstance(source, bytes):
                file.write(source)
            else:
                with source.open("rb") as origin:
                    shutil.copyfileobj(origin, file, _PIECE)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_MODE)
        temporary.replace(target)
        sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def move_into_place(source: Path, target: Path) -> None:
    """Renames a finished file to `target`, or copies it where that is on another file system. Raises OSError."""
    descriptor = os.open(source, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        source.chmod(_MODE)
        source.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        write_atomically(target, source)
        source.unlink()


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def store_errors(root: Path) -> Iterator[None]:
    """Turns OSErrors about the store into `DiskFull` or `StoreError` with one clear sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left for the model store {root}") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreError(f"the model store {root} is not writable: {error.strerror}") from error
        raise StoreError(f"the model store {root} cannot be used: {error}") from error
