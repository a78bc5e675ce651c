"""Making a model: the records of /api/create, from the source to "success".

The source is an uploaded GGUF, written anew, or another model, whose layers are shared; then come quantizing, template,
system text, licence, parameters and messages. Source: server/create.go of Ollama 0.33 and the recordings create_*,
missing_create and store/. Four differences, all to the safe side: what can be refused is refused before a long
work, a model file is written by a process of its own and one at a time, everything is put into the store in one step,
and of the published chat templates only ChatML is recognised (`chat_templates`).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path

from app.core.errors import BadRequest, ModelNotFound, NotAllowed, StoreError
from app.core.generation import Json
from app.models.gguf_copy import Written
from app.models.gguf_file import GgufFile, read_gguf
from app.runtime.atomic_files import store_errors
from app.runtime.create_install import install, require_room
from app.runtime.create_layers import (
    Base,
    LayerDraft,
    base_of,
    config_layer,
    detected_layers,
    merged_parameters,
    with_texts,
)
from app.runtime.create_plan import Plan, check_types, plan_for, progress
from app.runtime.create_request import CannotCreate, CreateRequest, Settled, read_request, settled
from app.runtime.gguf_process import rewriting
from app.runtime.gguf_sources import (
    DRAFT,
    WEIGHTS,
    Weights,
    check_layer,
    joined,
    kind_of_files,
    of_model,
    uploaded,
)
from app.runtime.manifests import ADAPTER, MODEL, PARAMS, PROJECTOR, Layer, Manifest
from app.runtime.model_store import ModelStore
from app.runtime.registry.pulled_manifest import spelled_as_stored
from app.runtime.registry.threads import in_thread
from app.wire.model_names import ModelName, parse_reference

Record = dict[str, Json]
Pull = Callable[[str], AsyncGenerator[Record, None]]

_TENSOR = "application/vnd.ollama.image.tensor"


async def create(
    store: ModelStore, body: Mapping[str, Json], *, pull: Pull | None = None, prune: bool = True
) -> AsyncGenerator[Record, None]:
    """The progress records of one creation; closing the generator ends it, and nothing of it stays.

    `body` is what `wire.requests.decode("CreateRequest", …)` gives; `pull` fetches a model that `from` names and that
    is not here; `prune` removes layers that only a replaced model had (off with OLLAMA_NOPRUNE). Raises `BadRequest`
    and `CannotCreate` with Ollama's sentences, `ModelNotFound`, `NotAllowed`, `StoreError`, `DiskFull`, and what
    `pull` raises. What `create_request.read_request` refuses, a route has to ask for first: those answers are none of
    the stream's.
    """
    request = read_request(body)
    with store_errors(store.root):
        await in_thread(store.prepare)
    name = await in_thread(spelled_as_stored, store, request.name)
    making = _Making(store, request, name, pull, prune)
    try:
        async with aclosing(making.run()) as records:
            async for record in records:
                yield record
    finally:
        await in_thread(making.clear)


class _Making:
    """One creation under way: what has been gathered for the model so far."""

    def __init__(
        self, store: ModelStore, request: CreateRequest, name: ModelName, pull: Pull | None, prune: bool
    ) -> None:
        self._store, self._request, self._name, self._pull, self._prune = store, request, name, pull, prune
        self._scratch = store.blobs / f".create.{secrets.token_hex(8)}"  # and what begins so
        self._base = Base()
        self._sources: list[Weights | LayerDraft] = []
        self._models: list[GgufFile] = []  # the model layers as they are in the end
        self._draft: GgufFile | None = None

    async def run(self) -> AsyncGenerator[Record, None]:
        async with aclosing(self._gathered()) as records:
            async for record in records:
                yield record
        checked = await in_thread(settled, self._request)
        check_types([source for source in self._sources if isinstance(source, Weights)], checked)
        layers: list[LayerDraft] = []
        async with aclosing(self._written(checked, layers)) as records:
            async for record in records:
                yield record
        for status in await in_thread(self._install, layers, checked):
            yield {"status": status}
        yield {"status": "writing manifest"}
        yield {"status": "success"}

    def clear(self) -> None:
        """Removes whatever files there are that did not get into the store."""
        for path in self._store.blobs.glob(f"{self._scratch.name}*"):
            with contextlib.suppress(OSError):
                path.unlink()

    # where it comes from

    async def _gathered(self) -> AsyncGenerator[Record, None]:
        request = self._request
        if request.remote_host:
            raise NotAllowed("ollama cloud is disabled: remote inference is unavailable")
        if request.source:
            first = self._from_model(request.source)
        elif request.files is not None:
            first = self._from_files(request.files, self._sources, detect=True)
        else:
            raise BadRequest("neither 'from' or 'files' was specified")
        steps = [first]
        drafts: list[Weights | LayerDraft] = []
        if request.draft_files is not None:
            steps.append(self._from_files(request.draft_files, drafts, media_type=DRAFT))
        if request.adapters is not None:
            steps.append(self._from_files(request.adapters, self._sources, media_type=ADAPTER))
        for step in steps:
            async with aclosing(step) as records:
                async for record in records:
                    yield record
        self._sources += drafts

    async def _from_model(self, text: str) -> AsyncGenerator[Record, None]:
        try:
            wanted = parse_reference(text)
        except BadRequest:
            raise BadRequest("invalid model name", "from") from None
        if self._pull is not None and not await in_thread(self._store.exists, wanted):
            async with aclosing(self._pull(wanted.full)) as records:
                async for record in records:
                    yield record
        try:
            manifest = await in_thread(self._store.manifest, wanted)
        except ModelNotFound:
            raise ModelNotFound(text) from None
        await in_thread(self._take_over, manifest)

    def _take_over(self, manifest: Manifest) -> None:
        model = manifest.name.shortest
        for layer in manifest.layers:
            if layer.media_type == _TENSOR:
                raise CannotCreate(f"{model} is no GGUF model; this runtime makes models from GGUF files only", "from")
            if layer.media_type in WEIGHTS:
                self._sources.append(of_model(self._store, layer, model))
            else:
                check_layer(self._store, layer, model)
                self._sources.append(LayerDraft(layer.media_type, layer.digest, layer.size, source=model))
        self._base = base_of(self._store.read_blob(manifest.config))

    async def _from_files(
        self,
        files: Mapping[str, str],
        into: list[Weights | LayerDraft],
        *,
        media_type: str = "",
        detect: bool = False,
    ) -> AsyncGenerator[Record, None]:
        kind = await in_thread(kind_of_files, self._store, files)
        if kind == "safetensors":
            raise BadRequest("this runtime makes models from GGUF files only; convert the safetensors to GGUF first")
        if not kind:
            raise BadRequest("unknown type")
        if media_type == ADAPTER and len(files) > 1:
            raise BadRequest("only one adapter is currently supported")
        weights: list[Weights] = []
        for path, digest in files.items():
            yield {"status": "parsing GGUF"}
            forced = media_type if media_type == DRAFT else ""  # an adapter says itself that it is one
            weights.append(await in_thread(uploaded, self._store, path, digest, forced))
        whole = joined(weights)
        into += whole
        if detect:
            into += await in_thread(detected_layers, [one.gguf for one in whole])

    # what becomes of the weights

    async def _written(self, checked: Settled, layers: list[LayerDraft]) -> AsyncGenerator[Record, None]:
        for source in self._sources:
            if isinstance(source, LayerDraft):
                layers.append(source)
                continue
            plan = plan_for(source, self._request, checked, f"{self._scratch}.{len(layers)}.gguf")
            if plan is None:
                self._count(source.media_type, source.gguf)
                origin = source.source or source.name
                layers.append(LayerDraft(source.media_type, source.digest, source.size, source=origin))
                continue
            async with aclosing(self._rewritten(source, plan, layers)) as records:
                async for record in records:
                    yield record

    async def _rewritten(self, source: Weights, plan: Plan, layers: list[LayerDraft]) -> AsyncGenerator[Record, None]:
        if not plan.job.file_type:
            await in_thread(require_room, self._store, source.size)
        if plan.announced:
            yield {"status": plan.status}
        written: Written | None = None
        async with aclosing(rewriting(plan.job)) as steps:
            async for step in steps:
                if isinstance(step, Written):
                    written = step
                elif self._request.tell_progress:
                    yield progress(plan, source.size, step.completed, step.total)
        if written is None:
            raise StoreError("the process that writes model files ended without a result")
        if source.media_type != PROJECTOR:
            yield {"status": "verifying conversion"}
        target = Path(plan.job.target)
        self._count(source.media_type, await in_thread(read_gguf, target))
        layers.append(LayerDraft(source.media_type, f"sha256:{written.sha256}", written.size, file=target))

    def _count(self, media_type: str, model: GgufFile) -> None:
        if media_type == MODEL:
            self._models.append(model)
        elif media_type == DRAFT:
            self._draft = model

    # into the store

    def _install(self, layers: list[LayerDraft], checked: Settled) -> list[str]:
        stored = [self._content(layer) for layer in layers if layer.media_type == PARAMS]
        parameters = merged_parameters(self._request, self._base, self._models, stored)
        made = with_texts(layers, self._request, checked, parameters)
        config = config_layer(self._request, checked.overrides, self._base, self._models, self._draft)
        return install(self._store, self._name, made, config, prune=self._prune)

    def _content(self, layer: LayerDraft) -> bytes:
        if layer.content is not None:
            return layer.content
        return self._store.read_blob(Layer(layer.digest, layer.size, layer.media_type))
