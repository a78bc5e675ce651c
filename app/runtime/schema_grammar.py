"""A JSON schema as a grammar that allows the same texts as llama.cpp's own converter, white space included.

The engine in the worker allows other white space, so at temperature 0 a model would say the same thing in another
text than Ollama's does (v1_chat_schema). Schemas that this module does not know whole are left to that engine:
patterns, formats, bounds of numbers, open objects, large repetitions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from app.core.generation import Json

_MOST_RULES, _MOST_REPEATS, _MOST_CHOICES = 300, 100, 200
_MOST_PATHS = 200  # ways to read one text: a grammar is followed along all of them, and they multiply with the depth
_NUMBERS = frozenset("-0123456789")
_FIRSTS = {
    "object": frozenset("{"), "array": frozenset("["), "string": frozenset('"'), "boolean": frozenset("tf"),
    "null": frozenset("n"), "integer": _NUMBERS, "number": _NUMBERS, "value": _NUMBERS | frozenset('{["tfn'),
}  # fmt: skip

_PRIMITIVES = {
    "space": r'| " " | "\n"{1,2} [ \t]{0,20}',
    "boolean": '("true" | "false") space',
    "null": '"null" space',
    "integral-part": "[0] | [1-9] [0-9]{0,15}",
    "decimal-part": "[0-9]{1,16}",
    "integer": '("-"? integral-part) space',
    "number": '("-"? integral-part) ("." decimal-part)? ([eE] [-+]? integral-part)? space',
    "char": r'[^"\\\x7F\x00-\x1F] | [\\] (["\\bfnrt] | "u" [0-9a-fA-F]{4})',
    "string": r'"\"" char* "\"" space',
    "array": '"[" space ( value ("," space value)* )? "]" space',
    "object": '"{" space ( string ":" space value ("," space string ":" space value)* )? "}" space',
    "value": "object | array | string | number | boolean | null",
}
_NOTES = frozenset({
    "title", "description", "default", "examples", "example", "$schema", "$id", "$comment", "deprecated", "readOnly",
    "writeOnly", "$defs", "definitions",
})  # fmt: skip
_MEMBERS = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength"}),
    "integer": frozenset(), "number": frozenset(), "boolean": frozenset(), "null": frozenset(),
}  # fmt: skip
_REFERENCE = re.compile(r"#/(?:\$defs|definitions)/([A-Za-z0-9_.-]+)")


class _Unknown(Exception):
    """A schema that is left to the worker's own engine."""


def schema_grammar(schema: dict[str, Json]) -> str | None:
    """The grammar of a checked schema; None where this module does not know all of it."""
    maker = _Maker(schema)
    try:
        root = maker.of(schema)
    except _Unknown:
        return None
    if maker.recursive and maker.ambiguous:
        return None
    rules = {"root": root} | maker.rules | _PRIMITIVES
    return "\n".join(f"{name} ::= {rule}" for name, rule in rules.items())


class _Shape(NamedTuple):
    """The characters a rule can begin with (none: not known yet), and the most ways in which it can read one text."""

    firsts: frozenset[str] = frozenset()
    paths: int = 1


