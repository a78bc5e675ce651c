"""index, slice and len.

A slice's capacity is its length: Go's decoder may leave room behind a list, which no template should see.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.runtime.templates.go_budget import Budget, byte_length
from app.runtime.templates.go_calls import Call
from app.runtime.templates.go_errors import GoFunctionError
from app.runtime.templates.go_values import (
    GoMap,
    GoSlice,
    Invalid,
    Uint8,
    Value,
    concrete,
    dereference,
    type_name,
)


def _position(index: Value, largest: int) -> int:
    if isinstance(index, Invalid):
        raise GoFunctionError("cannot index slice/array with nil")
    if not isinstance(index, int) or isinstance(index, bool):
        raise GoFunctionError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= largest:
        raise GoFunctionError(f"index out of range: {int(index)}")
    return int(index)


def index(call: Call) -> Value:
    item = concrete(call.args[0])
    if isinstance(item, Invalid):
        raise GoFunctionError("index of untyped nil")
    for position in map(concrete, call.args[1:]):
        item, ended = dereference(item)
        if ended:
            raise GoFunctionError("index of nil pointer")
        item = _index_once(item, position, call.budget)
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


def slice_(call: Call) -> Value:
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
        call.budget.spend(limit >> 6)
        items = items[: item.start + limit] if items is not None else None
    return GoSlice(item.type, items, item.start + start, item.start + end)


def _bounds(indexes: Sequence[Value], length: int, capacity: int) -> tuple[int, int]:
    found = [_position(position, capacity) for position in indexes]
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


def length(call: Call) -> Value:
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
