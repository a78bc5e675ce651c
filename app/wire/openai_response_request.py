"""OpenAI's responses request as Ollama's chat. Source: Ollama 0.33; every function raises `BadRequest` in its words.

Nothing is stored: `previous_response_id`, `conversation` and `background` have no effect, as in Ollama.
"""

from __future__ import annotations

from itertools import zip_longest

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.dialects import NO_OBJECT, WEB_SEARCH, WEB_SEARCH_TOOL, decode_body, items_of, object_of, text_of
from app.wire.go_json import JsonError, loads_whole
from app.wire.go_structs import GoStructs
from app.wire.openai_messages import image_of
from app.wire.openai_requests import think_of
from app.wire.openai_response_input import TEXTS, Item, read_input
from app.wire.requests import TOOL_STRUCTS

_NOTHING: Item = {}


def _check_input(given: Json) -> None:
    read_input(given)


STRUCTS = GoStructs(
    {
        "ResponsesRequest": {
            "model": "string", "background": "bool", "conversation": "any", "include": "[]string",
            "input": "openai.ResponsesInput", "instructions": "string", "max_output_tokens": "int",
            "reasoning": "openai.ResponsesReasoning", "temperature": "float64", "text": "openai.ResponsesText",
            "top_p": "float64", "truncation": "string", "tools": "[]openai.ResponsesTool", "stream": "bool",
        },
        "ResponsesReasoning": {"effort": "string", "generate_summary": "string", "summary": "string"},
        "ResponsesText": {"format": "openai.ResponsesTextFormat"},
        "ResponsesTextFormat": {"type": "string", "name": "string", "schema": "any", "strict": "bool"},
        "ResponsesTool": {
            "type": "string", "name": "string", "description": "string", "strict": "bool",
            "parameters": "map[string]interface {}", "tools": "[]openai.ResponsesTool",
        },
    },
    frozenset(), {"openai.ResponsesInput": _check_input}, "openai",
)  # fmt: skip
_parameters = GoStructs(TOOL_STRUCTS, frozenset(), {})


def read_response_request(body: bytes) -> dict[str, Json]:
    """A body of /v1/responses as it was understood."""
    return decode_body(STRUCTS, "ResponsesRequest", body)


def native_response_request(asked: dict[str, Json]) -> dict[str, Json]:
    """The body of /api/chat."""
    messages: list[Item] = []
    if instructions := text_of(asked.get("instructions")):
        messages.append({"role": "system", "content": instructions})
    conversation = _Conversation(messages)
    items = read_input(asked.get("input"))
    for item, following in zip_longest(items, items[1:], fillvalue=_NOTHING):
        conversation.add(item, following)
    temperature = asked.get("temperature")
    options: dict[str, Json] = {"temperature": 1.0 if temperature is None else temperature}
    for name, option in (("top_p", "top_p"), ("max_output_tokens", "num_predict")):
        if asked.get(name) is not None:
            options[option] = asked[name]
    native: dict[str, Json] = {
        "model": text_of(asked.get("model")),
        "messages": list(conversation.ended()),
        "options": options,
        "stream": asked.get("stream") is True,
    }
    think = think_of(text_of(object_of(asked.get("reasoning")).get("effort")))
    form = object_of(object_of(asked.get("text")).get("format"))
    tools = _native_tools(items_of(asked.get("tools")))
    native |= {} if think is None else {"think": think}
    native |= {"tools": tools} if tools else {}
    if form.get("type") == "json_schema" and form.get("schema") is not None:
        native["format"] = form["schema"]
    return native


def declares_web_search(asked: dict[str, Json]) -> bool:
    return any(tool.get("type") == WEB_SEARCH for tool in items_of(asked.get("tools")))


