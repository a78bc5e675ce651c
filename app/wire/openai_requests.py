"""OpenAI's chat, completion and embedding requests as Ollama's own. Source: Ollama 0.33, recordings v1_*.

What Ollama ignores is ignored here as well (`n`, `user`, `tool_choice`, `max_completion_tokens`, …). Every function
raises `BadRequest` in Ollama's words.
"""

from __future__ import annotations

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.dialects import decode_body, items_of, object_of, text_of, whole_of
from app.wire.go_duration import quote_go
from app.wire.go_structs import GoStructs, go_type
from app.wire.openai_messages import NAMELESS_FUNCTION, native_messages
from app.wire.requests import TOOL_STRUCTS

_EFFORTS: dict[str, Json] = {
    "": None, "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max",
    "ultra": "max", "max": "max",
}  # fmt: skip
_EFFORTS_NAMED = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'

_STREAMED = {"stream": "bool", "stream_options": "openai.StreamOptions", "max_tokens": "int", "seed": "int",
             "stop": "any", "_debug_render_only": "bool"}  # fmt: skip
STRUCTS = GoStructs(
    TOOL_STRUCTS | {
        "ChatCompletionRequest": _STREAMED | {
            "model": "string", "messages": "[]openai.Message", "temperature": "float64",
            "frequency_penalty": "float64", "presence_penalty": "float64", "top_p": "float64",
            "response_format": "openai.ResponseFormat", "tools": "[]api.Tool", "reasoning": "openai.Reasoning",
            "reasoning_effort": "string", "logprobs": "bool", "top_logprobs": "int",
        },
        "CompletionRequest": _STREAMED | {
            "model": "string", "prompt": "string", "frequency_penalty": "float32", "presence_penalty": "float32",
            "temperature": "float32", "top_p": "float32", "suffix": "string", "logprobs": "int",
        },
        "EmbedRequest": {"input": "any", "model": "string", "dimensions": "int", "encoding_format": "string"},
        "StreamOptions": {"include_usage": "bool"},
        "ResponseFormat": {"type": "string", "json_schema": "openai.JsonSchema"},
        "JsonSchema": {"schema": "any"},
        "Reasoning": {"effort": "string"},
        "Message": {
            "role": "string", "content": "any", "reasoning": "string", "tool_calls": "[]openai.ToolCall",
            "name": "string", "tool_call_id": "string",
        },
        "ToolCall": {"id": "string", "index": "int", "type": "string", "function": NAMELESS_FUNCTION},
        NAMELESS_FUNCTION: {"name": "string", "arguments": "string"},
    },
    frozenset(), {}, "openai",
)  # fmt: skip


def read_chat(body: bytes) -> dict[str, Json]:
    """A body of /v1/chat/completions as it was understood."""
    asked = decode_body(STRUCTS, "ChatCompletionRequest", body)
    if not asked.get("messages"):
        raise BadRequest("[] is too short - 'messages'", "messages")
    return asked


def native_chat(asked: dict[str, Json]) -> dict[str, Json]:
    """The body of /api/chat."""
    options = _stop_options(asked.get("stop"), strict=False) | _sampling_options(asked)
    for name in ("frequency_penalty", "presence_penalty"):
        if asked.get(name) is not None:
            options[name] = asked[name]
    top_p = asked.get("top_p")
    options["top_p"] = 1.0 if top_p is None else top_p
    reasoning = asked.get("reasoning")
    effort = asked.get("reasoning_effort") if reasoning is None else object_of(reasoning).get("effort")
    native: dict[str, Json] = {
        "model": text_of(asked.get("model")),
        "messages": native_messages(items_of(asked.get("messages"))),
        "stream": asked.get("stream") is True,
        "options": options,
        "format": _format(object_of(asked.get("response_format"))),
        "tools": list(items_of(asked.get("tools"))) or None,
        "think": think_of(text_of(effort)),
        "logprobs": asked.get("logprobs") is True,
        "top_logprobs": whole_of(asked.get("top_logprobs")),
        "_debug_render_only": asked.get("_debug_render_only") is True,
    }
    return _without_zeros(native)


