"""Go values as encoding/json writes them, for `json` in templates and for the String methods of Ollama's types.

Unlike `app.wire.go_json` this knows struct fields and nil slices, leaves U+0085 as it is (nobody splits a prompt
into lines), and writes a byte that is not UTF-8 as \\ufffd.
"""

from __future__ import annotations

import base64
import json
import re

from app.runtime.templates.go_budget import Budget, Sink
from app.runtime.templates.go_types import PROPERTIES_MAP, PROPERTY_TYPE
from app.runtime.templates.go_values import GoMap, GoPointer, GoSlice, GoStruct, Invalid, Value
from app.wire.go_json import number

_ESCAPED = re.compile("[<>&\u2028\u2029\udc80-\udcff]")
_quote = json.encoder.encode_basestring


def marshal(value: Value, budget: Budget) -> str:
    """`value` as compact JSON; keys of maps sorted, those of a tool's nested properties in their own order."""
    sink = Sink(budget)
    _write(value, sink)
    return sink.text()


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return "\\ufffd" if code >= 0xDC80 else f"\\u{code:04x}"


def _string(text: str) -> str:
    quoted = _quote(text)
    return _ESCAPED.sub(_escape, quoted) if _ESCAPED.search(quoted) else quoted


def _write(value: Value, sink: Sink) -> None:
    match value:
        case None | Invalid():
            sink.write("null")
        case bool():
            sink.write("true" if value else "false")
        case str():
            sink.write(_string(value))
        case int():
            sink.write(str(int(value)))
        case float():
            sink.write(number(value))
        case GoPointer():
            _write(value.target, sink)
        case GoMap():
            sink.budget.spend(len(value.entries or ()))
            _write_members(None if value.entries is None else sorted(value.entries.items()), sink)
        case GoSlice():
            _write_slice(value, sink)
        case GoStruct():
            _write_members(_members(value, sink), sink)


def _members(value: GoStruct, sink: Sink) -> list[tuple[str, Value]]:
    if value.type is PROPERTIES_MAP:
        sink.budget.spend(len(value.fields))
        return list(value.fields.items())
    return [
        (spec.json, value.fields[spec.name]) for spec in value.type.fields if not _omitted(value, spec.name, spec.omit)
    ]


def _omitted(value: GoStruct, name: str, omit: str) -> bool:
    member = value.fields[name]
    if omit == "nil":
        return member is None
    return omit == "empty" and (
        member == "" or isinstance(member, GoSlice) and not len(member) or member == GoPointer(PROPERTIES_MAP, None)
    )


def _write_members(members: list[tuple[str, Value]] | None, sink: Sink) -> None:
    if members is None:
        sink.write("null")
        return
    opening = "{"
    for key, member in members:
        sink.write(f"{opening}{_string(key)}:")
        _write(member, sink)
        opening = ","
    sink.write("{}" if opening == "{" else "}")


def _write_slice(value: GoSlice, sink: Sink) -> None:
    if value.type is PROPERTY_TYPE and len(value) == 1:  # one type stands for itself
        _write(value.at(0), sink)
    elif value.items is None:
        sink.write("null")
    elif isinstance(value.items, bytes):
        sink.write(f'"{base64.b64encode(value.items[value.start : value.end]).decode()}"')
    else:
        opening = "["
        for index in range(len(value)):
            sink.write(opening)
            _write(value.at(index), sink)
            opening = ","
        sink.write("[]" if opening == "[" else "]")
