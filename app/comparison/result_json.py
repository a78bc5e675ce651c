"""The values of a comparison as JSON and back, by the types of their fields: what is stored is what is shown.

A figure that is infinite (a first difference that never came) is null: JSON has no infinity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from app.core.generation import Json

T = TypeVar("T")


_WORDS = {int: "whole number", str: "text"}


class Unreadable(ValueError):
    """What was told is not what these values are made of. `why` names the field."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"no {kind}: {why}")
        self.why = why


def to_json(value: object) -> Json:
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    raise TypeError(f"{type(value).__name__} is no value of a comparison")


def from_json(kind: type[T], told: Json, *, exact: bool = False) -> T:
    """A value of that class. Fields that are missing have their defaults, unknown ones are left out: files of other
    versions stay readable. What people ask for is read `exact`: there an unknown field is a slip. Raises
    `Unreadable`."""
    try:
        value: T = _read(kind, told, exact)
        return value
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise Unreadable(kind.__name__, str(error)) from error


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, told: Any, exact: bool) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _read_union(get_args(kind), told, exact)
    if origin in (tuple, list):
        if not isinstance(told, list):
            raise TypeError(f"{told!r:.40} is no list")
        return origin(_read(get_args(kind)[0], item, exact) for item in told)
    if origin is not None and issubclass(origin, Mapping):
        return {key: _read(get_args(kind)[1], item, exact) for key, item in _object(told).items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return _read_fields(kind, _object(told), exact)
    if isinstance(kind, type) and issubclass(kind, Enum):
        if told not in (known := [member.value for member in kind]):
            raise ValueError(f"{told!r:.40} is none of {', '.join(map(str, known))}")
        return kind(told)
    return _read_plain(kind, told)


def _object(told: Any) -> Mapping[str, Any]:
    if not isinstance(told, Mapping):
        raise TypeError(f"{told!r:.40} is no object")
    return told


def _read_fields(kind: type, told: Mapping[str, Any], exact: bool) -> Any:
    hints = _hints(kind)
    if exact and (unknown := sorted(set(told) - set(hints))):
        raise TypeError(f"unknown: {', '.join(unknown)[:200]}; known are {', '.join(hints)}")
    missing = [
        field.name for field in fields(kind)
        if field.name not in told and field.default is MISSING and field.default_factory is MISSING
    ]  # fmt: skip
    if missing:
        raise TypeError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    return kind(**{name: _read_field(name, hints[name], item, exact) for name, item in told.items() if name in hints})


def _read_field(name: str, kind: Any, told: Any, exact: bool) -> Any:
    """Which field it was, is said with what is wrong with it."""
    try:
        return _read(kind, told, exact)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise TypeError(f"{name}: {error}") from error


def _read_union(kinds: tuple[Any, ...], told: Any, exact: bool) -> Any:
    if told is None and NoneType in kinds:
        return None
    rest = [kind for kind in kinds if kind is not NoneType]
    return _read(rest[0], told, exact) if len(rest) == 1 else told  # the only wider union is `Json`


def _read_plain(kind: Any, told: Any) -> Any:
    if kind is float:
        try:
            return math.inf if told is None else float(told)
        except (TypeError, ValueError):
            raise TypeError(f"{told!r:.40} is no number") from None
    if kind is bool and not isinstance(told, bool):
        raise TypeError(f"{told!r:.40} is neither true nor false")
    if not isinstance(told, kind) or (kind is int and isinstance(told, bool)):
        raise TypeError(f"{told!r:.40} is no {_WORDS.get(kind, kind.__name__)}")
    return told
