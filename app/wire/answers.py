"""Ollama's answers as a client reads them: generation records, model lists, and the gathered non-streaming answer.

Hosts differ in version, so reading is tolerant: an absent, null or odd field is its zero value (Go leaves zero
values out anyway). Only what makes an answer useless is an error. Shapes: the recordings under tests/data/ollama.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from app.core.errors import GenerationFailed, HostProtocolError
from app.core.generation import Chunk, Json, Usage
from app.core.hosts import LoadedModel, ModelDetail, ModelDetails, ModelInfo, TensorInfo
from app.wire import go_json

NEVER = datetime.fromtimestamp(0, UTC)

# The order in which Ollama's structs put their fields; gathered answers keep it.
_HEAD = ("model", "remote_model", "remote_host", "created_at")
_COUNTS = (
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)
_ORDER = {
    "chat": (*_HEAD, "message", "done", "done_reason", "_debug_info", "logprobs", *_COUNTS),
    "generate": (
        *_HEAD,
        "response",
        "thinking",
        "done",
        "done_reason",
        "context",
        *_COUNTS,
        "tool_calls",
        "_debug_info",
        "logprobs",
    ),
}
_MESSAGE_ORDER = ("role", "content", "thinking", "images", "tool_calls")


def parse_object(data: bytes, host: str = "") -> dict[str, Json]:
    """The JSON object in `data`, or `HostProtocolError`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HostProtocolError(host, f"not JSON: {_shown(data)}") from error
    if not isinstance(value, dict):
        raise HostProtocolError(host, f"not a JSON object: {_shown(data)}")
    return value


