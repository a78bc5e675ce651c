"""Uploaded blobs: streamed to disk within a bound, hashed on the way, named by what they hold.

Source: CreateBlobHandler of Ollama 0.33 and the recordings blob_*. A blob whose digest is not the promised one is kept
under its own, as Ollama does: it is whole, only not what was meant.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

from app.core.errors import BadRequest, PayloadTooLarge
from app.models.gguf_writer import HashedFile
from app.runtime.atomic_files import store_errors
from app.runtime.create_install import require_room
from app.runtime.model_store import ModelStore
from app.runtime.registry.threads import in_thread
from app.wire.go_duration import quote_go

LARGEST_BLOB = 4 << 40  # bytes; as much as a pull takes
_PIECE = 1 << 20  # bytes collected before a thread hashes and writes them


def has_blob(store: ModelStore, digest: str) -> bool:
    """Whether the blob `digest` is there. Raises `BadRequest` for what is no digest."""
    return store.blob_path(digest).is_file()


async def upload_blob(
    store: ModelStore,
    digest: str,
    chunks: AsyncIterator[bytes],
    *,
    limit: int = LARGEST_BLOB,
    expected: int | None = None,
) -> int:
    """The status to answer with: 201 for a new blob, 200 for one that was there (nothing is read then).

    `limit` and `expected` (what Content-Length promises, if it does) are in bytes. What `chunks` raises goes through,
    and whenever an upload does not come to its end nothing of it stays. Raises `BadRequest` (no digest, or another
    than the bytes have), `PayloadTooLarge`, `DiskFull`, `StoreError`.
    """
    if await in_thread(has_blob, store, digest):
        return 200
    if expected is not None and expected > limit:
        raise PayloadTooLarge(limit)
    upload = await in_thread(_Upload, store, expected or 0)
    try:
        waiting = bytearray()
        async for chunk in chunks:
            waiting += chunk
            if upload.size + len(waiting) > limit:
                raise PayloadTooLarge(limit)
            if len(waiting) >= _PIECE:
                await in_thread(upload.write, bytes(waiting))
                waiting.clear()
        found = await in_thread(upload.finish, bytes(waiting))
    finally:
        await in_thread(upload.close)
    if found != digest:
        raise BadRequest(f"digest mismatch, expected {quote_go(digest)}, got {quote_go(found)}")
    return 201


class _Upload:
    """The file of one upload. Everything here blocks."""

    def __init__(self, store: ModelStore, expected: int) -> None:
        store.prepare()
        self._store = store
        require_room(store, expected)
        self._file = HashedFile(store.blobs / f".upload.{secrets.token_hex(8)}.tmp")

    @property
    def size(self) -> int:
        return self._file.size

    def write(self, piece: bytes) -> None:
        self._file.write(piece)

    def finish(self, rest: bytes) -> str:
        """Puts the blob in its place and returns its digest. One that is there already, and whole, stays."""
        self._file.write(rest)
        digest = f"sha256:{self._file.sha256}"
        target = self._store.blob_path(digest)
        with self._store._changing(), store_errors(self._store.root):
            if not target.is_file() or target.stat().st_size != self._file.size:
                self._file.path.chmod(0o644)
                self._file.commit(target)
        return digest

    def close(self) -> None:
        """Removes the file unless it has its place."""
        self._file.__exit__(None, None, None)
