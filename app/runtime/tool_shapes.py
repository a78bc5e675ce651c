"""Tools and messages as a worker is given them: made anew, field by field, from what a request says.

Source: the fields of Ollama 0.33's api types (protocol 2.3); other keywords of a tool's properties are dropped there
too. Schemas inside a tool are checked like those of `format`, because the worker makes a grammar of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import cast

from app.core.errors import BadRequest
from app.core.generation import Json
from app.runtime.output_formats import schema_problem

MAX_TOOLS, MAX_NAME, MAX_DEPTH = 1024, 512, 48
_IMAGE_KINDS = (("iVBOR", "png"), ("/9j/", "jpeg"), ("R0lGOD", "gif"), ("Qk", "bmp"), ("UklGR", "webp"))

Message = Mapping[str, Json]


def check_tools(tools: Json) -> None:
    """Bounds of a request's tools. Raises `BadRequest`."""
    listed = tools if isinstance(tools, list) else []
    if len(listed) > MAX_TOOLS:
        raise BadRequest(f"tools must be at most {MAX_TOOLS}", "tools")
    for tool in listed:
        name = _text(_object(_object(tool).get("function")).get("name"))
        if len(name) > MAX_NAME:
            raise BadRequest(f"the name of a tool must have at most {MAX_NAME} characters", "tools")


def worker_tools(tools: Json) -> list[Json]:
    """The tools of a request for the worker. Raises `BadRequest` for a schema it could not hold to."""
    return [_tool(_object(tool)) for tool in tools] if isinstance(tools, list) else []


def _tool(tool: Mapping[str, Json]) -> Json:
    function = _object(tool.get("function"))
    given = _object(function.get("parameters"))
    parameters: dict[str, Json] = {"type": _text(given.get("type")) or "object"}
    parameters |= {key: given[key] for key in ("$defs", "items") if given.get(key) is not None}
    if required := _texts(given.get("required")):
        parameters["required"] = required
    parameters["properties"] = _properties(given.get("properties"), 0)
    if problem := schema_problem(parameters):
        raise BadRequest(
            f"the parameters of the tool {_text(function.get('name'))!r} cannot be used: {problem}", "tools"
        )
    described: dict[str, Json] = {"name": _text(function.get("name"))}
    described |= {"description": text} if (text := _text(function.get("description"))) else {}
    items: dict[str, Json] = {"items": tool["items"]} if tool.get("items") is not None else {}
    return (
        {"type": _text(tool.get("type")) or "function"} | items | {"function": described | {"parameters": parameters}}
    )


def _properties(value: Json, depth: int) -> dict[str, Json]:
    return {name: _property(_object(member), depth + 1) for name, member in _object(value).items()}


def _property(value: Mapping[str, Json], depth: int) -> dict[str, Json]:
    if depth > MAX_DEPTH:
        raise BadRequest(f"a tool is nested more than {MAX_DEPTH} levels deep", "tools")
    made: dict[str, Json] = {}
    if isinstance(choices := value.get("anyOf"), list) and choices:
        made["anyOf"] = [_property(_object(choice), depth + 1) for choice in choices]
    kinds = value.get("type")
    if named := _texts([kinds] if isinstance(kinds, str) else kinds):
        made["type"] = named[0] if len(named) == 1 else named
    if value.get("items") is not None:
        made["items"] = value["items"]
    if text := _text(value.get("description")):
        made["description"] = text
    if isinstance(enum := value.get("enum"), list) and enum:
        made["enum"] = enum
    if isinstance(value.get("properties"), dict):
        made["properties"] = _properties(value["properties"], depth)
    if required := _texts(value.get("required")):
        made["required"] = required
    return made


def worker_messages(messages: Sequence[Message]) -> list[Json]:
    """Messages for the worker: thinking as its reasoning_content, arguments as JSON text, images as parts."""
    return [_message(message) for message in messages]


def _message(message: Message) -> Json:
    made: dict[str, Json] = {"role": _text(message.get("role"))}
    for key, named in (("tool_call_id", "tool_call_id"), ("tool_name", "name"), ("thinking", "reasoning_content")):
        if text := _text(message.get(key)):
            made[named] = text
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        made["tool_calls"] = [_call(_object(call)) for call in calls]
    content = _text(message.get("content"))
    images = images_of([message])
    made["content"] = content if not images else [*_said(content), *(_image(image) for image in images)]
    return made


def _call(call: Mapping[str, Json]) -> Json:
    function = _object(call.get("function"))
    index, arguments = function.get("index"), function.get("arguments")
    made: dict[str, Json] = {"id": identity} if (identity := _text(call.get("id"))) else {}
    return made | {
        "index": index if isinstance(index, int) else 0,
        "type": "function",
        "function": {
            "name": _text(function.get("name")),
            "arguments": json.dumps(_object(arguments), ensure_ascii=False, separators=(",", ":")),
        },
    }


def _said(content: str) -> list[Json]:
    return [{"type": "text", "text": content}] if content else []


def _image(data: str) -> Json:
    kind = next((name for start, name in _IMAGE_KINDS if data.startswith(start)), "jpeg")
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{data}"}}


def images_of(messages: Sequence[Message]) -> list[str]:
    """The images of messages, in order, as base64."""
    return [
        image
        for message in messages
        if isinstance(listed := message.get("images"), list)
        for image in listed
        if isinstance(image, str)
    ]


def _object(value: Json) -> Mapping[str, Json]:
    return cast(Mapping[str, Json], value) if isinstance(value, Mapping) else {}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Json) -> list[Json]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
