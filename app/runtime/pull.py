"""Pulling a model: the records of /api/pull, from the manifest to "success".

Source: PullModel of Ollama 0.33 and the recordings pull_*, missing_pull and bad_name_pull. Two differences, both for
safety: a layer gets its name in the store only after its digest was checked, and nothing that a manifest says is
used before it was checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from app.core.errors import LoupeError
from app.core.generation import Json
from app.runtime.atomic_files import content_digest, store_errors
from app.runtime.manifests import Layer
from app.runtime.model_store import ModelStore
from app.runtime.registry.addresses import Lookup, look_up
from app.runtime.registry.download import Download, Downloads
from app.runtime.registry.errors import RegistryError, RegistryUnavailable
from app.runtime.registry.pace import Pace
from app.runtime.registry.pulled_manifest import (
    PulledManifest,
    install,
    parse_manifest,
    remove_unused,
    spelled_as_stored,
)
from app.runtime.registry.registry_client import RegistryClient
from app.runtime.registry.threads import in_thread
from app.wire.model_names import ModelName, parse_reference

Record = dict[str, Json]


class Puller:
    """Pulls models into one store. Pulls may run side by side; those that need the same layer share its download."""

    def __init__(
        self, store: ModelStore, *, prune: bool = True, pace: Pace | None = None, lookup: Lookup = look_up
    ) -> None:
        """`prune` removes layers that a newer version of a model no longer has (off with OLLAMA_NOPRUNE)."""
        self._store, self._prune, self._lookup = store, prune, lookup
        self._pace = pace or Pace()
        self._downloads = Downloads(store.root, self._pace)

    async def pull(self, name: str, *, insecure: bool = False) -> AsyncGenerator[Record, None]:
        """The progress records of one pull; closing the generator leaves it, and it can be gone on with later.

        Raises, before the first record: `BadRequest`, `NotAllowed` (a cloud model). Afterwards, with the message that
        belongs in the error record: `RegistryError`, `IntegrityError`, `DiskFull`, `StoreError`, `Cancelled`.
        """
        wanted = await in_thread(spelled_as_stored, self._store, parse_reference(name))
        client = self._client(wanted, insecure)
        yield {"status": "pulling manifest"}
        manifest = await self._manifest(client)
        async with contextlib.AsyncExitStack() as leaving:
            joined: list[Download] = []
            for layer in manifest.everything:
                layers = self._layer(layer, wanted, insecure, joined, leaving)
                async with contextlib.aclosing(layers) as records:
                    async for record in records:
                        yield record
            yield {"status": "verifying sha256 digest"}
            await _installed(joined)
            yield {"status": "writing manifest"}
            gone = await in_thread(install, self._store, wanted, manifest)
        if gone and self._prune:
            yield {"status": "removing unused layers"}
            await in_thread(remove_unused, self._store, gone)
        yield {"status": "success"}

    async def close(self) -> None:
        """Stops every download; those who wait for one get `Cancelled`."""
        await self._downloads.close()

    def _client(self, name: ModelName, insecure: bool) -> RegistryClient:
        return RegistryClient(name, insecure=insecure, pace=self._pace, lookup=self._lookup)

    async def _manifest(self, client: RegistryClient) -> PulledManifest:
        tries = 0
        while True:
            try:
                async with client as registry:
                    return parse_manifest(await registry.manifest())
            except RegistryError as error:
                tries += 1
                if (
                    error.retry_after is None
                    or error.retry_after > self._pace.longest_wait
                    or tries >= self._pace.tries
                ):
                    raise _of_the_manifest(error) from error
                await self._pace.sleep(self._pace.wait_after(tries, error.retry_after))

    async def _layer(
        self, layer: Layer, name: ModelName, insecure: bool, joined: list[Download], leaving: contextlib.AsyncExitStack
    ) -> AsyncGenerator[Record, None]:
        """The records of one layer, until all of its bytes are here (verified they are later)."""
        source = f"{'http' if insecure else 'https'}://{name.host}/{name.namespace}/{name.model}"
        while True:
            if await in_thread(self._has, layer):
                yield _progress(layer, layer.size)
                return
            other = self._downloads.find(layer.digest)
            if other is None or (other.source, other.layer.size) == (source, layer.size):
                break
            # Another registry is already sending this layer, well or badly: look again when it is done.
            yield _progress(layer, min(other.completed, layer.size))
            await other.over(self._pace.tick)
        target = self._store.blob_path(layer.digest)
        download = self._downloads.join(layer, target, source, lambda: self._client(name, insecure))
        leaving.push_async_callback(self._downloads.leave, download)
        joined.append(download)
        await download.opened()
        yield _progress(layer, download.completed)
        while not await download.fetched(self._pace.tick):
            yield _progress(layer, download.completed)

    def _has(self, layer: Layer) -> bool:
        """Whether the store has the layer. A file of another size is hashed: it is damaged, or the manifest lies."""
        path = self._store.blob_path(layer.digest)
        with store_errors(self._store.root):
            if not path.is_file():
                return False
            size = path.stat().st_size
            if size == layer.size:
                return True
            if content_digest(path)[0] == layer.digest:
                raise RegistryError(f"the manifest gives {layer.digest} {layer.size} bytes, it has {size}")
            return False


async def _installed(downloads: list[Download]) -> None:
    """Waits for all of them, so that what is sound stays although something else is not; raises the first error."""
    failures: list[LoupeError] = []
    for download in downloads:
        try:
            await download.installed()
        except LoupeError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _progress(layer: Layer, completed: int) -> Record:
    """A record as recorded: `total` and `completed` are absent while 0."""
    record: Record = {"status": f"pulling {layer.digest[7:19]}", "digest": layer.digest}
    if layer.size:
        record["total"] = layer.size
    if completed:
        record["completed"] = completed
    return record


def _of_the_manifest(error: RegistryError) -> RegistryError:
    kind = RegistryUnavailable if isinstance(error, RegistryUnavailable) else RegistryError
    told = kind(f"pull model manifest: {error.message}")
    told.retry_after = error.retry_after
    return told
