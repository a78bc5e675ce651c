"""The layers of a model to be: templates, texts, parameters, messages and the config, byte for byte as Ollama's.

Layers keep the order in which Ollama has them: what a request sets replaces a layer of its type and goes to the end,
licences are added, parameters are merged (the request wins) and written anew. Source: server/create.go of Ollama 0.33
and the recorded store (tests/data/ollama/store).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from app.core.errors import BadRequest, StoreError
from app.core.generation import Json
from app.models.gguf_file import GgufFile
from app.models.naming import file_type_name, parameter_size
from app.runtime.atomic_files import content_digest
from app.runtime.chat_templates import recognised
from app.runtime.create_request import MAX_TEXT, CreateRequest, Overrides, Settled
from app.runtime.manifests import LICENSE, MESSAGES, PARAMS, SYSTEM, TEMPLATE
from app.wire.go_json import JsonError, dumps, loads

_EXACT = 1 << 53  # up to here a float64 holds every whole number
_INHERITED = ("renderer", "parser", "requires")
# architecture → (renderer, parser, stop): what Ollama sets where a request says nothing. Our own runtime has no such
# renderers; a real Ollama that takes the store over does.
_BUILT_IN: dict[str, tuple[str, str, str]] = {
    "gemma4": ("gemma4", "gemma4", "<turn|>"),
    "laguna": ("laguna", "laguna", ""),
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe", "nemotron_h_omni"), ("nemotron-3-nano", "nemotron-3-nano", "")),
}


@dataclass(frozen=True, slots=True)
class LayerDraft:
    """A layer to be. `content` or `file` holds its bytes where they are new; else the blob is there already.

    `source` is the model it was taken from; `status` replaces the line that tells how it got into the store.
    """

    media_type: str
    digest: str
    size: int
    content: bytes | None = None
    file: Path | None = None
    source: str = ""
    status: str = ""


@dataclass(frozen=True, slots=True)
class Base:
    """What a model brings to one that is made from it: the config values that are taken over."""

    renderer: str = ""
    parser: str = ""
    requires: str = ""
    model_format: str = ""
    capabilities: tuple[str, ...] = ()


def base_of(config: bytes) -> Base:
    """The inherited part of a model's config; nothing where it is not JSON, as Ollama has it."""
    try:
        value = loads(config)
    except JsonError:
        return Base()
    if not isinstance(value, dict):
        return Base()
    capabilities = value.get("capabilities")
    return Base(
        model_format=_string(value, "model_format"),
        capabilities=tuple(str(one) for one in capabilities) if isinstance(capabilities, list) else (),
        **{key: _string(value, key) for key in _INHERITED},
    )


def text_layer(media_type: str, content: bytes, status: str = "") -> LayerDraft:
    """A small layer. Raises `BadRequest` for one that the store could not read back."""
    if len(content) > MAX_TEXT:
        raise BadRequest(f"a layer of {len(content)} bytes is too large (at most {MAX_TEXT})")
    digest, size = content_digest(content)
    return LayerDraft(media_type, digest, size, content=content, status=status)


def detected_layers(models: Sequence[GgufFile]) -> list[LayerDraft]:
    """A template and parameters for each model file that brings a chat template which is known. Reads the disk."""
    layers: list[LayerDraft] = []
    for model in models:
        template = model.text("tokenizer.chat_template")
        known = recognised(template) if template else None
        if known is not None:
            status = f"using autodetected template {known.name}"
            layers.append(text_layer(TEMPLATE, known.text.encode(), status))
            layers.append(text_layer(PARAMS, dumps(known.parameters) + b"\n"))
    return layers


def with_texts(
    layers: Sequence[LayerDraft], request: CreateRequest, settled: Settled, parameters: Mapping[str, Json]
) -> list[LayerDraft]:
    """`layers` with what the request sets. `parameters` are the merged ones; none leaves the layers as they are."""
    made = list(layers)
    if request.template:
        made = _replaced(made, text_layer(TEMPLATE, request.template.encode()))
    if request.system:
        made = _replaced(made, text_layer(SYSTEM, request.system.encode()))
    made += [text_layer(LICENSE, licence.encode()) for licence in settled.licences]
    if parameters:
        made = _replaced(made, text_layer(PARAMS, dumps(_as_go(dict(parameters))) + b"\n"))
    if request.messages:
        messages: Json = [_message(message) for message in request.messages]
        made = _replaced(made, text_layer(MESSAGES, dumps(messages) + b"\n"))
    return made


