"""Decoding JSON into the shape of a Go struct, with Go's rules and Go's error sentences.

A struct is a table from canonical key to the Go type as Go prints it. Keys match in any case, unknown keys are kept
as they came, `null` fits everything. The first wrong type is remembered and reported after the whole value has been
read, unless a type with its own decoder (Message, Duration, ThinkValue) meets an error: that one is reported at
once. Source: Go's encoding/json (checked against Go 1.26) and the recordings wrong_type_* and chat_content_parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.go_json import number

Decode = Callable[[Json], None]

_NAMED_SLICES = {"api.Tools": "[]api.Tool"}
_FLOAT32_LIMIT = 3.4028235677973366e38  # the first magnitude that rounds to infinity

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/\r\n]")
_ANYTHING = ("any", "interface {}")
# Maps that keep their order are read by another library, which has a sentence of its own for what is no object.
_PROPERTY = "ToolProperty"
_ORDERED = ("map[string]any", "map[string]api.ToolProperty")
_NO_OBJECT = "Value looks like object, but can't find closing '}' symbol"
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_DROP = {ord(character): None for character in _ALPHABET}


class GoStructs:
    """The struct tables, the types with their own decoder, and what decodes an object with them.

    structs: Go type name without its package -> {key: Go type}, and structs without a name under their whole Go type
    ("struct { … }"); aliased: structs whose own decoder reports errors at once; custom: Go type name -> check that
    raises `BadRequest`; package: where Go has the outermost structs.
    """

    def __init__(
        self,
        structs: Mapping[str, Mapping[str, str]],
        aliased: frozenset[str],
        custom: Mapping[str, Decode],
        package: str = "api",
    ) -> None:
        self.structs = structs
        self._aliased, self._custom, self._package = aliased, custom, package
        self._folded = {name: {key.casefold(): key for key in fields} for name, fields in structs.items()}

    def decode(self, struct: str, value: Json) -> dict[str, Json]:
        """`value` as the struct `struct`, known keys renamed to their canonical form.

        Raises `BadRequest` with Go's sentence; a JSON null is the empty struct.
        """
        if value is None:
            return {}
        if not isinstance(value, dict):
            shown = struct if _is_nameless(struct) else f"{self._package}.{struct}"
            raise BadRequest(f"json: cannot unmarshal {kind_of(value)} into Go value of type {shown}")
        run = _Run()
        decoded = self._object(struct, value, run, ())
        run.finish()
        return decoded

    def decode_at(self, expected: str, value: Json, struct: str, path: tuple[str, ...]) -> Json:
        """`value` as the Go type `expected`, errors told under `struct` and `path`: what a type's own decoder reads."""
        run = _Run(shown_as=struct)
        decoded = self._value(expected, value, run, _Place(struct, path))
        run.finish()
        return decoded

    def _object(self, struct: str, value: dict[str, Json], run: _Run, path: tuple[str, ...]) -> dict[str, Json]:
        fields, folded = self.structs[struct], self._folded[struct]
        decoded: dict[str, Json] = {}
        for given, member in value.items():
            key = given if given in fields else folded.get(given.casefold(), given)
            expected = fields.get(key)
            if expected is not None:
                name = "" if _is_nameless(struct) else struct
                shown = name if run.shown_as is None else run.shown_as
                member = self._value(expected, member, run, _Place(shown, (*path, key)))
            decoded[key] = member
        return decoded

    def _value(self, expected: str, value: Json, run: _Run, place: _Place) -> Json:
        if value is None or expected in _ANYTHING:
            return value
        if expected == "api.PropertyType":  # one name, or several
            expected = "string" if isinstance(value, str) else "[]string"
        if expected in self._custom:
            self._custom[expected](value)
        elif expected == "api.ImageData":
            _bytes(value, run, place)
        elif expected.startswith("[]") or expected in _NAMED_SLICES:
            return self._array(expected, value, run, place)
        elif expected.startswith("map["):
            return self._map(expected, value, run, place)
        elif (struct := expected if _is_nameless(expected) else expected.partition(".")[2]) in self.structs:
            return self._nested(struct, expected, value, run, place)
        else:
            _scalar(expected, value, run, place)
        return value

    def _nested(self, struct: str, expected: str, value: Json, run: _Run, place: _Place) -> Json:
        alias = struct in self._aliased or struct == _PROPERTY  # that one is read by a decoder of its own everywhere
        inner = _Run(shown_as=place.struct) if alias else run
        if isinstance(value, dict):
            value = self._object(struct, value, inner, place.path)
        else:
            inner.wrong(kind_of(value), place, "api.Alias" if struct in self._aliased else expected)
        if alias:
            inner.finish()
        return value

    def _array(self, expected: str, value: Json, run: _Run, place: _Place) -> Json:
        if not isinstance(value, list):
            run.wrong(kind_of(value), place, expected)
            return value
        member_type = _NAMED_SLICES.get(expected, expected)[2:]
        return [self._value(member_type, member, run, place) for member in value]

    def _map(self, expected: str, value: Json, run: _Run, place: _Place) -> Json:
        member_type = expected.removeprefix("map[string]")
        if isinstance(value, dict):
            return {key: self._value(member_type, member, run, place) for key, member in value.items()}
        if expected in _ORDERED:
            raise BadRequest(_NO_OBJECT, place.path[0])
        run.wrong(kind_of(value), place, expected)
        return value


