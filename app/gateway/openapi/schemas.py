"""JSON schemas (2020-12) in few words: by hand, from Go's struct tables, and from our own frozen dataclasses."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Schema = dict[str, Any]

ANY: Schema = {}
TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
MOMENT: Schema = {"type": "string", "format": "date-time"}
_PLAIN = {str: TEXT, int: WHOLE, float: NUMBER, bool: FLAG, type(None): {"type": "null"}}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def some(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def maybe(schema: Schema) -> Schema:
    """It, or null."""
    return {"anyOf": [schema, {"type": "null"}]} if schema else schema


def one_of(words: Sequence[str]) -> Schema:
    return {"type": "string", "enum": list(words)}


def members(always: Mapping[str, Schema], /, **sometimes: Schema) -> Schema:
    """An object: members that are always there, and others."""
    schema: Schema = {"type": "object", "properties": {**always, **sometimes}}
    return schema | ({"required": list(always)} if always else {})


def asked(always: Mapping[str, Schema], /, **sometimes: Schema) -> Schema:
    """A body of our own routes, which refuse members that they do not know."""
    return members(always, **{name: maybe(schema) for name, schema in sometimes.items()})


def of_class(kind: Any) -> Schema:
    """What `asdict` makes of a value of that type. A type that it does not know may be anything."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [of_class(each) for each in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (tuple, list) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return some(of_class(inner[0])) if len({*inner} - {...}) == 1 else {"type": "array"}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return OBJECT
    if isinstance(kind, type) and issubclass(kind, Enum):
        return one_of([str(each.value) for each in kind])
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return members({field.name: of_class(hints[field.name]) for field in dataclasses.fields(kind)})
    return ANY


_GO: dict[str, Schema] = {
    "string": TEXT, "bool": FLAG, "int": WHOLE, "float32": NUMBER, "float64": NUMBER, "any": ANY, "interface {}": ANY,
    "api.Duration": {"anyOf": [TEXT, NUMBER]}, "api.ThinkValue": {"anyOf": [FLAG, TEXT]}, "api.ImageData": TEXT,
    "api.PropertyType": {"anyOf": [TEXT, some(TEXT)]},
}  # fmt: skip


def of_struct(structs: Mapping[str, Mapping[str, str]], name: str, always: Sequence[str] = ()) -> Schema:
    """The body that a Go struct takes: null is as good as absent, what it does not know is ignored, and `always` must
    be there."""
    return _struct(structs, name, always, (name,))


def _struct(
    structs: Mapping[str, Mapping[str, str]], name: str, always: Sequence[str], inside: tuple[str, ...]
) -> Schema:
    fields = structs[name].items()
    known = {key: _go(structs, kind, inside) for key, kind in fields}
    others = {key: maybe(schema) for key, schema in known.items() if key not in always}
    return members({key: known[key] for key in always}, **others)


def _go(structs: Mapping[str, Mapping[str, str]], kind: str, inside: tuple[str, ...]) -> Schema:
    if kind in _GO:
        return _GO[kind]
    if kind == "api.Tools":
        kind = "[]api.Tool"
    if kind.startswith("[]"):
        return some(_go(structs, kind[2:], inside))
    if kind.startswith("map[string]"):
        return {"type": "object", "additionalProperties": maybe(_go(structs, kind.removeprefix("map[string]"), inside))}
    bare = kind.rpartition(".")[2] if not kind.startswith("struct") else kind
    if bare not in structs or bare in inside:  # a type that contains itself ends here
        return OBJECT
    return _struct(structs, bare, (), (*inside, bare))