def read_completion(body: bytes) -> dict[str, Json]:
    """A body of /v1/completions as it was understood."""
    return decode_body(STRUCTS, "CompletionRequest", body)


def native_completion(asked: dict[str, Json]) -> dict[str, Json]:
    """The body of /api/generate."""
    options = _stop_options(asked.get("stop"), strict=True) | _sampling_options(asked)
    options["frequency_penalty"] = asked.get("frequency_penalty") or 0
    options["presence_penalty"] = asked.get("presence_penalty") or 0
    options["top_p"] = asked.get("top_p") or 1.0
    alternatives = max(0, whole_of(asked.get("logprobs")))
    native: dict[str, Json] = {
        "model": text_of(asked.get("model")),
        "prompt": text_of(asked.get("prompt")),
        "suffix": text_of(asked.get("suffix")),
        "stream": asked.get("stream") is True,
        "options": options,
        "logprobs": alternatives > 0,
        "top_logprobs": alternatives,
        "_debug_render_only": asked.get("_debug_render_only") is True,
    }
    return _without_zeros(native)


def read_embeddings(body: bytes) -> dict[str, Json]:
    """A body of /v1/embeddings as it was understood and checked."""
    asked = decode_body(STRUCTS, "EmbedRequest", body)
    form = text_of(asked.get("encoding_format"))
    if form and form.lower() not in ("float", "base64"):
        raise BadRequest(
            f"Invalid value for 'encoding_format' = {form}. Supported values: ['float', 'base64'].", "encoding_format"
        )
    if asked.get("input") in (None, []):
        raise BadRequest("invalid input", "input")
    return asked


def native_embeddings(asked: dict[str, Json]) -> dict[str, Json]:
    """The body of /api/embed."""
    given = asked["input"]
    native: dict[str, Json] = {
        "model": text_of(asked.get("model")),
        "input": [""] if given == "" else given,
        "dimensions": whole_of(asked.get("dimensions")),
    }
    return _without_zeros(native)


def wants_usage(asked: dict[str, Json]) -> bool:
    return object_of(asked.get("stream_options")).get("include_usage") is True


def think_of(effort: str) -> Json:
    """OpenAI's reasoning effort as `think`; None leaves it to the model. Its scale goes past both ends of Ollama's."""
    if effort not in _EFFORTS:
        raise BadRequest(f"invalid reasoning value: {quote_go(effort)} (must be {_EFFORTS_NAMED})", "reasoning_effort")
    return _EFFORTS[effort]


def _sampling_options(asked: dict[str, Json]) -> dict[str, Json]:
    """Temperature (1, whatever the model says), and what else was set."""
    temperature = asked.get("temperature")
    options: dict[str, Json] = {"temperature": 1.0 if temperature is None else temperature}
    for name, option in (("max_tokens", "num_predict"), ("seed", "seed")):
        if asked.get(name) is not None:
            options[option] = asked[name]
    return options


def _stop_options(stop: Json, *, strict: bool) -> dict[str, Json]:
    """A text or a list of texts; of the latter completions refuse other members and chats leave them out."""
    if isinstance(stop, str):
        return {"stop": [stop]}
    if not isinstance(stop, list):
        return {}
    if strict and (others := [member for member in stop if not isinstance(member, str)]):
        raise BadRequest(f"invalid type for 'stop' field: {go_type(others[0])}", "stop")
    return {"stop": [member for member in stop if isinstance(member, str)]}


def _format(asked: dict[str, Json]) -> Json:
    kind = text_of(asked.get("type")).strip().lower()
    if kind == "json_object":
        return "json"
    return object_of(asked.get("json_schema")).get("schema") if kind == "json_schema" else None


def _without_zeros(native: dict[str, Json]) -> dict[str, Json]:
    """Fields that say nothing are left out, but for those that are there in every request."""
    kept = ("model", "messages", "prompt", "stream", "options", "think")
    return {
        name: value
        for name, value in native.items()
        if (name in kept and value is not None) or value not in (None, False, 0, "")
    }
