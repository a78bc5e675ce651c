"""What the dialects under /v1 share: an exchange, a native record as they read it, and server-sent events.

A dialect turns a request of its own into one of Ollama's (/api/chat, /api/generate, /api/embed) and the native
records of the answer into its own answer. Nothing here knows who asks or who answers. Sources of the shapes: the
recordings v1_*, and the expected answers under tests/data/dialects, made by Ollama's own converters.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, cast

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.answers import NEVER, moment
from app.wire.framing import sse_event
from app.wire.go_json import JsonError, dumps, loads
from app.wire.go_structs import GoStructs

JSON = "application/json"
EVENTS = "text/event-stream"
WEB_SEARCH = "web_search"
NO_OBJECT = "Value looks like object, but can't find closing '}' symbol"  # Ollama's word for arguments of no object
NO_WEB_SEARCH = "ollama cloud is disabled: web search is unavailable"
WEB_SEARCH_TOOL: Json = {
    "type": "function",
    "function": {
        "name": WEB_SEARCH,
        "description": "Look something up on the web.",
        "parameters": {
            "type": "object",
            "required": ["query"],
            "properties": {"query": {"type": "string", "description": "What to look for."}},
        },
    },
}  # as which function a model sees Ollama's own web search

Endpoint = Literal["chat", "generate", "embed"]


class BuiltinToolFailed(Exception):
    """The model called a tool that Ollama runs by itself, in its cloud: the whole answer is this error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Exchange(Protocol):
    """One request of a dialect and what becomes of its answer."""

    @property
    def endpoint(self) -> Endpoint:
        """Which native route answers it."""

    @property
    def native(self) -> dict[str, Json]:
        """The body for that route."""

    @property
    def streamed(self) -> bool:
        """Whether the client asked for events."""

    @property
    def relaxes_thinking(self) -> bool:
        """Whether `think` is to be left out for a model that cannot think, instead of refusing the request."""

    def whole(self, record: Mapping[str, Json]) -> Content:
        """The whole answer. Raises `BuiltinToolFailed`."""

    def events(self, record: Mapping[str, Json]) -> bytes:
        """The events that one native record becomes; empty where it becomes none."""

    def broken(self, message: str) -> bytes:
        """The events that tell of an answer that failed after it had begun."""


@dataclass(frozen=True, slots=True)
class Content:
    """A body and its type."""

    body: bytes
    type: str = JSON


@dataclass(frozen=True, slots=True)
class Said:
    """A native record with its fields at hand; what is absent or odd is its zero value. `created` in Unix seconds."""

    model: str
    created: int
    role: str
    text: str
    thinking: str
    calls: tuple[Mapping[str, Json], ...]
    logprobs: list[Json]
    done: bool
    reason: str
    prompt_tokens: int
    output_tokens: int
    debug: Json


def read_record(record: Mapping[str, Json]) -> Said:
    """A record of /api/chat or /api/generate."""
    message = object_of(record.get("message"))
    at = moment(record.get("created_at"))
    calls = message.get("tool_calls")
    logprobs = record.get("logprobs")
    return Said(
        model=text_of(record.get("model")),
        created=int(time.time()) if at is NEVER else int(at.timestamp()),
        role=text_of(message.get("role")),
        text=text_of(message.get("content")) or text_of(record.get("response")),
        thinking=text_of(message.get("thinking")),
        calls=tuple(call for call in calls if isinstance(call, dict)) if isinstance(calls, list) else (),
        logprobs=logprobs if isinstance(logprobs, list) else [],
        done=record.get("done") is True,
        reason=text_of(record.get("done_reason")),
        prompt_tokens=whole_of(record.get("prompt_eval_count")),
        output_tokens=whole_of(record.get("eval_count")),
        debug=record.get("_debug_info"),
    )


def function_of(call: Mapping[str, Json]) -> tuple[str, dict[str, Json]]:
    """Name and arguments of a native tool call; the arguments keep their order, what is in them does not."""
    function = object_of(call.get("function"))
    arguments = object_of(function.get("arguments"))
    return text_of(function.get("name")), {name: by_key(value) for name, value in arguments.items()}


def web_search_of(said: Said) -> str | None:
    """The query of the first call of the web search that Ollama runs by itself; None where there is none."""
    for call in said.calls:
        name, arguments = function_of(call)
        if name == WEB_SEARCH:
            return text_of(arguments.get("query"))
    return None


def decode_body(structs: GoStructs, struct: str, body: bytes) -> dict[str, Json]:
    """A request body as Go reads it. Raises `BadRequest` with Go's sentence ("EOF" for an empty body)."""
    try:
        value = loads(body)
    except JsonError as error:
        raise BadRequest(error.message) from error
    return structs.decode(struct, value)


def event(data: Json, name: str | None = None) -> bytes:
    return sse_event(dumps(data), name)


def line(data: Json) -> bytes:
    """A whole answer: Go's encoder ends it with a newline."""
    return dumps(data) + b"\n"


def text_of(value: Json) -> str:
    return value if isinstance(value, str) else ""


def whole_of(value: Json) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def items_of(value: Json) -> list[dict[str, Json]]:
    """The members of a decoded list of structs; a null among them is the empty struct."""
    return [cast(dict[str, Json], member or {}) for member in value] if isinstance(value, list) else []


def object_of(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def by_key(value: Json) -> Json:
    """`value` with the keys of its objects in order, as Go writes a map."""
    if isinstance(value, dict):
        return {key: by_key(value[key]) for key in sorted(value)}
    return [by_key(member) for member in value] if isinstance(value, list) else value