def merged_parameters(
    request: CreateRequest, base: Base, models: Sequence[GgufFile], stored: Sequence[bytes]
) -> dict[str, Json]:
    """The request's parameters over those of the layers `stored`. Raises `StoreError` where one is no JSON object."""
    merged = dict(request.parameters)
    if not ((request.renderer or base.renderer) and (request.parser or base.parser)):
        for model in models:
            if stop := _BUILT_IN.get(model.architecture, ("", "", ""))[2]:
                merged.setdefault("stop", [stop])
    for content in stored:
        try:
            existing = loads(content)
        except JsonError as error:
            raise StoreError(f"the parameters of the model cannot be read: {error.message}") from error
        if existing is not None and not isinstance(existing, dict):
            raise StoreError("the parameters of the model are no JSON object")
        for key, value in (existing or {}).items():
            merged.setdefault(key, value)
    return merged


def config_layer(
    request: CreateRequest, overrides: Overrides, base: Base, models: Sequence[GgufFile], draft: GgufFile | None
) -> LayerDraft:
    """The config of a model whose weights are `models` (as written), in Ollama's order of keys."""
    first = models[0] if models else None
    built_in = next(
        (_BUILT_IN[model.architecture] for model in models if model.architecture in _BUILT_IN), ("", "", "")
    )
    families = [overrides.model_family] if overrides.model_family else []
    families += [model.architecture for model in models]
    config: dict[str, Json] = {
        "model_format": base.model_format or ("gguf" if models else ""),
        "model_family": overrides.model_family or (first.architecture if first else ""),
        "model_families": [family for family in families] or None,
        "model_type": overrides.parameter_size or (parameter_size(first.parameter_count) if first else ""),
        "file_type": overrides.quantization_level or (file_type_name(first.file_type) if first else ""),
    }
    optional: dict[str, Json] = {
        "renderer": request.renderer or base.renderer or built_in[0],
        "parser": request.parser or base.parser or built_in[1],
        "requires": request.requires or base.requires,
        "capabilities": [*base.capabilities, *overrides.capabilities],
        "context_length": overrides.context_length,
        "embedding_length": overrides.embedding_length,
        "base_name": overrides.base_name,
        "draft": {"model_format": "gguf", "architecture": draft.architecture} if draft else None,
    }
    config |= {key: value for key, value in optional.items() if value}
    return text_layer("", dumps(config | {"architecture": "amd64", "os": "linux"}) + b"\n")


def _replaced(layers: list[LayerDraft], layer: LayerDraft) -> list[LayerDraft]:
    return [other for other in layers if other.media_type != layer.media_type] + [layer]


def _as_go(value: Json) -> Json:
    """A value that went through Go's map[string]any: keys in order, whole numbers no finer than a float64."""
    if isinstance(value, dict):
        return {key: _as_go(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_as_go(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _EXACT:
        return float(value)
    return value


def _message(message: Json) -> Json:
    """A message as Go's struct writes it: role and content always, the rest where it says something."""
    given = message if isinstance(message, dict) else {}
    made: dict[str, Json] = {"role": _string(given, "role"), "content": _string(given, "content")}
    calls = given.get("tool_calls")
    optional: dict[str, Json] = {
        "thinking": given.get("thinking"),
        "images": given.get("images"),
        "tool_calls": [_call(call) for call in calls] if isinstance(calls, list) else None,
        "tool_name": given.get("tool_name"),
        "tool_call_id": given.get("tool_call_id"),
    }
    return made | {key: value for key, value in optional.items() if value}


def _call(call: Json) -> Json:
    given = call if isinstance(call, dict) else {}
    function = given.get("function")
    function = function if isinstance(function, dict) else {}
    told: dict[str, Json] = {
        "index": function.get("index") or 0,
        "name": _string(function, "name"),
        "arguments": cast(Json, function.get("arguments") or {}),
    }
    identifier = _string(given, "id")
    return ({"id": identifier} if identifier else {}) | {"function": told}


def _string(value: Mapping[str, Json], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""
