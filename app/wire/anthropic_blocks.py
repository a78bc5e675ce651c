"""The content blocks of Anthropic's messages: checked, measured, and made into Ollama's messages."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.dialects import NO_OBJECT, by_key, items_of, object_of, text_of
from app.wire.go_json import dumps
from app.wire.go_structs import GoStructs, corrupt_base64_at

Block = dict[str, Json]

BLOCK_STRUCTS = {
    "ContentBlock": {
        "type": "string", "text": "string", "citations": "[]anthropic.Citation", "source": "anthropic.ImageSource",
        "id": "string", "name": "string", "input": "api.ToolCallFunctionArguments", "tool_use_id": "string",
        "content": "any", "is_error": "bool", "thinking": "string", "signature": "string",
    },
    "Citation": {
        "type": "string", "url": "string", "title": "string", "encrypted_index": "string", "cited_text": "string",
    },
    "ImageSource": {"type": "string", "media_type": "string", "data": "string", "url": "string"},
}  # fmt: skip
_ALWAYS = ("type", "url", "title")  # of a citation; the rest is left out where it is empty
_SEARCH_ERROR = "web_search_tool_result_error"


def check_arguments(given: Json) -> None:
    if not isinstance(given, dict):
        raise BadRequest(NO_OBJECT, "messages")


def read_blocks(structs: GoStructs, content: Json) -> list[Block]:
    """The blocks of a message's content; a text is one block."""
    if content is None or isinstance(content, str):
        return [{"type": "text", "text": content or ""}]
    return items_of(structs.decode_at("[]anthropic.ContentBlock", content, "MessagesRequest", ("messages",)))


def native_message(role: str, blocks: Sequence[Block]) -> list[Json]:
    """The messages of /api/chat that one message becomes: results of tools are messages of their own."""
    message: Block = {"role": role, "content": "".join(text_of(b.get("text")) for b in _of(blocks, "text"))}
    results: list[Json] = []
    images: list[Json] = []
    calls: list[Json] = []
    thinking = ""
    for block in blocks:
        kind = block.get("type")
        if kind == "image":
            images.append(_image(block.get("source"), "invalid image source"))
        elif kind in ("tool_use", "server_tool_use"):
            calls.append(_call(block))
        elif kind in ("tool_result", "web_search_tool_result"):
            results.append(_result(block))
        elif kind == "thinking" and block.get("thinking") is not None:
            thinking = text_of(block["thinking"])
    more: Block = {"images": images, "tool_calls": calls, "thinking": thinking}
    message |= {name: value for name, value in more.items() if value}
    said: list[Json] = [message] if len(message) > 2 or message["content"] else []
    return [*results, *said] if role == "user" else [*said, *results]


def _of(blocks: Sequence[Block], kind: str) -> list[Block]:
    return [block for block in blocks if block.get("type") == kind]


def _image(source: Json, absent: str) -> str:
    """The base64 of an image. Raises `BadRequest` for anything else: this server fetches nothing."""
    if not isinstance(source, dict):
        raise BadRequest(absent, "messages")
    kind, data = text_of(source.get("type")), text_of(source.get("data"))
    if kind != "base64":
        raise BadRequest(f"invalid image source type: {kind}. Only base64 images are supported.", "messages")
    if (wrong := corrupt_base64_at(data)) is not None:
        raise BadRequest(f"invalid base64 image data: illegal base64 data at input byte {wrong}", "messages")
    return data


def _call(block: Block) -> Json:
    if block.get("type") == "tool_use":
        for field in ("id", "name"):
            if not block.get(field):
                raise BadRequest(f"tool_use block missing required '{field}' field", "messages")
    identity: Block = {"id": block["id"]} if block.get("id") else {}
    function: Json = {"index": 0, "name": text_of(block.get("name")), "arguments": object_of(block.get("input"))}
    return identity | {"function": function}


def _result(block: Block) -> Json:
    given = block.get("content")
    message: Block = {
        "role": "tool",
        "content": _search_result(given),
        "tool_call_id": text_of(block.get("tool_use_id")),
    }
    if block.get("type") == "tool_result":
        parts = [part for part in given if isinstance(part, dict)] if isinstance(given, list) else []
        texts = [text_of(part.get("text")) for part in _of(parts, "text")]
        message["content"] = given if isinstance(given, str) else "".join(texts)
        images: list[Json] = [
            _image(part.get("source"), "invalid tool_result image source") for part in _of(parts, "image")
        ]
        message |= {"images": images} if images else {}
    call = text_of(block.get("tool_use_id"))
    return message | ({"tool_call_id": call} if call else {})


def _search_result(content: Json) -> str:
    """What an earlier web search found, as a text."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict) and content.get("type") == _SEARCH_ERROR:
        return _search_error(content)
    if not isinstance(content, list):
        return dumps(by_key(content)).decode()
    told = ""
    for found in (member for member in content if isinstance(member, dict)):
        if found.get("type") == _SEARCH_ERROR:
            return _search_error(found)
        if found.get("type") == "web_search_result":
            told += f"- {text_of(found.get('title'))}: {text_of(found.get('url'))}\n"
    return told


def _search_error(found: Block) -> str:
    code = text_of(found.get("error_code"))
    return f"{_SEARCH_ERROR}: {code}" if code else _SEARCH_ERROR


def blocks_length(blocks: Sequence[Block]) -> int:
    """Bytes of the text in blocks, as Ollama counts them for its estimate of tokens."""
    length = 0
    for block in blocks:
        length += len((text_of(block.get("text")) + text_of(block.get("thinking"))).encode())
        if block.get("type") in ("tool_use", "tool_result"):
            length += len(dumps(_written(block)))
    return length


def _written(block: Block) -> Json:
    """A block as Go writes it: fields in the order of the struct, empty ones left out but for texts that are set."""
    citations: list[Json] = [
        {name: value for name in BLOCK_STRUCTS["Citation"] if (value := cited.get(name, "")) or name in _ALWAYS}
        for cited in items_of(block.get("citations"))
    ]
    written: Block = {
        "type": text_of(block.get("type")),
        **{name: block.get(name) for name in BLOCK_STRUCTS["ContentBlock"] if name != "type"},
        "citations": citations or None,
        "content": by_key(block.get("content")),
    }
    if isinstance(source := block.get("source"), dict):
        written["source"] = {n: source.get(n, "") for n in BLOCK_STRUCTS["ImageSource"] if source.get(n) or n == "type"}
    kept = ("type", "text", "thinking", "input")
    return {name: v for name, v in written.items() if v not in (None, "", False) or (name in kept and v is not None)}
