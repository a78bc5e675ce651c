"""/api/tags, /api/show, /api/ps, /api/version, /api/status: what is there and what is loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from app.core.errors import BadRequest, LoupeError, ModelNotFound
from app.core.generation import Json
from app.models.gguf_file import GgufFile
from app.runtime.library import PLAIN_TEMPLATE, Library, LocalModel
from app.runtime.modelfile import modelfile, parameter_lines
from app.runtime.scheduler import Scheduler
from app.runtime.web import Answer, Call, json_answer
from app.wire.go_json import dumps, shortest_float32
from app.wire.model_names import parse_reference
from app.wire.ollama_answers import local_timestamp
from app.wire.requests import decode

PROTOCOL_VERSION = "0.33.0"
_log = logging.getLogger(__name__)
_HIDDEN = ("general.name", "tokenizer.chat_template")


class Inspection:
    """Handlers of the routes that only look."""

    def __init__(self, library: Library, scheduler: Scheduler) -> None:
        self._library, self._scheduler = library, scheduler
        self._rows: dict[tuple[str, str, int], dict[str, Json]] = {}

    async def version(self, _call: Call) -> Answer:
        return json_answer(dumps({"version": PROTOCOL_VERSION}))

    async def status(self, _call: Call) -> Answer:
        return json_answer(dumps({"cloud": {"disabled": True, "source": "env"}}))

    async def tags(self, _call: Call) -> Answer:
        rows: list[Json] = []
        manifests = self._library.store.all()
        known = self._rows
        self._rows = {}
        for manifest in manifests:
            key = (manifest.name.full, manifest.digest, manifest.modified_ns)
            try:
                row = known.get(key) or _tag(self._library.read(manifest))
            except LoupeError as error:
                _log.warning("%s is left out of the list: %s", manifest.name.shortest, error.message)
                continue
            self._rows[key] = row
            rows.append(row)
        return json_answer(dumps({"models": rows}))

    async def ps(self, _call: Call) -> Answer:
        return json_answer(dumps({"models": [
            {
                "name": row.model.name.shortest,
                "model": row.model.name.shortest,
                "size": row.size,
                "digest": row.model.digest,
                "details": row.model.details() | {"parent_model": ""},
                "expires_at": local_timestamp(row.expires_ns),
                "size_vram": 0,
                "context_length": row.num_ctx,
            }
            for row in self._scheduler.rows()
        ]}))  # fmt: skip

    async def show(self, call: Call) -> Answer:
        body = decode("ShowRequest", call.body)
        name = str(body.get("model") or body.get("name") or "")
        if not name:
            raise BadRequest("model is required", "model")
        reference = parse_reference(name, feature="remote model details are unavailable")
        try:
            model = self._library.open(reference)
        except ModelNotFound:
            raise ModelNotFound(reference.shortest) from None
        return json_answer(dumps(_shown(model, body)))


def _tag(model: LocalModel) -> dict[str, Json]:
    name, details = model.name.shortest, model.details()
    for key in ("context_length", "embedding_length"):
        if model.gguf is not None and (value := model.gguf.own_number(key)):
            details[key] = value
    return {
        "name": name,
        "model": name,
        "modified_at": local_timestamp(model.manifest.modified_ns),
        "size": model.manifest.size,
        "digest": model.digest,
        "details": details,
        "capabilities": list(model.capabilities),
    }


def _shown(model: LocalModel, body: Mapping[str, Json]) -> dict[str, Json]:
    """The answer of /api/show; keys whose value is empty are left out, `details` and `model_info` never are."""
    system = str(body.get("system") or model.system)
    changed = body.get("options")
    parameters = dict(model.parameters) | (changed if isinstance(changed, dict) else {})
    verbose, gguf = body.get("verbose") is True, model.gguf
    messages: list[Json] = [{"role": m.get("role"), "content": m.get("content")} for m in model.messages]
    answer: dict[str, Json] = {
        "license": "\n".join(model.licenses),
        "modelfile": modelfile(model, system, parameters),
        "parameters": parameter_lines(model.parameters),
        "template": _template(model),
        "system": system,
        "details": model.details(),
        "messages": messages,
        "model_info": _model_info(gguf, verbose=verbose) if gguf else {},
        "tensors": [{"name": t.name, "type": t.type, "shape": list(t.shape)} for t in gguf.tensors] if gguf else [],
        "capabilities": list(model.capabilities),
        "modified_at": local_timestamp(model.manifest.modified_ns),
    }
    return {key: value for key, value in answer.items() if value or key in ("details", "model_info")}


def _template(model: LocalModel) -> str:
    return (model.native and model.own_template) or model.template_text or PLAIN_TEMPLATE


def _model_info(gguf: GgufFile, *, verbose: bool) -> dict[str, Json]:
    """GGUF metadata by sorted key; arrays are null unless `verbose`, floats are shown as the float32 they are."""
    info: dict[str, Json] = {"general.parameter_count": gguf.parameter_count}
    for key in gguf.metadata:
        if key not in _HIDDEN:
            array = gguf.metadata.array_length(key) is not None
            info[key] = None if array and not verbose else _plain(gguf.metadata[key])
    return dict(sorted(info.items()))


def _plain(value: Json) -> Json:
    if isinstance(value, float):
        return shortest_float32(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value
