"""The model store, in Ollama's own layout on disk.

    blobs/sha256-<64 hex>                            layers and configs, named by what they hold
    manifests/<host>/<namespace>/<model>/<tag>       one JSON manifest a model; its digest is that of its bytes

Everything is written to a temporary file beside its place, synced and renamed, and a manifest only after its blobs:
what is listed is whole. A store that belongs to a real Ollama can be read as it is, also where it is not writable.
Source of the layout: the recorded store (tests/data/ollama) and Ollama 0.33.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from app.core.errors import BadRequest, ModelNotFound, StoreError
from app.runtime.atomic_files import content_digest, move_into_place, store_errors, write_atomically
from app.runtime.manifests import Layer, Manifest, encode_manifest, read_manifest
from app.wire.go_duration import quote_go
from app.wire.model_names import ModelName, checked, parse_name

_log = logging.getLogger(__name__)

_HEX = frozenset("0123456789abcdefABCDEF")


class ModelStore:
    """One store folder. Safe to use from several processes: changes take a lock on the manifests folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self.blobs = self.root / "blobs"
        self.manifests = self.root / "manifests"
        self._read: dict[Path, Manifest] = {}

    def prepare(self) -> None:
        """Makes the folders. Raises `StoreError` where that is not possible."""
        with store_errors(self.root):
            self.blobs.mkdir(parents=True, exist_ok=True)
            self.manifests.mkdir(parents=True, exist_ok=True)

    # reading

    def names(self) -> list[ModelName]:
        """Every model in the store whose manifest can be read."""
        return [manifest.name for manifest in self.all()]

    def all(self) -> list[Manifest]:
        """All manifests, the one changed last first. Files that are no manifest are passed over."""
        manifests = []
        for name, path in self._files():
            try:
                manifests.append(self._load(name, path))
            except (OSError, ValueError) as error:
                _log.warning("a manifest is left out of the list: %s: %s", path, error)
        return sorted(manifests, key=lambda manifest: manifest.modified_ns, reverse=True)

    def manifest(self, name: str | ModelName) -> Manifest:
        """The model `name`, whatever its case. Raises `ModelNotFound`, or `StoreError` for a damaged manifest."""
        wanted = parse_name(name) if isinstance(name, str) else name
        path = self._find(wanted)
        if path is None:
            raise ModelNotFound(name if isinstance(name, str) else wanted.shortest)
        try:
            return self._load(ModelName(*path.parts[-4:]), path)
        except FileNotFoundError:
            raise ModelNotFound(wanted.shortest) from None
        except (OSError, ValueError) as error:
            raise StoreError(f"the manifest of {wanted.shortest} cannot be read: {error}") from error

    def exists(self, name: str | ModelName) -> bool:
        return self._find(parse_name(name) if isinstance(name, str) else name) is not None

    def blob_path(self, digest: str) -> Path:
        """Where the blob `digest` ("sha256:<64 hex>") lies or would lie. Raises `BadRequest` for another shape."""
        kind, separator, value = digest[:6], digest[6:7], digest[7:]
        if kind != "sha256" or separator not in (":", "-") or len(value) != 64 or not _HEX.issuperset(value):
            raise BadRequest("invalid digest format")
        return self.blobs / f"sha256-{value}"

    def read_blob(self, layer: Layer, limit: int = 4 << 20) -> bytes:
        """A small layer's bytes. Raises `StoreError` where it is missing or larger than `limit`."""
        try:
            with self.blob_path(layer.digest).open("rb") as file:
                content = file.read(limit + 1)
        except OSError as error:
            raise StoreError(f"the layer {layer.digest} cannot be read: {error.strerror}") from error
        if len(content) > limit:
            raise StoreError(f"the layer {layer.digest} is larger than {limit} bytes")
        return content

    # changing

    def add_blob(self, source: Path | bytes, *, move: bool = False, media_type: str = "") -> Layer:
        """Puts a file or bytes into the store and returns its layer; a blob that is there already stays.

        `move` takes the file away from where it was (a rename on one file system). Raises `StoreError`, `DiskFull`.
        """
        self.prepare()
        with store_errors(self.root):
            digest, size = content_digest(source)
            target = self.blob_path(digest)
            if target.is_file() and target.stat().st_size == size:
                if move and isinstance(source, Path):
                    source.unlink(missing_ok=True)
            elif move and isinstance(source, Path):
                move_into_place(source, target)
            else:
                write_atomically(target, source)
        return Layer(digest=digest, size=size, media_type=media_type)

    def write_manifest(self, name: str | ModelName, config: Layer, layers: Sequence[Layer]) -> Manifest:
        """Lists a model: its blobs must be there. Replaces a model of that name. Raises `BadRequest`, `StoreError`."""
        wanted = checked(parse_name(name) if isinstance(name, str) else name)
        with self._changing():
            for layer in (config, *layers):
                if not self.blob_path(layer.digest).is_file():
                    raise StoreError(f"the layer {layer.digest} of {wanted.shortest} is not in the store")
            path = self._find(wanted) or self.manifests.joinpath(*wanted.parts)
            self._put(path, encode_manifest(config, layers))
        return self._load(ModelName(*path.parts[-4:]), path)

    def copy(self, source: str | ModelName, destination: str | ModelName) -> None:
        """Gives a model a second name, replacing what had it. Raises `ModelNotFound`, `BadRequest`, `StoreError`."""
        target = checked(parse_name(destination) if isinstance(destination, str) else destination)
        with self._changing():
            manifest = self.manifest(source)
            if manifest.name.folded == target.folded:
                return
            path = self._find(target) or self.manifests.joinpath(*target.parts)
            self._put(path, manifest.raw)

    def delete(self, name: str | ModelName) -> int:
        """Removes a model and the layers no other model uses; returns the bytes freed. Raises `ModelNotFound`."""
        with self._changing():
            manifest = self.manifest(name)
            path = self.manifests.joinpath(*manifest.name.parts)
            with store_errors(self.root):
                path.unlink()
                self._read.pop(path, None)
                self._prune(path.parent)
                return self._drop_unused({layer.digest for layer in manifest.everything})

    # inside

    def _files(self) -> Iterator[tuple[ModelName, Path]]:
        for path in self.manifests.glob("*/*/*/*"):
            name = ModelName(*path.parts[-4:])
            if name.is_valid and path.is_file():
                yield name, path

    def _find(self, name: ModelName) -> Path | None:
        exact = self.manifests.joinpath(*name.parts)
        if not name.is_valid:
            return None
        if exact.is_file():
            return exact
        return next((path for stored, path in self._files() if stored.folded == name.folded), None)

    def _load(self, name: ModelName, path: Path) -> Manifest:
        status = path.stat()
        known = self._read.get(path)
        if known and (known.modified_ns, known.inode) == (status.st_mtime_ns, status.st_ino):
            return known
        manifest = read_manifest(name, path)
        self._read[path] = manifest
        return manifest

    def _put(self, path: Path, content: bytes) -> None:
        with store_errors(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)

    def _prune(self, folder: Path) -> None:
        while folder != self.manifests:
            try:
                folder.rmdir()
            except OSError:  # not empty: another tag or model lives there
                return
            folder = folder.parent

    def _drop_unused(self, digests: set[str]) -> int:
        """Unlinks blobs of a removed model; a manifest that cannot be read keeps them all, it might name one."""
        for name, path in self._files():
            try:
                digests -= {layer.digest for layer in self._load(name, path).everything}
            except (OSError, ValueError) as error:
                _log.warning("no layer is removed because a manifest cannot be read: %s: %s", path, error)
                return 0
        freed = 0
        for digest in digests:
            path = self.blob_path(digest)
            with contextlib.suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                freed += size
        return freed

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time, across processes (flock on the manifests folder)."""
        self.prepare()
        with store_errors(self.root):
            handle = os.open(self.manifests, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def modified_at(manifest: Manifest) -> datetime:
    """When the manifest was written, in UTC (nanoseconds are kept in `modified_ns`)."""
    return datetime.fromtimestamp(manifest.modified_ns / 1e9, UTC)


def not_found_in_quotes(name: str, hint: str = "") -> ModelNotFound:
    """The other spelling of "not found" that copy and the embedding routes use."""
    return ModelNotFound(name, f"model {quote_go(name)} not found{hint}")
