"""The values of a comparison as JSON and back, by the types of their fields: what is stored is what is shown.

A figure that is infinite (a first difference that never came) is null: JSON has no infinity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from app.core.generation import Json

T = TypeVar("T")


class Unreadable(ValueError):
    """What was stored is not what these values are made of."""


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


def from_json(kind: type[T], told: Json) -> T:
    """A value of that class. Fields that are missing have their defaults, unknown ones are left out: files of other
    versions stay readable. Raises `Unreadable`."""
    try:
        value: T = _read(kind, told)
        return value
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise Unreadable(f"no {kind.__name__}: {error}") from error


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, told: Any) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _read_union(get_args(kind), told)
    if origin in (tuple, list):
        if not isinstance(told, list):
            raise TypeError(f"{told!r:.40} is no list")
        return origin(_read(get_args(kind)[0], item) for item in told)
    if origin is not None and issubclass(origin, Mapping):
        return {key: _read(get_args(kind)[1], item) for key, item in told.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{name: _read_field(name, hints[name], item) for name, item in told.items() if name in hints})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(told)
    return _read_plain(kind, told)


def _read_field(name: str, kind: Any, told: Any) -> Any:
    """Which field it was, is said with what is wrong with it."""
    try:
        return _read(kind, told)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise TypeError(f"{name}: {error}") from error


def _read_union(kinds: tuple[Any, ...], told: Any) -> Any:
    if told is None and NoneType in kinds:
        return None
    rest = [kind for kind in kinds if kind is not NoneType]
    return _read(rest[0], told) if len(rest) == 1 else told  # the only wider union is `Json`


def _read_plain(kind: Any, told: Any) -> Any:
    if kind is float:
        return math.inf if told is None else float(told)
    if not isinstance(told, kind) or (kind is int and isinstance(told, bool)):
        raise TypeError(f"{told!r:.40} is no {kind.__name__}")
    return told
