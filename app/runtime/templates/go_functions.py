"""The functions of Go templates and Ollama's own: comparing, indexing, printing, escaping, JSON, dates.

`and`, `or` and `call` are not here: they need the executor. Each function takes the budget and the evaluated
arguments; `GoFunctionError` carries Go's sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from urllib.parse import quote_plus

from app.runtime.templates.go_budget import Budget, byte_length, readable
from app.runtime.templates.go_errors import GoFunctionError
from app.runtime.templates.go_format import Printer, sprint, sprintln
from app.runtime.templates.go_marshal import marshal
from app.runtime.templates.go_printf import sprintf
from app.runtime.templates.go_strconv import is_print
from app.runtime.templates.go_types import PROPERTY
from app.runtime.templates.go_values import (
    GoMap,
    GoPointer,
    GoSlice,
    GoStruct,
    Invalid,
    Uint8,
    Value,
    basic_kind,
    concrete,
    dereference,
    is_nil,
    truth,
    type_name,
)


@dataclass(frozen=True, slots=True)
class Call:
    """What a function is given. `today` is the date that currentDate tells."""

    args: Sequence[Value]
    budget: Budget
    today: date


@dataclass(frozen=True, slots=True)
class Function:
    """Parameter types are "value" (anything, nil kept apart), "any" or "string"; `rest` is that of further ones."""

    run: Callable[[Call], Value]
    parameters: tuple[str, ...] = ()
    rest: str = ""


# comparison


def _equal(first: Value, second: Value, budget: Budget) -> bool:
    kind, other = basic_kind(first), basic_kind(second)
    if kind != other:
        if {kind, other} == {"int", "uint"}:
            return first == second
        if not isinstance(first, Invalid) and not isinstance(second, Invalid):
            names = f"{type_name(first)} and {type_name(second)}"
            raise GoFunctionError(f"incompatible types for comparison: {names}")
        return False
    if kind:
        budget.spend(len(first) >> 8 if isinstance(first, str) else 0)
        return first == second
    return _equal_composites(first, second, budget)


def _equal_composites(first: Value, second: Value, budget: Budget) -> bool:
    absent = isinstance(first, Invalid) or isinstance(second, Invalid)
    if not absent and type(first) is not type(second):
        shown = f"{_shown(first, budget)}: {type_name(first)}, {type_name(second)}: {_shown(second, budget)}"
        raise GoFunctionError(f"non-comparable types {shown}")
    if is_nil(first) or is_nil(second):
        return is_nil(first) == is_nil(second)
    if isinstance(second, GoPointer):
        return first is second
    raise GoFunctionError(f"non-comparable type {_shown(second, budget)}: {type_name(second)}")


def _shown(value: Value, budget: Budget) -> str:
    """A value in an error message: Go prints it with %s."""
    printer = Printer(budget)
    printer.argument(value, "s")
    return printer.sink.text()


def _eq(call: Call) -> Value:
    if len(call.args) == 1:
        raise GoFunctionError("missing argument for comparison")
    first = concrete(call.args[0])
    return any(_equal(first, concrete(other), call.budget) for other in call.args[1:])


def _ne(call: Call) -> Value:
    return not _eq(call)


def _less(call: Call) -> bool:
    first, second = (concrete(value) for value in call.args)
    kind, other = basic_kind(first), basic_kind(second)
    if not kind or not other:
        raise GoFunctionError("invalid type for comparison")
    if kind != other and {kind, other} != {"int", "uint"}:
        raise GoFunctionError(f"incompatible types for comparison: {type_name(first)} and {type_name(second)}")
    if isinstance(first, bool):
        raise GoFunctionError("invalid type for comparison")
    if isinstance(first, str) and isinstance(second, str):
        call.budget.spend(len(first) >> 8)
        return first.encode("utf-8", "surrogateescape") < second.encode("utf-8", "surrogateescape")
    return isinstance(first, int | float) and isinstance(second, int | float) and first < second


def _le(call: Call) -> Value:
    return _less(call) or _eq(call)


def _gt(call: Call) -> Value:
    return not _le(call)


def _ge(call: Call) -> Value:
    return not _less(call)


# looking into values


def _position(index: Value, largest: int) -> int:
    if isinstance(index, Invalid):
        raise GoFunctionError("cannot index slice/array with nil")
    if not isinstance(index, int) or isinstance(index, bool):
        raise GoFunctionError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= largest:
        raise GoFunctionError(f"index out of range: {int(index)}")
    return int(index)


def _index(call: Call) -> Value:
    item = concrete(call.args[0])
    if isinstance(item, Invalid):
        raise GoFunctionError("index of untyped nil")
    for index in map(concrete, call.args[1:]):
        item, ended = dereference(item)
        if ended:
            raise GoFunctionError("index of nil pointer")
        item = _index_once(item, index, call.budget)
    return item


def _index_once(item: Value, index: Value, budget: Budget) -> Value:
    match item:
        case str():
            budget.spend(len(item) >> 6)
            data = item.encode("utf-8", "surrogateescape")
            at = _position(index, len(data))
            if at == len(data):
                raise GoFunctionError("reflect: string index out of range")
            return Uint8(data[at])
        case GoSlice():
            at = _position(index, len(item))
            if at == len(item):
                raise GoFunctionError("reflect: slice index out of range")
            return item.at(at)
        case GoMap():
            if isinstance(index, Invalid):
                raise GoFunctionError("value is nil; should be of type string")
            if not isinstance(index, str):
                raise GoFunctionError(f"value has type {type_name(index)}; should be string")
            return (item.entries or {}).get(index, item.type.missing)
    raise GoFunctionError(f"can't index item of type {type_name(item)}")


def _slice(call: Call) -> Value:
    item = concrete(call.args[0])
    if isinstance(item, Invalid):
        raise GoFunctionError("slice of untyped nil")
    item, ended = dereference(item)
    if ended:
        raise GoFunctionError("slice of nil pointer")
    indexes = call.args[1:]
    if len(indexes) > 3:
        raise GoFunctionError(f"too many slice indexes: {len(indexes)}")
    if isinstance(item, str):
        return _slice_text(item, indexes, call.budget)
    if not isinstance(item, GoSlice):
        raise GoFunctionError(f"can't slice item of type {type_name(item)}")
    start, end = _bounds(indexes, len(item), item.capacity)
    items = item.items
    if len(indexes) == 3:
        limit = _position(indexes[2], item.capacity)
        if end > limit:
            raise GoFunctionError(f"invalid slice index: {end} > {limit}")
        items = items[: item.start + limit] if items is not None else None
    return GoSlice(item.type, items, item.start + start, item.start + end)


def _bounds(indexes: Sequence[Value], length: int, capacity: int) -> tuple[int, int]:
    found = [_position(index, capacity) for index in indexes]
    start, end = (found + [0])[0], found[1] if len(found) > 1 else length
    if start > end:
        raise GoFunctionError(f"invalid slice index: {start} > {end}")
    return start, end


def _slice_text(text: str, indexes: Sequence[Value], budget: Budget) -> str:
    if len(indexes) == 3:
        raise GoFunctionError("cannot 3-index slice a string")
    budget.spend(len(text) >> 6)
    data = text.encode("utf-8", "surrogateescape")
    start, end = _bounds(indexes, len(data), len(data))
    return budget.text(data[start:end].decode("utf-8", "surrogateescape"))


def _len(call: Call) -> Value:
    item, ended = dereference(call.args[0])
    if ended:
        raise GoFunctionError("len of nil pointer")
    match item:
        case str():
            call.budget.spend(len(item) >> 8)
            return byte_length(item)
        case GoSlice():
            return len(item)
        case GoMap():
            return len(item.entries or {})
        case Invalid():
            raise GoFunctionError("reflect: call of reflect.Value.Type on zero Value")
    raise GoFunctionError(f"len of type {type_name(item)}")


# text

_HTML = str.maketrans({"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"})
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _joined(call: Call) -> str:
    """The arguments as one text, pointers followed: what the escaping functions escape."""
    if len(call.args) == 1 and isinstance(call.args[0], str):
        return call.args[0]
    return sprint([_printable(value) for value in call.args], call.budget)


def _printable(value: Value) -> Value:
    if isinstance(value, GoPointer) and value.target is not None:
        return value.target
    return "<no value>" if value is None or isinstance(value, Invalid) else value


def _html(call: Call) -> Value:
    return call.budget.text(_joined(call).translate(_HTML))


def _js(call: Call) -> Value:
    text = _joined(call)
    call.budget.spend(len(text) >> 3)
    return call.budget.text("".join(_js_character(character) for character in text))


def _js_character(character: str) -> str:
    if character in _JS:
        return _JS[character]
    if character < " ":
        return f"\\u{ord(character):04X}"
    if is_print(character) or character == "\x7f":
        return character
    code = 0xFFFD if 0xDC80 <= ord(character) <= 0xDCFF else ord(character)
    return "\ufffd" if code == 0xFFFD else f"\\u{code:04X}"


def _urlquery(call: Call) -> Value:
    return call.budget.text(quote_plus(_joined(call).encode("utf-8", "surrogateescape"), safe="-._~"))


def _print(call: Call) -> Value:
    return sprint(call.args, call.budget)


def _println(call: Call) -> Value:
    return sprintln(call.args, call.budget)


def _printf(call: Call) -> Value:
    return sprintf(str(call.args[0]), call.args[1:], call.budget)


# Ollama's


def _json(call: Call) -> Value:
    return marshal(call.args[0], call.budget)


def _current_date(call: Call) -> Value:
    return call.today.isoformat()


def _yesterday_date(call: Call) -> Value:
    return (call.today - timedelta(days=1)).isoformat()


_TYPESCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def typescript_type(value: Value) -> str:
    """A tool's property as a TypeScript type: unions for anyOf and for lists of types."""
    if not isinstance(value, GoStruct) or value.type is not PROPERTY:
        return "any"
    any_of, names = value.fields["AnyOf"], value.fields["Type"]
    if isinstance(any_of, GoSlice) and len(any_of):
        return " | ".join(typescript_type(any_of.at(index)) for index in range(len(any_of)))
    if not isinstance(names, GoSlice) or not len(names):
        return "any"
    return " | ".join(_TYPESCRIPT.get(readable(str(names.at(index))), "any") for index in range(len(names)))


