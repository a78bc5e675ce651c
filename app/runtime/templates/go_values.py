"""Values as a Go template sees them: what Python has no word for is spelled out here.

A Go string is a `str`, an int an `int`, a float64 a `float`, a nil interface `None`. `INVALID` is Go's zero
reflect.Value: what is left of a nil after a pipeline, printed as <no value>. Maps, slices, structs and pointers
carry their Go type, because truth, printing and errors depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias


class Invalid:
    """The type of `INVALID`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = Invalid()


class Uint8(int):
    """A byte of a string or an image: an unsigned number, which Go tells apart from an int."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class FieldType:
    name: str
    json: str  # its key in JSON
    omit: str = ""  # left out of JSON when it is "empty", only when it is "nil", or never


@dataclass(frozen=True, slots=True)
class GoType:
    """A named type. `text_form` says what its String method does: "" (it has none), "json", "json_or_braces"
    (a nil map is {}) or "names" (a list of JSON Schema types)."""

    name: str
    fields: tuple[FieldType, ...] = ()  # of a struct
    text_form: str = ""
    unsupported_methods: tuple[str, ...] = ()  # methods that exist in Go and that no template needs
    missing: Value = None  # of a map: what a key that is not there gives


@dataclass(frozen=True, slots=True)
class GoMap:
    """A map with string keys; `entries` is None for a nil map."""

    type: GoType
    entries: dict[str, Value] | None


@dataclass(frozen=True, slots=True)
class GoSlice:
    """`items[start:end]`; the rest of `items` is capacity that slicing can bring back. A nil slice has None."""

    type: GoType
    items: tuple[Value, ...] | bytes | None
    start: int = 0
    end: int = 0

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def capacity(self) -> int:
        return len(self.items or ()) - self.start

    def at(self, index: int) -> Value:
        item = (self.items or ())[self.start + index]
        return Uint8(item) if isinstance(self.items, bytes) and isinstance(item, int) else item


@dataclass(frozen=True, slots=True)
class GoStruct:
    type: GoType
    fields: dict[str, Value]


@dataclass(frozen=True, slots=True)
class GoPointer:
    """A pointer to a struct; None inside for a nil one."""

    type: GoType  # of what it points to
    target: GoStruct | None


Value: TypeAlias = str | bool | int | float | None | Invalid | GoMap | GoSlice | GoStruct | GoPointer

ANY_MAP = GoType("map[string]interface {}")
ANY_SLICE = GoType("[]interface {}")
STRING_SLICE = GoType("[]string")


def make_slice(kind: GoType, items: list[Value] | bytes | None) -> GoSlice:
    if items is None:
        return GoSlice(kind, None)
    return GoSlice(kind, items if isinstance(items, bytes) else tuple(items), 0, len(items))


def type_name(value: Value) -> str:
    """The Go type, as %T prints it."""
    match value:
        case None:
            return "interface {}"
        case Invalid():
            return "<nil>"
        case bool():
            return "bool"
        case Uint8():
            return "uint8"
        case int():
            return "int"
        case float():
            return "float64"
        case str():
            return "string"
        case GoPointer():
            return f"*{value.type.name}"
        case _:
            return value.type.name


def basic_kind(value: Value) -> str:
    """bool, int, uint, float or string; "" for everything else."""
    match value:
        case bool():
            return "bool"
        case Uint8():
            return "uint"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "string"
        case _:
            return ""


def concrete(value: Value) -> Value:
    """What an interface holds: a nil one holds nothing (reflect's Elem)."""
    return INVALID if value is None else value


def is_nil(value: Value) -> bool:
    match value:
        case None | Invalid():
            return True
        case GoMap():
            return value.entries is None
        case GoSlice():
            return value.items is None
        case GoPointer():
            return value.target is None
        case _:
            return False


def truth(value: Value) -> bool:
    """Whether `if` takes it for true: not the zero of its type; a struct always is."""
    match value:
        case None | Invalid():
            return False
        case bool() | int() | float():
            return value != 0
        case str():
            return value != ""
        case GoMap():
            return bool(value.entries)
        case GoSlice():
            return len(value) > 0
        case GoPointer():
            return value.target is not None
        case GoStruct():
            return True


def dereference(value: Value) -> tuple[Value, bool]:
    """(what a pointer or interface leads to, whether it ended in a nil)."""
    if value is None:
        return None, True
    if isinstance(value, GoPointer):
        return (value, True) if value.target is None else (value.target, False)
    return value, False