class _Place(NamedTuple):
    """Where a value stands: the struct that errors name, and the keys down to it."""

    struct: str
    path: tuple[str, ...]


class _Run:
    """One decoding: the first wrong type met. `shown_as` is set inside a type with its own decoder, whose errors
    Go reports under the struct around it."""

    def __init__(self, shown_as: str | None = None) -> None:
        self.shown_as = shown_as
        self.saved: BadRequest | None = None

    def wrong(self, kind: str, place: _Place, expected: str) -> None:
        field = f"{place.struct}.{'.'.join(place.path)}"
        text = f"json: cannot unmarshal {kind} into Go struct field {field} of type {expected}"
        self.saved = self.saved or BadRequest(text, place.path[0] if place.path else None)

    def finish(self) -> None:
        if self.saved is not None:
            raise self.saved


def _is_nameless(struct: str) -> bool:
    return struct.startswith("struct {")


def kind_of(value: Json) -> str:
    """What Go's sentences call a JSON value that is not null."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def go_type(value: Json) -> str:
    """The Go type of a decoded JSON value, as `%T` prints it."""
    names = {bool: "bool", int: "float64", float: "float64", str: "string", list: "[]interface {}"}
    return "<nil>" if value is None else names.get(type(value), "map[string]interface {}")


def _scalar(expected: str, value: Json, run: _Run, place: _Place) -> None:
    kind = kind_of(value)
    wanted = {"string": "string", "bool": "bool"}.get(expected, "number")
    if kind != wanted:
        run.wrong(kind, place, expected)
    elif expected == "float64" or (expected == "float32" and abs(cast(float, value)) < _FLOAT32_LIMIT):
        return
    elif expected == "float32":
        run.wrong(f"number {number(float(cast(float, value)))}", place, expected)
    elif isinstance(value, float) or isinstance(value, int) and abs(value) >= 2**63:
        run.wrong(f"number {number(value) if isinstance(value, float) else value}", place, expected)


def _bytes(value: Json, run: _Run, place: _Place) -> None:
    """Base64 bytes: standard alphabet, padded, line breaks ignored (Go's base64.StdEncoding)."""
    if not isinstance(value, str):
        run.wrong(kind_of(value), place, "api.ImageData")
        return
    wrong = corrupt_base64_at(value)
    if wrong is not None and run.saved is None:
        run.saved = BadRequest(f"illegal base64 data at input byte {wrong}", place.path[-1])


def corrupt_base64_at(text: str) -> int | None:
    """Where Go's strict decoder would stop, as a byte offset; None when `text` is sound."""
    if len(text) % 4 == 0 and text.isascii() and text.rstrip("=").translate(_DROP) == "" and "=" not in text[:-2]:
        return None  # the common case, at C speed
    found = _NOT_BASE64.search(text)
    at = found.start() if found else len(text)
    filled = (at - text.count("\r", 0, at) - text.count("\n", 0, at)) % 4
    if found is None:
        return max(at - filled, 0) if filled else None
    if found.group() == "=" and filled >= 2:
        return _padding(text, at, filled)
    return len(text[:at].encode())


def _padding(text: str, at: int, filled: int) -> int | None:
    """Checks the '=' at the end of a quantum that has `filled` characters."""
    rest = at + 1
    while rest < len(text) and text[rest] in "\r\n":
        rest += 1
    if filled == 2:
        if rest >= len(text):
            return len(text)
        if text[rest] != "=":
            return rest - 1
        rest += 1
    while rest < len(text) and text[rest] in "\r\n":
        rest += 1
    return rest if rest < len(text) else None
