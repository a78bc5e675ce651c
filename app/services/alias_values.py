"""An alias: a name that stands for other models, in order, with what it adds to a request. Read, checked, written.

A target is a line of text: `NAME` (a variant, or another alias), `family=NAME` (a variant of that family, one that is
loaded first), `best=NAME` (the advisor's choice among its variants), `best=*` (among all models), each with `@HOST` at
the end where only that host may answer. None of these signs occurs in a model's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from app.core.errors import BadRequest
from app.core.generation import GenerationRequest, Json
from app.wire.go_duration import keep_alive_ns
from app.wire.model_names import names_cloud, parse_name
from app.wire.requests import INTEGER_OPTIONS, REAL_OPTIONS, THINK_LEVELS, known_options

MOST_TARGETS = 16
LONGEST_SYSTEM, LONGEST_NOTE = 32 << 10, 500  # characters
EVERYTHING = "*"
_MEMBERS = ("targets", "options", "system", "think", "keep_alive", "guard", "note")
_MARK, _HOST = "=", "@"
_HOST_NAME = re.compile(r"[^\s@=/]{1,64}")
Word = TypeVar("Word", bound=StrEnum)


class Kind(StrEnum):
    """What a target names."""

    VARIANT = "variant"
    FAMILY = "family"
    BEST = "best"


class Guard(StrEnum):
    """What is done about a prompt that does not fit the context, which Ollama would cut without a word."""

    OFF = "off"
    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Target:
    """`host` "" is any host."""

    kind: Kind
    name: str
    host: str = ""

    @property
    def text(self) -> str:
        """As `read_target` reads it."""
        what = self.name if self.kind is Kind.VARIANT else f"{self.kind}{_MARK}{self.name}"
        return what + (f"{_HOST}{self.host}" if self.host else "")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request gets that does not say otherwise. None and "" add nothing."""

    options: Mapping[str, Json] = field(default_factory=dict)
    system: str = ""
    think: Json = None
    keep_alive: Json = None

    def over(self, inner: Defaults) -> Defaults:
        """These, and those of an alias that this one points at where these say nothing."""
        return Defaults(
            {**inner.options, **self.options}, self.system or inner.system,
            inner.think if self.think is None else self.think,
            inner.keep_alive if self.keep_alive is None else self.keep_alive,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Alias:
    """Never changed: a request keeps the one that it began with. `changed_at` in seconds since the epoch."""

    name: str
    targets: tuple[Target, ...]
    defaults: Defaults = field(default_factory=Defaults)
    guard: Guard = Guard.WARN
    note: str = ""
    changed_at: float = 0.0


# -- reading ----------------------------------------------------------------------------------------------------------


def read_alias(name: str, body: Mapping[str, Json], changed_at: float = 0.0) -> Alias:
    """Raises `BadRequest` with what is wrong, and in which field. Whether its targets exist is not looked at."""
    if unknown := sorted(set(body) - set(_MEMBERS)):
        raise BadRequest(f"unknown: {', '.join(unknown)[:200]}; known are {', '.join(_MEMBERS)}", unknown[0])
    defaults = Defaults(
        _options(body.get("options")), _text(body, "system", LONGEST_SYSTEM), _think(body.get("think")),
        _keep_alive(body.get("keep_alive")),
    )  # fmt: skip
    guard = _word(Guard, body.get("guard"), Guard.WARN, "guard")
    return Alias(
        checked_name(name), _targets(body.get("targets")), defaults, guard, _text(body, "note", LONGEST_NOTE),
        changed_at,
    )  # fmt: skip


def checked_name(name: str) -> str:
    """One word, with a tag where wanted. Raises `BadRequest`."""
    told = name.strip()
    if "/" in told or _MARK in told or _HOST in told or not parse_name(told).is_valid:
        raise BadRequest(
            f"an alias is one word of letters, digits, . _ and -, with a :tag if wanted; {told[:80]!r} is not", "name"
        )
    if names_cloud(told) or told.casefold().endswith(":local"):
        raise BadRequest(f"the tag of {told[:80]!r} has a meaning for Ollama; take another one", "name")
    return told


def read_target(text: str) -> Target:
    """Raises `BadRequest`."""
    what, sign, host = text.strip().partition(_HOST)
    if sign and not _HOST_NAME.fullmatch(host.strip()):
        raise BadRequest(f"{text[:80]!r}: behind @ stands the name of a host", "targets")
    word, mark, name = what.strip().partition(_MARK)
    if not mark:
        kind, name = Kind.VARIANT, word
    else:
        kind = _word(Kind, word.strip().lower(), Kind.VARIANT, "targets")
    name = name.strip()
    if kind is Kind.BEST and name in ("", EVERYTHING):
        name = EVERYTHING
    elif not parse_name(name).is_valid:
        raise BadRequest(
            f"{text[:80]!r} is no target: it is a model's name, family=NAME, best=NAME or best=*, "
            "with @HOST behind it where only one host may answer",
            "targets",
        )
    return Target(kind, name, host.strip())


def _targets(value: Json) -> tuple[Target, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise BadRequest("targets is a list of what the alias stands for, the first choice first", "targets")
    if len(value) > MOST_TARGETS:
        raise BadRequest(f"an alias has at most {MOST_TARGETS} targets", "targets")
    return tuple(dict.fromkeys(read_target(str(one)) for one in value))


def _options(value: Json) -> dict[str, Json]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest('options is an object, such as {"temperature": 0.2}', "options")
    known = (*INTEGER_OPTIONS, *REAL_OPTIONS, "stop")
    if unknown := sorted(set(value) - set(known)):
        raise BadRequest(
            f"Ollama has no option {', '.join(unknown)[:200]}; it has {', '.join(sorted(known))}", "options"
        )
    try:
        options = known_options(value)
    except BadRequest as error:
        raise BadRequest(error.message, "options") from error
    context = options.get("num_ctx")
    if isinstance(context, int) and context < 1:
        raise BadRequest("num_ctx is a positive number of tokens", "options")
    return options


def _think(value: Json) -> Json:
    if value is None or isinstance(value, bool) or value in THINK_LEVELS:
        return value
    raise BadRequest(f"think is true, false or one of {', '.join(THINK_LEVELS)}", "think")


def _keep_alive(value: Json) -> Json:
    if value is not None:
        keep_alive_ns(value)
    return value


def _text(body: Mapping[str, Json], key: str, most: int) -> str:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"{key} is a text", key)
    if value and len(value) > most:
        raise BadRequest(f"{key} has at most {most} characters", key)
    return value or ""


def _word(kind: type[Word], value: Json, default: Word, field_name: str) -> Word:
    if value is None:
        return default
    try:
        return kind(str(value))
    except ValueError:
        raise BadRequest(f"{str(value)[:40]!r} is not one of {', '.join(kind)}", field_name) from None


# -- writing ----------------------------------------------------------------------------------------------------------


def alias_json(alias: Alias) -> dict[str, Json]:
    """As it is kept, and as the routes tell it; without `name` and `changed_at` it is what `read_alias` reads."""
    defaults = alias.defaults
    return {
        "name": alias.name, "targets": [target.text for target in alias.targets], "options": dict(defaults.options),
        "system": defaults.system, "think": defaults.think, "keep_alive": defaults.keep_alive,
        "guard": str(alias.guard), "note": alias.note, "changed_at": alias.changed_at,
    }  # fmt: skip


def members_of(told: Mapping[str, Json]) -> dict[str, Json]:
    """What `read_alias` takes of what `alias_json` gave."""
    return {name: told[name] for name in _MEMBERS if name in told}


# -- a request --------------------------------------------------------------------------------------------------------


def with_defaults(
    request: GenerationRequest, model: str, defaults: Defaults, assumed: tuple[str, ...] = (), *, thinks: bool = True
) -> GenerationRequest:
    """The request for `model`, with what it does not say itself. `assumed`: options that a dialect has put in, not the
    client. `thinks` False leaves a wish to think out, which such a model would be an error."""
    told: dict[str, Json] = {"model": model}
    if defaults.options:
        given = request.options
        told["options"] = {
            **{name: given[name] for name in assumed if name in given},
            **defaults.options,
            **{name: value for name, value in given.items() if name not in assumed and value is not None},
        }
    if defaults.keep_alive is not None and request.body.get("keep_alive") is None:
        told["keep_alive"] = defaults.keep_alive
    if request.is_load_or_unload:
        return request.with_body(**told)
    if defaults.think is not None and request.body.get("think") is None and (thinks or not defaults.think):
        told["think"] = defaults.think
    if defaults.system:
        told |= _with_system(request, defaults.system)
    return request.with_body(**told)


def _with_system(request: GenerationRequest, system: str) -> dict[str, Json]:
    if request.endpoint == "generate":
        return {} if request.body.get("system") or request.body.get("raw") is True else {"system": system}
    messages = request.body.get("messages")
    rows = messages if isinstance(messages, list) else []
    if any(isinstance(row, dict) and row.get("role") == "system" for row in rows):
        return {}
    return {"messages": [{"role": "system", "content": system}, *rows]}
