"""What a push sends to a registry: layers it does not have yet, then the manifest.

Layers go one after another, each in parts that follow one another. No credential is sent, because this machine has
none: a registry that wants one refuses with "unauthorized: access denied".
Source: PushModel and uploadBlob of Ollama 0.33, and the distribution protocol's chunked upload (POST, PATCH …, PUT).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from yarl import URL

from app.runtime.atomic_files import store_errors
from app.runtime.manifests import MANIFEST_TYPE, Layer
from app.runtime.registry.errors import RegistryError
from app.runtime.registry.pace import Pace
from app.runtime.registry.registry_client import Absent, RegistryClient, redirected
from app.runtime.registry.threads import in_thread

_PIECE = 1 << 20
_BYTES = "application/octet-stream"


class Uploads:
    """Sends into one registry through a client that is open."""

    def __init__(self, client: RegistryClient, pace: Pace) -> None:
        self._client, self._pace = client, pace

    async def has(self, layer: Layer) -> bool:
        """Whether the registry has the layer already. Raises `RegistryError`."""
        try:
            async with self._client.exchange("HEAD", self._client.base / "blobs" / layer.digest, {}):
                return True
        except Absent:
            return False

    async def manifest(self, raw: bytes, tag: str) -> None:
        """Publishes the manifest: from now on the model is there. Raises `RegistryError`."""
        kind = {"Content-Type": MANIFEST_TYPE}
        async with self._client.exchange("PUT", self._client.base / "manifests" / tag, kind, raw) as response:
            _accepted(response.status)

    def layer(self, layer: Layer, path: Path) -> Upload:
        return Upload(self._client, self._pace, layer, path)


class Upload:
    """One layer on its way; `sent` bytes of it have left."""

    def __init__(self, client: RegistryClient, pace: Pace, layer: Layer, path: Path) -> None:
        self._client, self._pace, self._layer, self._path = client, pace, layer, path
        self.sent = 0

    async def run(self) -> None:
        """Sends all of it. Raises `RegistryError`, or `StoreError` where the file cannot be read."""
        with ExitStack() as files:
            with store_errors(self._path.parent):
                file = files.enter_context(self._path.open("rb"))
                size = self._path.stat().st_size
            place = await self._step("POST", self._client.base / "blobs" / "uploads" / "", {})
            step = self._pace.part_size(size)
            for start in range(0, size, step):
                part = min(step, size - start)
                headers = {
                    "Content-Type": _BYTES,
                    "Content-Length": str(part),
                    "Content-Range": f"{start}-{start + part - 1}",
                }
                place = await self._step("PATCH", place, headers, self._pieces(file, part))
        finish = place.update_query({"digest": self._layer.digest})
        async with self._client.exchange("PUT", finish, {"Content-Type": _BYTES}) as response:
            _accepted(response.status)

    async def _step(
        self, method: str, url: URL, headers: dict[str, str], data: AsyncIterator[bytes] | bytes = b""
    ) -> URL:
        """Where the registry wants what follows."""
        async with self._client.exchange(method, url, headers, data) as response:
            _accepted(response.status)
            return redirected(response.url, response.headers.get("Location"))

    async def _pieces(self, file: BinaryIO, size: int) -> AsyncIterator[bytes]:
        while size:
            with store_errors(self._path.parent):
                piece = await in_thread(file.read, min(_PIECE, size))
            if not piece:
                raise RegistryError(f"the layer {self._layer.digest} became shorter during the push")
            yield piece
            size -= len(piece)
            self.sent += len(piece)


def _accepted(status: int) -> None:
    if status >= 300:  # a redirect of what can be sent once only; refusals were raised before
        raise RegistryError(f"unexpected status code {status}")