def error_text(data: bytes) -> str | None:
    """The sentence of an error body: `{"error": "…"}`, or OpenAI's `{"error": {"message": "…"}}`; else None."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return error if isinstance(error, str) else None


def parse_chunk(endpoint: str, line: bytes, host: str = "", *, whole: bool = False, more: bool = False) -> Chunk:
    """One record of a generation. `endpoint` is chat or generate; `host` names the host in errors.

    Raises `GenerationFailed` for an `{"error": …}` record and `HostProtocolError` for anything that is no record.
    """
    record = parse_object(line, host)
    if "error" in record:
        said = error_text(line) or str(record["error"] or "")
        raise GenerationFailed(host, said if said.strip() else "the model host failed and did not say why")
    source: Mapping[str, Json] = record
    text_key = "response"
    if endpoint == "chat":
        message = record.get("message")
        source, text_key = (message if isinstance(message, dict) else {}), "content"
    done = record.get("done") is True
    return Chunk(
        line=line,
        text=_text(source.get(text_key)),
        thinking=_text(source.get("thinking")),
        done=done,
        done_reason=_text(record.get("done_reason")),
        usage=_usage(record) if done else None,
        whole=whole,
        more=more and not done,
    )


def gather(endpoint: str, chunks: Iterable[Chunk]) -> bytes:
    """The one JSON object that `stream: false` asks for, without a newline.

    Text, thinking, logprobs and tool calls are joined; every other field comes from the last record
    (Ollama's server/routes.go). A `whole` answer is passed on as it came.
    """
    records = []
    for chunk in chunks:
        if chunk.whole:
            return chunk.line
        records.append(parse_object(chunk.line))
    if not records:
        raise HostProtocolError("", "the answer is empty")
    answer = dict(records[-1])
    if endpoint == "chat":
        messages = [message for record in records if isinstance(message := record.get("message"), dict)]
        answer["message"] = _joined(messages, "content", _MESSAGE_ORDER, keep="content")
        _join_lists(answer, records, "logprobs")
    else:
        answer |= _joined(records, "response", _ORDER["generate"], keep="response")
    return go_json.dumps(_ordered(answer, _ORDER[endpoint]))


def parse_version(data: bytes, host: str = "") -> str:
    version = parse_object(data, host).get("version")
    if not isinstance(version, str):
        raise HostProtocolError(host, "its version is missing")
    return version


def parse_tags(data: bytes, host: str = "") -> tuple[ModelInfo, ...]:
    """The models of `/api/tags`, in the host's order (newest first)."""
    return tuple(
        ModelInfo(
            name=_text(row.get("name")) or _text(row.get("model")),
            digest=_text(row.get("digest")).removeprefix("sha256:"),
            size=_int(row.get("size")),
            modified_at=moment(row.get("modified_at")),
            details=_details(row.get("details")),
            capabilities=_texts(row.get("capabilities")),
            remote_host=_text(row.get("remote_host")),
        )
        for row in _rows(data, host)
    )


def parse_ps(data: bytes, host: str = "") -> tuple[LoadedModel, ...]:
    """The loaded models of `/api/ps`."""
    return tuple(
        LoadedModel(
            name=_text(row.get("name")) or _text(row.get("model")),
            digest=_text(row.get("digest")).removeprefix("sha256:"),
            size=_int(row.get("size")),
            size_vram=_int(row.get("size_vram")),
            expires_at=moment(row.get("expires_at")),
            context_length=_int(row.get("context_length")),
        )
        for row in _rows(data, host)
    )


def parse_show(data: bytes, host: str = "") -> ModelDetail:
    """The parts of `/api/show` that Loupe reads."""
    body = parse_object(data, host)
    info, tensors, messages = body.get("model_info"), body.get("tensors"), body.get("messages")
    return ModelDetail(
        info=info if isinstance(info, dict) else {},
        details=_details(body.get("details")),
        parameters=_text(body.get("parameters")),
        template=_text(body.get("template")),
        system=_text(body.get("system")),
        license=_text(body.get("license")),
        tensors=tuple(_tensor(row) for row in tensors if isinstance(row, dict)) if isinstance(tensors, list) else (),
        capabilities=_texts(body.get("capabilities")),
        modelfile=_text(body.get("modelfile")),
        messages=tuple(row for row in messages if isinstance(row, dict)) if isinstance(messages, list) else (),
        renderer=_text(body.get("renderer")),
        parser=_text(body.get("parser")),
        requires=_text(body.get("requires")),
    )


def _rows(data: bytes, host: str) -> list[dict[str, Json]]:
    rows = parse_object(data, host).get("models")
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise HostProtocolError(host, "its list of models is not a list")
    return [row for row in rows if isinstance(row, dict)]


def _tensor(row: Mapping[str, Json]) -> TensorInfo:
    shape = row.get("shape")
    return TensorInfo(
        name=_text(row.get("name")),
        type=_text(row.get("type")),
        shape=tuple(_int(n) for n in shape) if isinstance(shape, list) else (),
    )


def _details(value: Json) -> ModelDetails:
    row = value if isinstance(value, dict) else {}
    context = row.get("context_length")
    return ModelDetails(
        format=_text(row.get("format")),
        family=_text(row.get("family")),
        families=_texts(row.get("families")),
        parameter_size=_text(row.get("parameter_size")),
        quantization_level=_text(row.get("quantization_level")),
        parent_model=_text(row.get("parent_model")),
        context_length=context if isinstance(context, int) and not isinstance(context, bool) else None,
    )


def _usage(record: Mapping[str, Json]) -> Usage:
    return Usage(
        total_ns=_int(record.get("total_duration")),
        load_ns=_int(record.get("load_duration")),
        prompt_tokens=_int(record.get("prompt_eval_count")),
        prefill_ns=_int(record.get("prompt_eval_duration")),
        output_tokens=_int(record.get("eval_count")),
        decode_ns=_int(record.get("eval_duration")),
    )


def _joined(records: list[dict[str, Json]], text_key: str, order: tuple[str, ...], *, keep: str) -> dict[str, Json]:
    """The last record with the texts and lists of all of them; empty ones left out, except the field `keep`."""
    joined = dict(records[-1]) if records else {}
    for key in (text_key, "thinking"):
        text = "".join(_text(record.get(key)) for record in records)
        joined.pop(key, None)
        if text or key == keep:
            joined[key] = text
    for key in ("tool_calls", "logprobs"):
        _join_lists(joined, records, key)
    return _ordered(joined, order)


def _join_lists(into: dict[str, Json], records: list[dict[str, Json]], key: str) -> None:
    items: list[Json] = []
    for record in records:
        value = record.get(key)
        if isinstance(value, list):
            items += value
    into.pop(key, None)
    if items:
        into[key] = items


def _ordered(record: dict[str, Json], order: tuple[str, ...]) -> dict[str, Json]:
    known = {key: record[key] for key in order if key in record}
    return known | {key: value for key, value in record.items() if key not in known}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Json) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _int(value: Json) -> int:
    finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return int(value) if finite and isinstance(value, int | float) else 0


def moment(value: Json) -> datetime:
    """RFC 3339 with up to nine fractional digits, in the host's own offset (Python keeps six)."""
    try:
        read = datetime.fromisoformat(_text(value))
    except ValueError:
        return NEVER
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _shown(data: bytes) -> str:
    return repr(data[:80].decode("utf-8", "replace"))
