"""The Go types that Ollama shows to a template, and the values of messages and tools in them.

Source: the fields, JSON keys and String methods of Ollama 0.33's api and template packages. Every number of a
request is a float64 there; keys of arguments and of a tool's properties come out sorted.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping, Sequence

from app.core.generation import Json
from app.runtime.templates.go_errors import MAX_NESTING, GoTemplateError
from app.runtime.templates.go_values import (
    ANY_MAP,
    ANY_SLICE,
    STRING_SLICE,
    FieldType,
    GoMap,
    GoPointer,
    GoSlice,
    GoStruct,
    GoType,
    Value,
    make_slice,
)

_SURROGATE = re.compile("[\ud800-\udfff]")


def _fields(*spec: str) -> tuple[FieldType, ...]:
    """Each word is Name, Name:json, Name:json? (left out of JSON when empty) or Name:json?? (only when nil)."""
    found = []
    for word in spec:
        name, _, key = word.partition(":")
        omit = "nil" if key.endswith("??") else "empty" if key.endswith("?") else ""
        found.append(FieldType(name, (key or name).rstrip("?"), omit))
    return tuple(found)


_UNMARSHAL = ("MarshalJSON", "UnmarshalJSON")
PROPERTY_TYPE = GoType("api.PropertyType", text_form="names", unsupported_methods=_UNMARSHAL[:1])
PROPERTIES_MAP = GoType("api.ToolPropertiesMap", unsupported_methods=("Get", "Set", "All", *_UNMARSHAL))
PROPERTY = GoType(
    "api.ToolProperty",
    _fields("AnyOf:anyOf?", "Type:type?", "Items:items??", "Description:description?", "Enum:enum?")
    + _fields("Properties:properties?", "Required:required?"),
)
PROPERTY_SLICE = GoType("[]api.ToolProperty")
_ZERO_PROPERTY = GoStruct(
    PROPERTY,
    {
        "AnyOf": make_slice(PROPERTY_SLICE, None),
        "Type": make_slice(PROPERTY_TYPE, None),
        "Items": None,
        "Description": "",
        "Enum": make_slice(ANY_SLICE, None),
        "Properties": GoPointer(PROPERTIES_MAP, None),
        "Required": make_slice(STRING_SLICE, None),
    },
)
PROPERTY_MAP = GoType("map[string]api.ToolProperty", missing=_ZERO_PROPERTY)
PROPERTIES = GoType("template.templateProperties", text_form="json_or_braces", missing=_ZERO_PROPERTY)
PARAMETERS = GoType(
    "template.templateToolFunctionParameters",
    _fields("Type:type", "Defs:$defs??", "Items:items??", "Required:required?", "Properties:properties"),
)
FUNCTION = GoType(
    "template.templateToolFunction", _fields("Name:name", "Description:description", "Parameters:parameters")
)
TOOL = GoType("template.templateTool", _fields("Type:type", "Items:items??", "Function:function"), text_form="json")
TOOLS = GoType("template.templateTools", text_form="json")
ARGUMENTS = GoType("template.templateArgs", text_form="json_or_braces")
CALL_FUNCTION = GoType("template.templateToolCallFunction", _fields("Index", "Name", "Arguments"))
CALL = GoType("template.templateToolCall", _fields("ID", "Function"))
CALLS = GoType("[]template.templateToolCall")
IMAGE = GoType("api.ImageData")
IMAGES = GoType("[]api.ImageData")
MESSAGE = GoType(
    "template.templateMessage",
    _fields("Role", "Content", "Thinking", "Images", "ToolCalls", "ToolName", "ToolCallID"),
)
MESSAGES = GoType("[]*template.templateMessage")


def clean(text: str) -> str:
    """`text` without lone surrogates, which no UTF-8 can carry (and which mean raw bytes inside the renderer)."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def from_json(value: Json, depth: int = 0) -> Value:
    """A JSON value as Go decodes it into `any`."""
    if depth > MAX_NESTING:
        raise GoTemplateError(f"the request is nested more than {MAX_NESTING} levels deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int | float):
        return _real(value)
    if isinstance(value, Mapping):
        return GoMap(ANY_MAP, {clean(key): from_json(member, depth + 1) for key, member in value.items()})
    return make_slice(ANY_SLICE, [from_json(member, depth + 1) for member in value])


def _real(value: float) -> float:
    try:
        real = float(value)
    except OverflowError:
        real = math.inf
    if not math.isfinite(real):
        raise GoTemplateError("a number of the request is too large")
    return real


def mapping_of(value: object, what: str) -> Mapping[str, Json]:
    """An object of the request; a missing one is empty."""
    if value is not None and not isinstance(value, Mapping):
        raise GoTemplateError(f"{what} must be an object")
    return value or {}


def _sequence(value: Json, what: str) -> Sequence[Json] | None:
    if value is not None and not isinstance(value, list | tuple):
        raise GoTemplateError(f"{what} must be an array")
    return value


def text_of(value: Json, what: str) -> str:
    """A string of the request; a missing one is empty."""
    if value is not None and not isinstance(value, str):
        raise GoTemplateError(f"{what} must be a string")
    return clean(value or "")


def _strings(value: Json, what: str) -> GoSlice:
    items = _sequence(value, what)
    return make_slice(STRING_SLICE, None if items is None else [text_of(item, what) for item in items])


def _property(value: Json, depth: int) -> GoStruct:
    if depth > MAX_NESTING:
        raise GoTemplateError(f"a tool is nested more than {MAX_NESTING} levels deep")
    raw = mapping_of(value, "a property of a tool")
    any_of, kinds, enum = _sequence(raw.get("anyOf"), "anyOf"), raw.get("type"), _sequence(raw.get("enum"), "enum")
    names = [kinds] if isinstance(kinds, str) else _sequence(kinds, "type")
    nested = raw.get("properties")
    return GoStruct(
        PROPERTY,
        {
            "AnyOf": make_slice(
                PROPERTY_SLICE, None if any_of is None else [_property(item, depth + 1) for item in any_of]
            ),
            "Type": make_slice(PROPERTY_TYPE, None if names is None else [text_of(name, "type") for name in names]),
            "Items": from_json(raw.get("items"), depth),
            "Description": text_of(raw.get("description"), "description"),
            "Enum": make_slice(ANY_SLICE, None if enum is None else [from_json(item, depth) for item in enum]),
            "Properties": GoPointer(
                PROPERTIES_MAP, None if nested is None else GoStruct(PROPERTIES_MAP, _properties(nested, depth + 1))
            ),
            "Required": _strings(raw.get("required"), "required"),
        },
    )


def _properties(value: Json, depth: int) -> dict[str, Value]:
    return {clean(name): _property(item, depth) for name, item in mapping_of(value, "properties").items()}


def _tool(value: object) -> GoStruct:
    raw = mapping_of(value, "a tool")
    function = mapping_of(raw.get("function"), "function")
    given = mapping_of(function.get("parameters"), "parameters")
    properties = given.get("properties")
    parameters = GoStruct(
        PARAMETERS,
        {
            "Type": text_of(given.get("type"), "type"),
            "Defs": from_json(given.get("$defs")),
            "Items": from_json(given.get("items")),
            "Required": _strings(given.get("required"), "required"),
            "Properties": GoMap(PROPERTIES, None if properties is None else _properties(properties, 0)),
        },
    )
    described: dict[str, Value] = {
        "Name": text_of(function.get("name"), "name"),
        "Description": text_of(function.get("description"), "description"),
        "Parameters": parameters,
    }
    kind, items = text_of(raw.get("type"), "type"), from_json(raw.get("items"))
    return GoStruct(TOOL, {"Type": kind, "Items": items, "Function": GoStruct(FUNCTION, described)})


def tools_value(tools: Sequence[Mapping[str, Json]] | None) -> GoSlice:
    """The `tools` of a request as `.Tools`; None stays nil, which prints as null."""
    return make_slice(TOOLS, None if tools is None else [_tool(tool) for tool in tools])


def _call(value: Json) -> GoStruct:
    raw = mapping_of(value, "a tool call")
    function = mapping_of(raw.get("function"), "function")
    index, arguments = function.get("index"), function.get("arguments")
    entries = from_json(None if arguments is None else dict(mapping_of(arguments, "arguments")))
    described: dict[str, Value] = {
        "Index": index if isinstance(index, int) and not isinstance(index, bool) else 0,
        "Name": text_of(function.get("name"), "name"),
        "Arguments": GoMap(ARGUMENTS, entries.entries if isinstance(entries, GoMap) else None),
    }
    return GoStruct(CALL, {"ID": text_of(raw.get("id"), "id"), "Function": GoStruct(CALL_FUNCTION, described)})


def _image(value: Json) -> GoSlice:
    try:
        return make_slice(IMAGE, base64.b64decode(text_of(value, "an image"), validate=True))
    except (binascii.Error, ValueError):
        raise GoTemplateError("an image is not base64") from None


def message_value(message: Mapping[str, Json], content: str) -> GoPointer:
    """One message of a request, with the text it has after merging."""
    images = _sequence(message.get("images"), "images")
    calls = _sequence(message.get("tool_calls"), "tool_calls")
    fields: dict[str, Value] = {
        "Role": role_of(message),
        "Content": content,
        "Thinking": text_of(message.get("thinking"), "thinking"),
        "Images": make_slice(IMAGES, None if images is None else [_image(image) for image in images]),
        "ToolCalls": make_slice(CALLS, [_call(call) for call in calls] if calls else None),
        "ToolName": text_of(message.get("tool_name"), "tool_name"),
        "ToolCallID": text_of(message.get("tool_call_id"), "tool_call_id"),
    }
    return GoPointer(MESSAGE, GoStruct(MESSAGE, fields))


def role_of(message: Mapping[str, Json]) -> str:
    return text_of(message.get("role"), "role").lower()