def _typescript(call: Call) -> Value:
    return call.budget.text(typescript_type(call.args[0]))


def _not(call: Call) -> Value:
    return not truth(concrete(call.args[0]))


_PAIR = ("value", "value")
BUILTINS = {
    "not": Function(_not, ("value",)),
    "eq": Function(_eq, ("value",), "value"),
    "ne": Function(_ne, _PAIR),
    "lt": Function(_less, _PAIR),
    "le": Function(_le, _PAIR),
    "gt": Function(_gt, _PAIR),
    "ge": Function(_ge, _PAIR),
    "index": Function(_index, ("value",), "value"),
    "slice": Function(_slice, ("value",), "value"),
    "len": Function(_len, ("value",)),
    "print": Function(_print, (), "any"),
    "println": Function(_println, (), "any"),
    "printf": Function(_printf, ("string",), "any"),
    "html": Function(_html, (), "any"),
    "js": Function(_js, (), "any"),
    "urlquery": Function(_urlquery, (), "any"),
}
OLLAMA = {
    "json": Function(_json, ("any",)),
    "currentDate": Function(_current_date, (), "string"),
    "yesterdayDate": Function(_yesterday_date, (), "string"),
    "toTypeScriptType": Function(_typescript, ("any",)),
}
NAMES = frozenset((*BUILTINS, *OLLAMA, "and", "or", "call"))
