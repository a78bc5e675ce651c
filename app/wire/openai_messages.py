"""Messages of OpenAI's chat as Ollama's: parts, images, tool calls with text arguments.

Each part of a message becomes a message of its own, as Ollama does it.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.dialects import items_of, object_of, text_of
from app.wire.go_json import JsonError, loads_whole
from app.wire.go_structs import corrupt_base64_at, go_type

NAMELESS_FUNCTION = 'struct { Name string "json:\\"name\\""; Arguments string "json:\\"arguments\\"" }'
_IMAGE_TYPES = ("jpeg", "jpg", "png", "webp")
_INVALID = "invalid message format"

Message = dict[str, Json]


def native_messages(given: Sequence[Message]) -> list[Json]:
    """The messages of /api/chat. Raises `BadRequest`."""
    messages: list[Message] = []
    for message in given:
        content, calls = message.get("content"), message.get("tool_calls")
        if isinstance(content, str):
            messages.append(_told(message, content) | _tool_name(message, given))
        elif isinstance(content, list):
            messages += [_part(text_of(message.get("role")), part) for part in content]
            if messages and calls:
                last = _told(message, "") | _tool_name(message, given)
                messages[-1] |= {key: value for key, value in last.items() if key not in ("role", "content")}
        elif calls is None:
            raise BadRequest(f"invalid message content type: {go_type(content)}", "messages")
        else:
            messages.append(_told(message, ""))
    return list(messages)


def _told(message: Message, content: str) -> Message:
    """The message itself, without parts."""
    fields: Message = {
        "thinking": text_of(message.get("reasoning")),
        "tool_calls": [_call(call) for call in items_of(message.get("tool_calls"))],
        "tool_call_id": text_of(message.get("tool_call_id")),
    }
    head: Message = {"role": text_of(message.get("role")), "content": content}
    return head | {key: value for key, value in fields.items() if value}


def _call(call: Message) -> Json:
    function = object_of(call.get("function"))
    arguments = arguments_of(text_of(function.get("arguments")))
    if arguments is None:
        raise BadRequest("invalid tool call arguments", "messages")
    named: Message = {"id": call["id"]} if call.get("id") else {}
    return named | {"function": {"index": 0, "name": text_of(function.get("name")), "arguments": arguments}}


def arguments_of(text: str) -> Message | None:
    """The arguments of a call, which came as JSON in a text; None where the text is no object."""
    try:
        value = loads_whole(text)
    except JsonError:
        return None
    return {} if value is None else value if isinstance(value, dict) else None


def _tool_name(message: Message, given: Sequence[Message]) -> Message:
    """Which tool a result is of: its own word, else the latest call with its id."""
    if text_of(message.get("role")).lower() != "tool":
        return {}
    name, wanted = text_of(message.get("name")), text_of(message.get("tool_call_id"))
    if not name and wanted:
        named = [
            text_of(object_of(call.get("function")).get("name"))
            for earlier in given
            for call in reversed(items_of(earlier.get("tool_calls")))
            if call.get("id") == wanted
        ]
        name = named[-1] if named else ""
    return {"tool_name": name} if name else {}


def _part(role: str, part: Json) -> Message:
    if not isinstance(part, dict):
        raise BadRequest(_INVALID, "messages")
    kind = part.get("type")
    if kind == "text":
        if not isinstance(text := part.get("text"), str):
            raise BadRequest(_INVALID, "messages")
        return {"role": role, "content": text}
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if not isinstance(url, str):
            raise BadRequest(_INVALID, "messages")
        return {"role": role, "content": "", "images": [image_of(url)]}
    if kind == "input_audio":
        return {"role": role, "content": "", "images": [_audio(part.get("input_audio"))]}
    raise BadRequest(_INVALID, "messages")


def image_of(url: str) -> str:
    """The base64 of a data URI. Raises `BadRequest` for anything else: this server fetches nothing."""
    if url.startswith(("http://", "https://")):
        raise BadRequest("image URLs are not currently supported, please use base64 encoded data instead", "messages")
    heads = ("data:;base64,", *(f"data:image/{kind};base64," for kind in _IMAGE_TYPES))
    data = next((url[len(head) :] for head in heads if url.startswith(head)), None)
    if data is None or corrupt_base64_at(data) is not None:
        raise BadRequest("invalid image input", "messages")
    return data


def _audio(given: Json) -> str:
    if not isinstance(given, dict):
        raise BadRequest("invalid input_audio format", "messages")
    data = given.get("data")
    if not isinstance(data, str):
        raise BadRequest("invalid input_audio format: missing data", "messages")
    if (wrong := corrupt_base64_at(data)) is not None:
        raise BadRequest(f"invalid input_audio base64 data: illegal base64 data at input byte {wrong}", "messages")
    return data
