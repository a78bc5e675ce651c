"""A layer on its way into the store: what is there of it survives a broken connection, a restart and kill -9.

    blobs/sha256-<hex>-partial        the bytes, at their places, in a file as long as the layer (sparse)
    blobs/sha256-<hex>-partial-<N>    {"N":0,"Offset":0,"Size":100000000,"Completed":4194304}, one for each part

These are Ollama's own files (server/download.go of 0.33): it can go on where we stopped, and we where it did. The
blob's own name appears only once its digest is right. Everything here blocks; callers use threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from app.core.errors import Cancelled, DiskFull, StoreError
from app.runtime.atomic_files import move_into_place, store_errors
from app.runtime.registry.pace import Pace
from app.wire.go_json import JsonError, dumps, loads

_log = logging.getLogger(__name__)

_PIECE = 4 << 20
_STATE_WIDTH = 128  # bytes; four numbers of 19 digits fit


@dataclass(slots=True)
class Part:
    """One stretch of the layer. `completed` bytes of it, from its start, are on disk."""

    number: int
    offset: int
    size: int
    completed: int = 0

    @property
    def position(self) -> int:
        """Where in the layer the next byte belongs."""
        return self.offset + self.completed

    @property
    def stop(self) -> int:
        return self.offset + self.size

    @property
    def is_complete(self) -> bool:
        return self.completed >= self.size


class Place(NamedTuple):
    """Where a layer goes: the store's root (for messages), the blob's path, its digest and size in bytes."""

    root: Path
    target: Path
    digest: str
    size: int

    @property
    def partial(self) -> Path:
        return self.target.with_name(f"{self.target.name}-partial")


class PartialBlob:
    """The open files of one layer under way. Make it with `open_partial`; `close` it in any case."""

    def __init__(self, place: Place, descriptor: int, parts: list[Part]) -> None:
        self.place, self.parts = place, parts
        self._descriptor = descriptor

    @property
    def completed(self) -> int:
        return sum(part.completed for part in self.parts)

    def write(self, part: Part, content: bytes) -> None:
        """Puts the next bytes of a part in place and notes them. Raises `DiskFull`, `StoreError`."""
        with store_errors(self.place.root):
            view = memoryview(content)
            while view:
                written = os.pwrite(self._descriptor, view, part.position)
                part.completed += written
                view = view[written:]
            self._note(part)

    def restart(self, part: Part) -> None:
        """Forgets what is there of a part, for a registry that cannot go on in the middle."""
        with store_errors(self.place.root):
            part.completed = 0
            self._note(part)

    def digest(self, stopped: Callable[[], bool]) -> str:
        """ "sha256:<hex>" of the whole. Raises `Cancelled` soon after `stopped` says so."""
        digest = hashlib.sha256()
        with store_errors(self.place.root):
            for offset in range(0, self.place.size, _PIECE):
                if stopped():
                    raise Cancelled
                digest.update(os.pread(self._descriptor, min(_PIECE, self.place.size - offset), offset))
        return f"sha256:{digest.hexdigest()}"

    def install(self) -> None:
        """Gives the blob its name. The notes go last: without the file they describe they mean nothing."""
        with store_errors(self.place.root):
            move_into_place(self.place.partial, self.place.target)
            _remove_notes(self.place)

    def discard(self) -> None:
        """Removes everything that was fetched."""
        with store_errors(self.place.root):
            _remove(self.place)

    def close(self) -> None:
        os.close(self._descriptor)  # and with it goes the lock

    def _note(self, part: Part) -> None:
        """In place and in one write of always the same length: a kill leaves the old note or the new one."""
        descriptor = os.open(_note_path(self.place, part.number), os.O_WRONLY | os.O_NOFOLLOW)
        try:
            os.pwrite(descriptor, _encoded(part), 0)
        finally:
            os.close(descriptor)


def open_partial(place: Place, pace: Pace, free: Callable[[Path], int] | None = None) -> PartialBlob:
    """What is there of a layer, or a fresh start where nothing is or it does not fit together.

    `free` gives the free bytes of a file system. Raises `DiskFull` where the rest will not fit, `StoreError`, also
    when another process is fetching the same layer.
    """
    with store_errors(place.root):
        place.target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place.partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with store_errors(place.root):
            _lock(place, descriptor)
            parts = _resumable(place, descriptor)
            room = (free or _free)(place.target.parent)
            if room < place.size - sum(part.completed for part in parts):
                raise DiskFull(f"no space left for the model store {place.root}: {place.digest} needs {place.size}"
                               f" bytes, {room} are free")  # fmt: skip
            if not parts:
                parts = _begin(place, descriptor, pace)
        return PartialBlob(place, descriptor, parts)
    except BaseException:
        os.close(descriptor)
        raise


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _lock(place: Place, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours, named = os.fstat(descriptor), place.partial.lstat()
    except (BlockingIOError, FileNotFoundError):
        raise StoreError(f"another process is pulling {place.digest} into the store {place.root}") from None
    if (ours.st_dev, ours.st_ino) != (named.st_dev, named.st_ino):
        raise StoreError(f"another process is pulling {place.digest} into the store {place.root}")
    if not stat.S_ISREG(ours.st_mode):
        raise StoreError(f"{place.partial.name} in the store {place.root} is not a file")


def _resumable(place: Place, descriptor: int) -> list[Part]:
    """The parts as their notes say; none unless they cover the layer without a gap and the file is as long."""
    notes = _note_paths(place)
    try:
        parts = sorted((_decoded(path) for path in notes), key=lambda part: part.number)
    except (OSError, ValueError) as error:
        _log.warning("the download of %s starts over: %s", place.digest, error)
        return []
    offset = 0
    for number, part in enumerate(parts):
        if part.number != number or part.offset != offset or not 0 <= part.completed <= part.size:
            return []
        offset += part.size
    return parts if offset == place.size == os.fstat(descriptor).st_size else []


def _begin(place: Place, descriptor: int, pace: Pace) -> list[Part]:
    _remove_notes(place)
    os.ftruncate(descriptor, 0)
    os.ftruncate(descriptor, place.size)
    size = pace.part_size(place.size)
    offsets = range(0, place.size, size)
    parts = [Part(number, offset, min(size, place.size - offset)) for number, offset in enumerate(offsets)]
    for part in parts:
        _create_note(place, part)
    return parts


def _create_note(place: Place, part: Part) -> None:
    """Whole or not at all. The temporary name begins with a dot: Ollama takes sha256-…-partial-* for notes."""
    path = _note_path(place, part.number)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        temporary.write_bytes(_encoded(part))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _encoded(part: Part) -> bytes:
    note = dumps({"N": part.number, "Offset": part.offset, "Size": part.size, "Completed": part.completed})
    return note.ljust(_STATE_WIDTH - 1) + b"\n"  # the spaces are JSON too


def _decoded(path: Path) -> Part:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        value = loads(os.read(descriptor, 4096))
    except JsonError as error:
        raise ValueError(f"{path.name} is damaged: {error.message}") from error
    finally:
        os.close(descriptor)
    fields = [value.get(key) for key in ("N", "Offset", "Size", "Completed")] if isinstance(value, dict) else []
    numbers = [field for field in fields if isinstance(field, int) and not isinstance(field, bool)]
    if len(numbers) != 4 or numbers[2] <= 0:
        raise ValueError(f"{path.name} is damaged")
    return Part(*numbers)


def _note_path(place: Place, number: int) -> Path:
    return place.target.with_name(f"{place.target.name}-partial-{number}")


def _note_paths(place: Place) -> list[Path]:
    return list(place.target.parent.glob(f"{place.target.name}-partial-*"))


def _remove_notes(place: Place) -> None:
    unfinished = place.target.parent.glob(f".{place.target.name}-partial-*.tmp")
    for path in (*_note_paths(place), *unfinished):
        path.unlink(missing_ok=True)


def _remove(place: Place) -> None:
    # The file first: notes without it start over, while the file without notes would only take up space.
    with contextlib.suppress(FileNotFoundError):
        place.partial.unlink()
    _remove_notes(place)
