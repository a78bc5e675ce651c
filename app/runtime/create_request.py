"""What a create request asks for, and everything about it that can be refused without looking at a model.

`read_request` refuses what Ollama refuses before it begins to answer; `settled` the rest, before any long work begins
(Ollama comes to some of it only afterwards). Source: server/create.go of Ollama 0.33 and the recordings create_*,
bad_name_create and no_model_create.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from app.core.errors import BadRequest
from app.core.generation import Json
from app.runtime.templates.go_errors import GoTemplateError
from app.runtime.templates.go_template import parse as parse_template
from app.wire.go_duration import quote_go
from app.wire.model_names import ModelName, checked, parse_name

MAX_TEXT = 4 << 20  # bytes of one template, system text, licence, or of all messages: as much as the store reads back
MAX_FILES = 1000  # parts of one model; the largest published ones have under 200
_MAX_LICENCES = 64
_MAX_MESSAGES = 10_000
_MAX_INT = (1 << 63) - 1

# What Ollama's `quantize` takes (in any case), and what llama-quantize calls it
_FILE_TYPES = {name: name for name in ("F32", "F16", "BF16", "Q8_0", "Q4_K_S", "Q4_K_M")} | {"Q4_K": "Q4_K_M"}


class CannotCreate(BadRequest):
    """A model that cannot be made. Ollama notices late and answers 500 (create_bad_quantize, create_quantize_q3)."""

    status = 500
    code = "cannot_create"


@dataclass(frozen=True, slots=True)
class Overrides:
    """Config values that a request's `info` sets; "" and 0 leave what the model file says."""

    capabilities: tuple[str, ...] = ()
    model_family: str = ""
    base_name: str = ""
    quantization_level: str = ""
    parameter_size: str = ""
    context_length: int = 0
    embedding_length: int = 0


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A decoded request. Paths of `files`, `adapters` and `draft_files` go to digests; None where the key was absent.

    `quantize` and `draft_quantize` are in upper case as the status lines show them, "" for none. `tell_progress` is
    ours (`"progress": true`): a real Ollama ignores the key, and is silent while it quantizes (create_quantize_*).
    """

    name: ModelName
    source: str
    remote_host: str
    files: Mapping[str, str] | None
    adapters: Mapping[str, str] | None
    draft_files: Mapping[str, str] | None
    quantize: str
    draft_quantize: str
    template: str
    system: str
    license: Json
    info: Mapping[str, Json]
    parameters: Mapping[str, Json]
    messages: Sequence[Json]
    renderer: str
    parser: str
    requires: str
    tell_progress: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What the late checks found: file types by llama-quantize's names ("" for none), licences, config values."""

    file_type: str
    draft_file_type: str
    licences: tuple[str, ...]
    overrides: Overrides


def read_request(body: Mapping[str, Json]) -> CreateRequest:
    """The request in `body`, as `wire.requests.decode("CreateRequest", …)` gives it. Raises `BadRequest`."""
    request = CreateRequest(
        name=parse_name(_text(body, "model") or _text(body, "name")),
        source=_text(body, "from"),
        remote_host=_text(body, "remote_host"),
        files=_files(body, "files", relative=True),
        adapters=_files(body, "adapters", relative=False),
        draft_files=_files(body, "draft_files", relative=True),
        quantize=(_text(body, "quantize") or _text(body, "quantization")).upper(),
        draft_quantize=_text(body, "draft_quantize").upper(),
        template=_text(body, "template"),
        system=_text(body, "system"),
        license=body.get("license"),
        info=cast(Mapping[str, Json], body.get("info") or {}),
        parameters=cast(Mapping[str, Json], body.get("parameters") or {}),
        messages=cast(Sequence[Json], body.get("messages") or []),
        renderer=_text(body, "renderer"),
        parser=_text(body, "parser"),
        requires=_text(body, "requires"),
        tell_progress=body.get("progress") is True,
    )
    if request.draft_quantize and not request.draft_files:
        raise BadRequest("--draft-quantize requires a DRAFT model", "draft_quantize")
    checked(request.name)
    return request


