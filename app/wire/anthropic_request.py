"""Anthropic's messages request as Ollama's chat. Source: Ollama 0.33; what is wrong is told in its words."""

from __future__ import annotations

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.anthropic_blocks import (
    BLOCK_STRUCTS,
    Block,
    blocks_length,
    check_arguments,
    native_message,
    read_blocks,
)
from app.wire.dialects import WEB_SEARCH, WEB_SEARCH_TOOL, decode_body, items_of, object_of, text_of, whole_of
from app.wire.go_duration import quote_go
from app.wire.go_json import dumps
from app.wire.go_structs import GoStructs
from app.wire.requests import TOOL_STRUCTS

_RAW_MESSAGE = 'struct { Role string "json:\\"role\\""; Content json.RawMessage "json:\\"content\\"" }'
_CHARACTERS_A_TOKEN = 4  # Ollama's estimate, counted in bytes


def _check_message(given: Json) -> None:
    _read_message(given)


STRUCTS = GoStructs(
    BLOCK_STRUCTS | {
        "MessagesRequest": {
            "model": "string", "max_tokens": "int", "messages": "[]anthropic.MessageParam", "system": "any",
            "stream": "bool", "temperature": "float64", "top_p": "float64", "top_k": "int",
            "stop_sequences": "[]string", "tools": "[]anthropic.Tool", "tool_choice": "anthropic.ToolChoice",
            "thinking": "anthropic.ThinkingConfig", "metadata": "anthropic.Metadata",
            "output_config": "anthropic.OutputConfig",
        },
        _RAW_MESSAGE: {"role": "string", "content": "any"},
        "OutputConfig": {"effort": "string"},
        "Tool": {
            "type": "string", "name": "string", "description": "string", "input_schema": "any", "max_uses": "int",
        },
        "ToolChoice": {"type": "string", "name": "string", "disable_parallel_tool_use": "bool"},
        "ThinkingConfig": {"type": "string", "budget_tokens": "int"},
        "Metadata": {"user_id": "string"},
    },
    frozenset(),
    {"anthropic.MessageParam": _check_message, "api.ToolCallFunctionArguments": check_arguments},
    "anthropic",
)  # fmt: skip
_parameters = GoStructs(TOOL_STRUCTS, frozenset(), {})


def read_messages_request(body: bytes) -> dict[str, Json]:
    """A body of /v1/messages as it was understood; messages have their blocks as a list. Raises `BadRequest`."""
    asked = decode_body(STRUCTS, "MessagesRequest", body)
    given = asked.get("messages")
    messages = [_read_message(message) for message in given] if isinstance(given, list) else []
    if not asked.get("model"):
        raise BadRequest("model is required", "model")
    if whole_of(asked.get("max_tokens")) <= 0:
        raise BadRequest("max_tokens is required and must be positive", "max_tokens")
    if not messages:
        raise BadRequest("messages is required", "messages")
    return asked | {"messages": list(messages)}


def _read_message(given: Json) -> dict[str, Json]:
    message = object_of(STRUCTS.decode_at(_RAW_MESSAGE, given, "MessagesRequest", ("messages",)))
    if "content" not in message:
        raise BadRequest("unexpected end of JSON input", "messages")
    return {"role": text_of(message.get("role")), "content": list(read_blocks(STRUCTS, message["content"]))}


def native_messages_request(asked: dict[str, Json]) -> dict[str, Json]:
    """The body of /api/chat. Raises `BadRequest`."""
    system = _system_text(asked.get("system"))
    messages: list[Json] = [{"role": "system", "content": system}] if system else []
    for message in items_of(asked["messages"]):
        messages += native_message(text_of(message["role"]).lower(), items_of(message["content"]))
    options: dict[str, Json] = {"num_predict": asked["max_tokens"]}
    options |= {name: asked[name] for name in ("temperature", "top_p", "top_k") if asked.get(name) is not None}
    options |= {"stop": asked["stop_sequences"]} if asked.get("stop_sequences") else {}
    native: dict[str, Json] = {
        "model": asked["model"],
        "messages": messages,
        "options": options,
        "stream": asked.get("stream") is True,
    }
    tools = _native_tools(items_of(asked.get("tools")))
    think = _think(object_of(asked.get("thinking")), object_of(asked.get("output_config")))
    native |= {"tools": tools} if tools else {}
    return native | ({} if think is None else {"think": think})


def declares_web_search(asked: dict[str, Json]) -> bool:
    return any(_is_web_search(tool) for tool in items_of(asked.get("tools")))


def estimated_tokens(asked: dict[str, Json]) -> int:
    """What a stream says of its prompt before anybody has counted it."""
    system, messages = asked.get("system"), items_of(asked["messages"])
    length = _system_length(system)
    for message in messages:
        length += len(text_of(message["role"]).encode()) + blocks_length(items_of(message["content"]))
    for tool in items_of(asked.get("tools")):
        length += len((text_of(tool.get("name")) + text_of(tool.get("description"))).encode())
        length += len(dumps(tool["input_schema"])) if "input_schema" in tool else 0
    return length // _CHARACTERS_A_TOKEN or 1


def _system_text(system: Json) -> str:
    if not isinstance(system, list):
        return text_of(system)
    return "".join(text_of(b.get("text")) for b in system if isinstance(b, dict) and b.get("type") == "text")


def _system_length(system: Json) -> int:
    if system is None or isinstance(system, str):
        return len((system or "").encode())
    if not isinstance(system, list):
        return len(dumps(system))
    blocks: list[Block] = []
    for member in system:
        try:
            blocks.append(object_of(STRUCTS.decode_at("anthropic.ContentBlock", member, "", ())))
        except BadRequest:
            continue  # Ollama counts what it can read
    return blocks_length(blocks)


def _think(thinking: dict[str, Json], output: dict[str, Json]) -> Json:
    """`think`: switched on or off, else the effort; None leaves it to the model."""
    kind = thinking.get("type")
    if kind in ("enabled", "disabled"):
        return kind == "enabled"
    effort = text_of(output.get("effort")).strip().lower()
    return {"xhigh": "high"}.get(effort, effort) if effort in ("low", "medium", "high", "xhigh", "max") else None


def _is_web_search(tool: dict[str, Json]) -> bool:
    return text_of(tool.get("type")).startswith(WEB_SEARCH)


def _native_tools(tools: list[dict[str, Json]]) -> list[Json]:
    searching = any(_is_web_search(tool) for tool in tools)
    native: list[Json] = []
    for tool in tools:
        name = text_of(tool.get("name"))
        if _is_web_search(tool):
            native.append(WEB_SEARCH_TOOL)
        elif not (searching and name == WEB_SEARCH):
            try:
                parameters = _parameters.decode("ToolFunctionParameters", tool.get("input_schema"))
            except BadRequest as error:
                raise BadRequest(f"invalid input_schema for tool {quote_go(name)}: {error.message}", "tools") from None
            function: Block = {"name": name, "description": text_of(tool.get("description")), "parameters": parameters}
            native.append({"type": "function", "function": function})
    return native
