"""Ollama's request bodies: decoding, and the checks whose sentences clients know.

`decode` reads a body as Ollama's Go structs do; the functions below it check what Ollama checks later, each with
the status and text of the recordings. Source: tests/data/ollama (wrong_type_*, malformed_*, empty_body_*,
generate_bad_*, generate_think_bad, generate_top_logprobs_*) and the request types of Ollama 0.33.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.go_duration import keep_alive_ns, quote_go
from app.wire.go_json import JsonError, dumps, loads
from app.wire.go_structs import GoStructs

THINK_LEVELS = ("high", "medium", "low", "max")
_THINK_ALLOWED = '"high", "medium", "low", "max", true, or false'
_OPTIONS = "map[string]interface {}"

_RUN = {
    "model": "string", "stream": "bool", "format": "any", "keep_alive": "api.Duration", "options": _OPTIONS,
    "think": "api.ThinkValue", "truncate": "bool", "shift": "bool", "_debug_render_only": "bool",
    "logprobs": "bool", "top_logprobs": "int",
}  # fmt: skip
_TRANSFER = {
    "model": "string", "insecure": "bool", "username": "string", "password": "string", "stream": "bool",
    "name": "string",
}  # fmt: skip
TOOL_STRUCTS: dict[str, dict[str, str]] = {
    "Tool": {"type": "string", "items": "any", "function": "api.ToolFunction"},
    "ToolFunction": {"name": "string", "description": "string", "parameters": "api.ToolFunctionParameters"},
    "ToolFunctionParameters": {
        "type": "string", "$defs": "any", "items": "any", "required": "[]string",
        "properties": "map[string]api.ToolProperty",
    },
    "ToolProperty": {
        "anyOf": "[]api.ToolProperty", "type": "api.PropertyType", "items": "any", "description": "string",
        "enum": "[]interface {}", "properties": "map[string]api.ToolProperty", "required": "[]string",
    },
}  # fmt: skip
STRUCTS: dict[str, dict[str, str]] = {
    "GenerateRequest": _RUN | {
        "prompt": "string", "suffix": "string", "system": "string", "template": "string", "context": "[]int",
        "raw": "bool", "images": "[]api.ImageData",
    },
    "ChatRequest": _RUN | {"messages": "[]api.Message", "tools": "api.Tools"},
    "EmbedRequest": {
        "model": "string", "input": "any", "keep_alive": "api.Duration", "truncate": "bool", "dimensions": "int",
        "options": _OPTIONS,
    },
    "EmbeddingRequest": {"model": "string", "prompt": "string", "keep_alive": "api.Duration", "options": _OPTIONS},
    "ShowRequest": {
        "model": "string", "system": "string", "template": "string", "verbose": "bool", "options": _OPTIONS,
        "name": "string",
    },
    "CopyRequest": {"source": "string", "destination": "string"},
    "DeleteRequest": {"model": "string", "name": "string"},
    "PullRequest": _TRANSFER,
    "PushRequest": _TRANSFER,
    "CreateRequest": {
        "model": "string", "stream": "bool", "quantize": "string", "from": "string", "remote_host": "string",
        "files": "map[string]string", "adapters": "map[string]string", "draft_files": "map[string]string",
        "draft_quantize": "string", "template": "string", "license": "any", "system": "string",
        "parameters": "map[string]interface {}", "messages": "[]api.Message", "renderer": "string",
        "parser": "string", "requires": "string", "info": "map[string]interface {}", "name": "string",
        "quantization": "string",
    },
    "Message": {
        "role": "string", "content": "string", "thinking": "string", "images": "[]api.ImageData",
        "tool_calls": "[]api.ToolCall", "tool_name": "string", "tool_call_id": "string",
    },
    "ToolCall": {"id": "string", "function": "api.ToolCallFunction"},
    "ToolCallFunction": {"index": "int", "name": "string", "arguments": "map[string]any"},
} | TOOL_STRUCTS  # fmt: skip


class UnusableSetting(BadRequest):
    """An option or format of the wrong kind. Ollama notices late and answers 500 (generate_bad_option, _format)."""

    status = 500
    code = "unusable_setting"


def decode(endpoint_type: str, body: bytes | str) -> dict[str, Json]:
    """The body of a request as the Go struct `endpoint_type` ("ChatRequest", "ShowRequest", …).

    Keys are canonical, unknown keys are kept, roles are lower case. Raises `BadRequest` with Go's sentence.
    """
    try:
        value = loads(body)
    except JsonError as error:
        raise BadRequest("missing request body" if error.empty else error.message) from error
    decoded = _go.decode(endpoint_type, value)
    if isinstance(messages := decoded.get("messages"), list):
        decoded["messages"] = [_lower_role(message) for message in messages]
    return decoded


def _lower_role(message: Json) -> Json:
    if isinstance(message, dict) and isinstance(role := message.get("role"), str):
        return {**message, "role": role.lower()}
    return message


def _check_think(value: Json) -> None:
    if isinstance(value, bool) or value in THINK_LEVELS:
        return
    if isinstance(value, str):
        raise BadRequest(f"invalid think value: {quote_go(value)} (must be {_THINK_ALLOWED})", "think")
    raise BadRequest(f"think must be a boolean or string ({_THINK_ALLOWED})", "think")


def _check_duration(value: Json) -> None:
    keep_alive_ns(value)


_go = GoStructs(
    STRUCTS,
    frozenset({"Message"}),
    {"api.Duration": _check_duration, "api.ThinkValue": _check_think},
)


def check_top_logprobs(body: Mapping[str, Json]) -> None:
    """0 to 20, checked even where logprobs are not asked for."""
    value = body.get("top_logprobs")
    if isinstance(value, int) and not 0 <= value <= 20:
        raise BadRequest("top_logprobs must be between 0 and 20", "top_logprobs")


def output_format(body: Mapping[str, Json]) -> Json:
    """`format` as None, "json" or a schema object. Raises `UnusableSetting` (500) for anything else."""
    value = body.get("format")
    if value is None or value == "":
        return None
    if value == "json" or isinstance(value, dict):
        return value
    shown = quote_go(dumps(value).decode())
    raise UnusableSetting(f'invalid format: {shown}; expected "json" or a valid JSON Schema object', "format")


INTEGER_OPTIONS = frozenset({
    "num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict", "num_keep", "seed",
    "num_predict", "top_k", "repeat_last_n",
})  # fmt: skip
REAL_OPTIONS = frozenset({
    "top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty",
})  # fmt: skip


def known_options(options: Json) -> dict[str, Json]:
    """The options Ollama knows, typed: integers cut to whole numbers, reals as floats; null and unknown ones left out.

    Raises `UnusableSetting` (500) with Ollama's sentence for a wrong type.
    """
    if options is None:
        return {}
    return {
        name: typed
        for name, value in cast(dict[str, Json], options).items()
        if value is not None and (typed := _typed_option(name, value)) is not None
    }


def _typed_option(name: str, value: Json) -> Json:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in INTEGER_OPTIONS:
        if not number:
            raise UnusableSetting(f'option "{name}" must be of type integer', name)
        return max(-(2**63), min(2**63 - 1, int(cast(float, value))))
    if name in REAL_OPTIONS:
        if not number:
            raise UnusableSetting(f'option "{name}" must be of type float32', name)
        return float(cast(float, value))
    if name == "use_mmap":
        if not isinstance(value, bool):
            raise UnusableSetting(f'option "{name}" must be of type boolean', name)
        return value
    if name == "stop":
        if not isinstance(value, list):
            raise UnusableSetting(f'option "{name}" must be of type array', name)
        if not all(isinstance(item, str) for item in value):
            raise UnusableSetting(f'option "{name}" must be of an array of strings', name)
        return value
    return None
