"""`input` of OpenAI's responses: the items of a conversation, checked as Ollama checks them.

An item is kept as a dict with canonical keys. A message has `content` as a list of parts; the output of a call has
`text` and `parts`. What is wrong is told under its place ("input[2]: content[0]: unknown content type: x").
"""

from __future__ import annotations

from collections.abc import Callable

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.dialects import text_of
from app.wire.go_duration import quote_go
from app.wire.go_structs import GoStructs, kind_of

Item = dict[str, Json]

_ITEM = 'struct { Type string "json:\\"type\\""; Role string "json:\\"role\\"" }'
_PART = 'struct { Type string "json:\\"type\\"" }'
_MESSAGE = "struct { message }"  # its name never shows: an item that is no object has been refused before
_OUTPUT = "struct { function_call_output }"
_structs = GoStructs(
    {
        _ITEM: {"type": "string", "role": "string"},
        _PART: {"type": "string"},
        _MESSAGE: {"type": "string", "role": "string", "content": "any"},
        _OUTPUT: {"type": "string", "call_id": "string", "output": "any"},
        "ResponsesFunctionCall": {
            "id": "string", "type": "string", "call_id": "string", "name": "string", "arguments": "string",
        },
        "ResponsesReasoningInput": {
            "id": "string", "type": "string", "summary": "[]openai.ResponsesReasoningSummary",
            "encrypted_content": "string",
        },
        "ResponsesReasoningSummary": {"type": "string", "text": "string"},
        "ResponsesWebSearchCall": {
            "id": "string", "type": "string", "status": "string", "action": "openai.ResponsesWebSearchAction",
        },
        "ResponsesWebSearchAction": {"type": "string", "query": "string"},
        "ResponsesTextContent": {"type": "string", "text": "string"},
        "ResponsesOutputTextContent": {"type": "string", "text": "string"},
        "ResponsesImageContent": {
            "type": "string", "detail": "string", "file_id": "string", "image_url": "string",
        },
        "ResponsesFileContent": {
            "type": "string", "file_data": "string", "file_id": "string", "file_url": "string", "filename": "string",
        },
    },
    frozenset(), {}, "openai",
)  # fmt: skip
_ITEMS = {
    "message": _MESSAGE, "function_call": "ResponsesFunctionCall", "function_call_output": _OUTPUT,
    "reasoning": "ResponsesReasoningInput", "web_search_call": "ResponsesWebSearchCall",
}  # fmt: skip
_PARTS = {
    "input_text": "ResponsesTextContent", "output_text": "ResponsesOutputTextContent",
    "input_image": "ResponsesImageContent", "input_file": "ResponsesFileContent",
}  # fmt: skip
TEXTS = ("input_text", "output_text")


def read_input(given: Json) -> list[Item]:
    """The items of `input`; a text is one message of the user. Raises `BadRequest`."""
    if given is None or given == "":
        return []
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [_text(given)]}]
    if not isinstance(given, list):
        raise BadRequest(f"input must be a string or array: {_no_list(given)}", "input")
    return [_at(f"input[{index}]", _item, item) for index, item in enumerate(given)]


def _at(place: str, read: Callable[[Json], Item], value: Json) -> Item:
    try:
        return read(value)
    except BadRequest as error:
        raise BadRequest(f"{place}: {error.message}", "input") from None


def _item(given: Json) -> Item:
    head = _structs.decode(_ITEM, given)
    kind = text_of(head.get("type")) or ("message" if head.get("role") else "")
    if not kind:
        raise BadRequest("input item missing required 'type' field")
    if kind not in _ITEMS:
        raise BadRequest(f"unknown input item type: {quote_go(kind)}")
    item = _structs.decode(_ITEMS[kind], given) | {"type": kind}
    if kind == "message":
        item["content"] = _parts("content", item.get("content"), absent="content" not in item)
    elif kind == "function_call_output":
        item["output"] = _parts("output", item.get("output"), absent="output" not in item)
    return item


def _parts(name: str, given: Json, *, absent: bool) -> list[Json]:
    """The parts of a message or of what a call returned; a text is one part."""
    if absent:
        return []
    if given is None or isinstance(given, str):
        return [_text(given or "")]
    if not isinstance(given, list):
        raise BadRequest(f"{name} must be a string or array: {_no_list(given)}")
    return [_at(f"{name}[{index}]", _part, part) for index, part in enumerate(given)]


def _part(given: Json) -> Item:
    kind = text_of(_structs.decode(_PART, given).get("type"))
    if kind not in _PARTS:
        raise BadRequest(f"unknown content type: {kind}")
    return _structs.decode(_PARTS[kind], given) | {"type": kind}


def _text(text: str) -> Json:
    return {"type": "input_text", "text": text}


def _no_list(given: Json) -> str:
    return f"json: cannot unmarshal {kind_of(given)} into Go value of type []json.RawMessage"