class _Maker:
    """Collects the rules of one schema. `rules` has those that were given a name.

    `ambiguous` where two alternatives can begin alike, `recursive` where a rule leads back to itself: together the
    ways to read a text grow with every bracket, without bound.
    """

    def __init__(self, root: dict[str, Json]) -> None:
        self._root = root
        self._named: dict[str, str] = {}
        self._under_way: frozenset[str] = frozenset()  # references that nothing has been said before yet
        self._shapes = {name: _Shape(firsts) for name, firsts in _FIRSTS.items()}
        self.rules: dict[str, str] = {}
        self.recursive = self.ambiguous = False

    def of(self, schema: Json) -> str:
        """The right side of a rule for `schema`. Raises `_Unknown`."""
        if schema is True or schema == {}:
            return "value"
        if not isinstance(schema, dict):
            raise _Unknown
        said = {key: value for key, value in schema.items() if key not in _NOTES}
        if said.keys() == {"$ref"}:
            return self._referred(said["$ref"])
        for key in ("anyOf", "oneOf"):
            if said.keys() == {key}:
                return self._either(_some(said[key]))
        if "const" in said and said.keys() <= {"const", "type"}:
            return self._noted(f"{literal(said['const'])} space", _Shape(frozenset(_first(said["const"]))))
        if "enum" in said and said.keys() <= {"enum", "type"}:
            choices = _some(said["enum"])
            rule = f"({' | '.join(map(literal, choices))}) space"
            return self._noted(rule, _Shape(frozenset(map(_first, choices))))
        return self._typed(said)

    def _typed(self, said: dict[str, Json]) -> str:
        kind = said.get("type")
        if isinstance(kind, list):
            return self._either([said | {"type": each} for each in _some(kind)])
        if not said:
            return "value"
        if not isinstance(kind, str) or kind not in _MEMBERS or not said.keys() <= _MEMBERS[kind] | {"type"}:
            raise _Unknown
        if kind == "object" and "properties" in said:
            return self._within(said, self._object)
        if kind == "array" and len(said) > 1:
            return self._within(said, self._array)
        if kind == "string" and len(said) > 1:
            least, most = _bounds(said, "Length")
            rule = rf'"\"" char{{{least},{"" if most is None else most}}} "\"" space'
            return self._noted(rule, self._shapes["string"])
        if len(said) > 1:
            raise _Unknown
        return kind

    def _within(self, said: dict[str, Json], make: Callable[[dict[str, Json]], str]) -> str:
        """Inside of brackets a reference may lead back to where it came from."""
        outside, self._under_way = self._under_way, frozenset()
        rule = make(said)
        self._under_way = outside
        return rule

    def _array(self, said: dict[str, Json]) -> str:
        item = self._rule(said.get("items", True))
        rule = f'"[" space {_repeated(item, _bounds(said, "Items"))} "]" space'
        return self._noted(rule, _Shape(_FIRSTS["array"], self._shapes[item].paths))

    def _object(self, said: dict[str, Json]) -> str:
        properties, required = said["properties"], said.get("required") or []
        if said.get("additionalProperties", False) is not False or not isinstance(properties, dict):
            raise _Unknown
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise _Unknown
        values = {name: self._rule(value) for name, value in properties.items()}
        pairs = {name: self._add(f'{literal(name)} space ":" space {value}') for name, value in values.items()}
        paths = max((self._shapes[value].paths for value in values.values()), default=1)
        always = [pair for name, pair in pairs.items() if name in required]
        other = [pair for name, pair in pairs.items() if name not in required]
        rule = ' "," space '.join(always)
        if other:
            choices = " | ".join(self._from(other[at:]) for at in range(len(other)))
            rule += f' ("," space ({choices}))?' if always else f"({choices})?"
        return self._noted(f'"{{" space {rule} "}}" space', _Shape(_FIRSTS["object"], paths))

    def _either(self, schemas: list[Json]) -> str:
        rules = [self._rule(schema) for schema in schemas]
        shapes = [self._shapes[rule] for rule in rules]
        firsts = frozenset().union(*(shape.firsts for shape in shapes))
        alike = [[shape.paths for shape in shapes if first in shape.firsts] for first in firsts]
        self.ambiguous = self.ambiguous or any(len(paths) > 1 for paths in alike)
        return self._noted(" | ".join(rules), _Shape(firsts, max(map(sum, alike), default=1)))

    def _noted(self, rule: str, shape: _Shape) -> str:
        """`rule`, its shape kept for those that use it. Raises `_Unknown` where there are too many ways to read it."""
        if shape.paths > _MOST_PATHS:
            raise _Unknown
        self._shapes[rule] = shape
        return rule

    def _from(self, optional: Sequence[str]) -> str:
        """The first of `optional`, and each later one or not, in their order."""
        rest = self._add(" ".join(f'("," space {pair})?' for pair in optional[1:])) if len(optional) > 1 else ""
        return f"{optional[0]} {rest}".rstrip()

    def _referred(self, reference: Json) -> str:
        found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
        if found is None or found[0] in self._under_way:
            raise _Unknown  # of one that says nothing before itself no grammar can be made
        place = found[0]
        if place not in self._named:
            name = self._named[place] = f"ref-{len(self._named)}"
            self._shapes[name] = _Shape()
            outside, self._under_way = self._under_way, self._under_way | {place}
            defined = self._root.get(place.split("/")[1])
            rule = self.of(defined.get(found[1]) if isinstance(defined, dict) else None)
            self.rules[name], self._shapes[name] = rule, self._shapes.get(rule, _Shape())
            self._under_way = outside
        elif self._named[place] not in self.rules:
            self.recursive = True
        return self._named[place]

    def _rule(self, schema: Json) -> str:
        """The name of a rule for `schema`, or a rule that needs no name."""
        rule = self.of(schema)
        return rule if re.fullmatch(r"[a-z0-9-]+", rule) else self._add(rule)

    def _add(self, rule: str) -> str:
        if len(self.rules) >= _MOST_RULES:
            raise _Unknown
        name = f"rule-{len(self.rules)}"
        self.rules[name], self._shapes[name] = rule, self._shapes.get(rule, _Shape())
        return name


def literal(value: Json) -> str:
    """The terminal that is the JSON text of `value`, compact as llama.cpp prints it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _first(value: Json) -> str:
    """The character that the JSON text of `value` begins with."""
    return json.dumps(value)[0]


def _some(values: Json) -> list[Json]:
    if not isinstance(values, list) or not 0 < len(values) <= _MOST_CHOICES:
        raise _Unknown
    return values


def _bounds(said: dict[str, Json], what: str) -> tuple[int, int | None]:
    least, most = said.get(f"min{what}", 0), said.get(f"max{what}")
    for bound in (least, most):
        if bound is not None and (not isinstance(bound, int) or bound > _MOST_REPEATS):
            raise _Unknown
    if not isinstance(least, int) or (isinstance(most, int) and most < least):
        raise _Unknown
    return least, most if isinstance(most, int) else None


def _repeated(item: str, bounds: tuple[int, int | None]) -> str:
    """`item` so many times, with commas between."""
    least, most = bounds
    if most == 0:
        return ""
    more = "" if most is None else str(most - 1)
    rule = f'{item} ("," space {item}){{{max(0, least - 1)},{more}}}'
    return rule if least else f"({rule})?"