def settled(request: CreateRequest) -> Settled:
    """Checks types, template, licences, info and sizes. Raises `BadRequest`, `CannotCreate` with Ollama's sentences."""
    if request.template:
        try:
            parse_template(request.template)
        except GoTemplateError as error:
            raise BadRequest(f"template error: {error.message}", "template") from error
    _bounded(request.system, "system")
    if len(request.messages) > _MAX_MESSAGES:
        raise BadRequest(f"a model can carry at most {_MAX_MESSAGES} messages", "messages")
    return Settled(
        file_type=_file_type(request.quantize),
        draft_file_type=_file_type(request.draft_quantize),
        licences=_licences(request.license),
        overrides=_overrides(request.info),
    )


def _text(body: Mapping[str, Json], key: str) -> str:
    value = body.get(key)
    return value if isinstance(value, str) else ""


def _files(body: Mapping[str, Json], key: str, *, relative: bool) -> Mapping[str, str] | None:
    value = body.get(key)
    if not isinstance(value, dict):
        return None
    files = {path: digest if isinstance(digest, str) else "" for path, digest in sorted(value.items())}
    if len(files) > MAX_FILES:
        raise BadRequest(f"a model can have at most {MAX_FILES} files", key)
    for path, digest in files.items():
        if relative and not _is_relative(path):
            raise BadRequest("file path must be relative", key)
        if not digest:
            raise BadRequest("invalid digest format", key)
    return files


def _is_relative(path: str) -> bool:
    """Go's fs.ValidPath: no empty, "." or ".." element, no slash at either end; "." itself is valid."""
    return path == "." or all(part not in ("", ".", "..") for part in path.split("/"))


def _file_type(wanted: str) -> str:
    if wanted and wanted not in _FILE_TYPES:
        raise CannotCreate(
            f"unsupported quantization type {wanted} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0", "quantize"
        )
    return _FILE_TYPES.get(wanted, "")


def _licences(value: Json) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (_bounded(value, "license"),)
    if not isinstance(value, list):
        raise CannotCreate(f"json: cannot unmarshal {_kind(value)} into Go value of type []string", "license")
    if len(value) > _MAX_LICENCES:
        raise BadRequest(f"a model can carry at most {_MAX_LICENCES} licences", "license")
    wrong = next((one for one in value if one is not None and not isinstance(one, str)), None)
    if wrong is not None:
        raise CannotCreate(f"json: cannot unmarshal {_kind(wrong)} into Go value of type string", "license")
    return tuple(_bounded(one if isinstance(one, str) else "", "license") for one in value)


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "string"


def _bounded(text: str, what: str) -> str:
    if len(text) > MAX_TEXT or len(text.encode()) > MAX_TEXT:
        raise BadRequest(f"{what} is larger than {MAX_TEXT} bytes", what)
    return text


def _overrides(info: Mapping[str, Json]) -> Overrides:
    def text(key: str) -> str:
        value = info.get(key, "")
        if not isinstance(value, str):
            raise BadRequest(f"info field {quote_go(key)} must be a string", "info")
        return _bounded(value, "info")

    def whole(key: str) -> int:
        value = info.get(key, 0)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise BadRequest(f"info field {quote_go(key)} must be a number", "info")
        if value < 0 or value != int(value) or value > _MAX_INT:
            raise BadRequest(f"info field {quote_go(key)} must be a non-negative integer", "info")
        return int(value)

    capabilities = info.get("capabilities")
    return Overrides(
        capabilities=tuple(one if isinstance(one, str) else "" for one in capabilities)
        if isinstance(capabilities, list) else (),
        model_family=text("model_family"),
        base_name=text("base_name"),
        quantization_level=text("quantization_level"),
        parameter_size=text("parameter_size"),
        context_length=whole("context_length"),
        embedding_length=whole("embedding_length"),
    )  # fmt: skip
