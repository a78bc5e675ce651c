"""Pushing a model: the records of /api/push, from the manifest to "success".

This machine has no key that a registry could know. Where one is asked for, the push ends as a real Ollama's does with
a key that nobody knows; a registry that asks for none takes the model.
Source: PushModel of Ollama 0.33 and the recordings *_push.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from app.core.errors import BadRequest, LoupeError, ModelNotFound
from app.core.generation import Json
from app.runtime.manifests import Layer, Manifest
from app.runtime.model_store import ModelStore
from app.runtime.registry.addresses import Lookup, look_up
from app.runtime.registry.failures import Stalled
from app.runtime.registry.pace import Pace
from app.runtime.registry.pulled_manifest import spelled_as_stored
from app.runtime.registry.registry_client import RegistryClient
from app.runtime.registry.threads import in_thread
from app.runtime.registry.uploads import Upload, Uploads
from app.wire.model_names import ModelName, parse_name

Record = dict[str, Json]


class Pusher:
    """Pushes models of one store."""

    def __init__(self, store: ModelStore, *, pace: Pace | None = None, lookup: Lookup = look_up) -> None:
        self._store, self._pace, self._lookup = store, pace or Pace(), lookup

    async def push(self, name: str, *, insecure: bool = False) -> AsyncGenerator[Record, None]:
        """The progress records of one push; closing the generator stops it.

        Raises, with the message that belongs in the error record: `BadRequest`, `ModelNotFound`, `StoreError`,
        `RegistryError`.
        """
        wanted = await in_thread(spelled_as_stored, self._store, parse_name(name))
        yield {"status": "retrieving manifest"}
        try:
            manifest = await in_thread(self._manifest, wanted)
        except LoupeError:
            yield {"status": "couldn't retrieve manifest"}
            raise
        async with RegistryClient(wanted, insecure=insecure, pace=self._pace, lookup=self._lookup) as client:
            uploads = Uploads(client, self._pace)
            for layer in (*manifest.layers, manifest.config):
                if await uploads.has(layer):
                    yield _progress(layer, layer.size)
                    continue
                upload = uploads.layer(layer, self._store.blob_path(layer.digest))
                async with contextlib.aclosing(self._sending(layer, upload)) as records:
                    async for record in records:
                        yield record
            yield {"status": "pushing manifest"}
            await uploads.manifest(manifest.raw.rstrip(b"\n"), wanted.tag)  # without the encoder's newline, as Ollama
        yield {"status": "success"}

    def _manifest(self, name: ModelName) -> Manifest:
        if not name.is_valid:
            raise BadRequest(f"unqualified name: {name.full}", "model")
        try:
            return self._store.manifest(name)
        except ModelNotFound:
            path = self._store.manifests.joinpath(*name.parts)
            raise ModelNotFound(name.shortest, f"open {path}: no such file or directory") from None

    async def _sending(self, layer: Layer, upload: Upload) -> AsyncGenerator[Record, None]:
        work = asyncio.create_task(upload.run())
        try:
            before, silent = -1, 0.0
            while not (await asyncio.wait({work}, timeout=self._pace.tick))[0]:
                silent = silent + self._pace.tick if upload.sent == before else 0.0
                if silent > self._pace.stall and upload.sent < layer.size:
                    raise Stalled
                before = upload.sent
                yield _progress(layer, upload.sent)
            await work
            yield _progress(layer, layer.size)
        finally:
            work.cancel()
            await asyncio.wait({work})


def _progress(layer: Layer, completed: int) -> Record:
    """`total` and `completed` are absent while 0."""
    record: Record = {"status": f"pushing {layer.digest[7:19]}", "digest": layer.digest}
    record |= {"total": layer.size} if layer.size else {}
    return record | ({"completed": completed} if completed else {})