class _Conversation:
    """Messages out of items: reasoning and calls join the assistant's message that they belong to."""

    def __init__(self, messages: list[Item]) -> None:
        self._messages, self._thinking = messages, ""

    def add(self, item: Item, following: Item) -> None:
        kind = item["type"]
        if kind == "reasoning":
            self._thinking = text_of(item.get("encrypted_content"))
        elif kind == "message":
            self._message(item, following)
        elif kind == "function_call":
            self._call(item)
        elif kind == "function_call_output":
            result: Item = {"role": "tool", **_flat(item["output"])}
            call = text_of(item.get("call_id"))
            self._messages.append(result | ({"tool_call_id": call} if call else {}))

    def ended(self) -> list[Item]:
        if self._thinking:
            self._messages.append({"role": "assistant", "content": "", "thinking": self._thinking})
        return self._messages

    def _message(self, item: Item, following: Item) -> None:
        message: Item = {"role": text_of(item.get("role")), **_flat(item["content"])}
        if message["role"] == "assistant":
            message |= self._thought()
            if self._joins_call(following):
                _merge(self._messages[-1], message)
                return
        self._messages.append(message)

    def _joins_call(self, following: Item) -> bool:
        """Whether the latest message holds the call whose output follows: nothing may come between the two."""
        call = text_of(following.get("call_id")) if following.get("type") == "function_call_output" else ""
        last = self._messages[-1] if self._messages else {}
        calls = items_of(last.get("tool_calls")) if last.get("role") == "assistant" else []
        return bool(call) and any(made.get("id") == call for made in calls)

    def _call(self, item: Item) -> None:
        function: Json = {"index": 0, "name": text_of(item.get("name")), "arguments": _arguments(item)}
        identity: Item = {"id": item["call_id"]} if item.get("call_id") else {}
        if not self._messages or self._messages[-1].get("role") != "assistant":
            self._messages.append({"role": "assistant", "content": ""})
        last = self._messages[-1]
        last["tool_calls"] = [*items_of(last.get("tool_calls")), identity | {"function": function}]
        last |= self._thought()

    def _thought(self) -> Item:
        thinking, self._thinking = self._thinking, ""
        return {"thinking": thinking} if thinking else {}


def _merge(into: Item, message: Item) -> None:
    before, after = text_of(into.get("content")), text_of(message.get("content"))
    into["content"] = f"{before}\n{after}" if before and after else before + after
    images = [*_list(into.get("images")), *_list(message.get("images"))]
    into |= {"images": images} if images else {}
    into |= {"thinking": message["thinking"]} if message.get("thinking") else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _arguments(item: Item) -> Json:
    text = text_of(item.get("arguments"))
    if not text:
        return {}
    try:
        value = loads_whole(text)
    except JsonError as error:
        why = "unexpected end of JSON input" if error.message in ("EOF", "unexpected EOF") else error.message
        raise BadRequest(f"failed to parse function call arguments: {why}", "input") from error
    if value is not None and not isinstance(value, dict):
        raise BadRequest(f"failed to parse function call arguments: {NO_OBJECT}", "input")
    return value or {}


def _flat(parts: Json) -> Item:
    """Parts as one text and its images. An image by file id is passed over."""
    text, images = "", []
    for part in items_of(parts):
        if part["type"] in TEXTS:
            text += text_of(part.get("text"))
        elif part["type"] == "input_file":
            raise BadRequest("file inputs are not currently supported", "input")
        elif url := text_of(part.get("image_url")):
            images.append(image_of(url))
    return {"content": text} | ({"images": list[Json](images)} if images else {})


def _native_tools(tools: list[Item]) -> list[Json]:
    searching = any(tool.get("type") == WEB_SEARCH for tool in tools)
    native: list[Json] = []
    for tool in tools:
        if tool.get("type") == WEB_SEARCH:
            native.append(WEB_SEARCH_TOOL)
        else:
            native += [made for name, made in _expanded(tool) if not (searching and name == WEB_SEARCH)]
    return native


def _expanded(tool: Item) -> list[tuple[str, Json]]:
    """The functions of a tool by name; those of a namespace bear its name."""
    own = text_of(tool.get("name"))
    if tool.get("type") == "namespace":
        prefix = f"{own}." if own else ""
        members = [pair for member in items_of(tool.get("tools")) for pair in _expanded(member)]
        return [_renamed(name if name.startswith(prefix) else prefix + name, made) for name, made in members]
    try:
        parameters = _parameters.decode("ToolFunctionParameters", tool.get("parameters"))
    except BadRequest as error:
        raise BadRequest(f"failed to unmarshal tool parameters: {error.message}", "tools") from None
    function: Item = {"name": own, "description": text_of(tool.get("description")), "parameters": parameters}
    return [(own, {"type": text_of(tool.get("type")), "function": function})]


def _renamed(name: str, made: Json) -> tuple[str, Json]:
    tool = object_of(made)
    return name, tool | {"function": object_of(tool.get("function")) | {"name": name}}
