"""A file system of its own and of few bytes, which can be filled and emptied again while files on it are open."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SmallDisk:
    folder: Path

    def fill(self) -> None:
        """Until not one byte more can be written."""
        with (self.folder / "ballast").open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def empty(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, room: int) -> Iterator[SmallDisk | None]:
    """One of `room` bytes, mounted on `folder`; None where none may be mounted (Linux, and root)."""
    folder.mkdir(mode=0o700, parents=True)
    if not _mounts("mount", "-t", "tmpfs", "-o", f"size={room},mode=0700", "none", str(folder)):
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        _mounts("umount", "-l", str(folder))


def _mounts(*words: str) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
