"""Clearing up in a store when a server starts: what killed processes left, and blobs that belong to no model.

Ollama's rule (PruneLayers of 0.33): nothing younger than an hour, which another process may be about to use; blobs that
no manifest names, and partial downloads, go unless OLLAMA_NOPRUNE is set, or a manifest cannot be read, for it might
name any of them. Temporary files of our own go in any case: nobody can use them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import StoreError
from app.runtime.manifests import read_manifest
from app.runtime.model_store import ModelStore
from app.wire.model_names import ModelName

GRACE = 3600.0  # seconds

_log = logging.getLogger(__name__)
_PARTIAL = re.compile(r"\.?(sha256-[0-9a-fA-F]{64}-partial)(-\d+)?(\..*)?")
_OURS = re.compile(r"\..+\.(tmp|gguf|partial|joined)")


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed: files, and the bytes they took."""

    files: int = 0
    nbytes: int = 0


def sweep(store: ModelStore, *, prune: bool = True, now: float | None = None) -> Swept:
    """Clears up. Does nothing in a store that is not there or not ours to change; a file that resists is passed over.

    `now` is in seconds since 1970. Does disk work and waits for the store's lock.
    """
    if not (store.blobs.is_dir() and store.manifests.is_dir() and os.access(store.blobs, os.W_OK)):
        return Swept()
    before = (time.time() if now is None else now) - GRACE
    try:
        with store._changing():
            doomed = [*_leftovers(store, before), *(_unused(store, before) if prune else ())]
            swept = _removed(doomed)
            if prune:
                _remove_empty_folders(store.manifests)
    except StoreError as error:
        _log.warning("the store is not cleared up: %s", error.message)
        return Swept()
    if swept.files:
        _log.info("cleared up in %s: %d files, %d bytes", store.root, swept.files, swept.nbytes)
    return swept


def _leftovers(store: ModelStore, before: float) -> Iterator[Path]:
    """Our own temporary files, among the blobs and (of older versions and of pulls) among the manifests."""
    for path in (*store.blobs.glob(".*"), *store.manifests.glob("*/*/*/.*.tmp")):
        if _OURS.fullmatch(path.name) and not _PARTIAL.fullmatch(path.name) and _modified(path) < before:
            yield path


def _unused(store: ModelStore, before: float) -> Iterator[Path]:
    """Blobs that no manifest names, downloads that nobody went on with, and what has no name of a blob at all."""
    used = _used(store)
    if used is None:
        return
    downloads: dict[str, list[Path]] = {}
    for path in store.blobs.iterdir():
        if partial := _PARTIAL.fullmatch(path.name):
            downloads.setdefault(partial[1], []).append(path)
        elif path.name.startswith(".") or path.name.replace("-", ":", 1) in used:
            continue
        elif _modified(path) < before:
            yield path
    for paths in downloads.values():
        if max(map(_modified, paths)) < before:  # a part may have been finished long before the others
            yield from paths


def _used(store: ModelStore) -> set[str] | None:
    """The digests that manifests name; None where one of them cannot be read."""
    used: set[str] = set()
    for path in store.manifests.glob("*/*/*/*"):
        name = ModelName(*path.parts[-4:])
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            used |= {layer.digest.replace("-", ":", 1) for layer in read_manifest(name, path).everything}
        except (OSError, ValueError) as error:
            _log.warning("no blob is removed because a manifest cannot be read: %s: %s", path, error)
            return None
    return used


def _modified(path: Path) -> float:
    """When a file changed last; a folder, a link or what is gone counts as new."""
    try:
        status = path.lstat()
    except OSError:
        return float("inf")
    return status.st_mtime if path.is_file() and not path.is_symlink() else float("inf")


def _removed(paths: list[Path]) -> Swept:
    files = nbytes = 0
    for path in paths:
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            files, nbytes = files + 1, nbytes + size
    return Swept(files, nbytes)


def _remove_empty_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        if Path(folder) != root:
            with contextlib.suppress(OSError):  # not empty
                Path(folder).rmdir()
