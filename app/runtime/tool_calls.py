"""Finding tool calls in the text of a model whose Go template shows how it writes them.

Source: protocol 2.4 and the behaviour of Ollama 0.33's package tools: behind the mark that the template puts before
a call, the first name of a known tool and the first JSON object make a call; what is not a call behind a mark of
the template's own is dropped, behind a bare brace or bracket it is text. Every character is looked at once, however
long the answer, and text that only looked like the beginning of a mark comes out at the end.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Sequence
from enum import Enum, auto

from app.core.generation import Json
from app.runtime.thinking import BLANKS, overlap

_ID_LETTERS = string.ascii_lowercase + string.digits
_UP_TO_CLOSING = re.compile(r"[^}\]]*[}\]]|[^}\]]+")
_BARE = {"{": "}", "[": "]"}  # marks that JSON begins with anyway, and what closes them


class _At(Enum):
    TEXT = auto()  # the mark has not come
    CALLS = auto()  # behind the mark
    OVER = auto()  # nothing of the rest can be a call


def new_call_id() -> str:
    """Ollama's form: call_ and eight letters or digits."""
    return "call_" + "".join(secrets.choice(_ID_LETTERS) for _ in range(8))


def tool_names(tools: Json) -> tuple[str, ...]:
    """The names of a request's tools, in its order."""
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return tuple(str(function.get("name") or "") for function in functions if isinstance(function, dict))


class ToolCallParser:
    """Parses one answer. `mark` is what the template puts before a call ("{" where it shows nothing of its own)."""

    def __init__(self, mark: str, names: Sequence[str]) -> None:
        self._mark, self._names = mark, [name for name in names if name]
        self._at = _At.TEXT
        self._held = ""
        self._found = 0
        self._objects, self._tools = _ObjectScanner(), _NameFinder(self._names)
        self._balance = _Balance(mark, _BARE[mark]) if mark in _BARE else None

    def feed(self, text: str) -> tuple[list[Json], str]:
        """(whole calls, text that belongs to none) that are certain now."""
        calls: list[Json] = []
        said: list[str] = []
        for piece in _UP_TO_CLOSING.findall(text):  # so that it does not matter in which pieces a text comes
            found, left = self._feed(piece)
            calls += found
            said.append(left)
        return calls, "".join(said)

    def _feed(self, text: str) -> tuple[list[Json], str]:
        if self._at is _At.OVER:
            return [], text
        self._held += text
        said = self._before_mark() if self._at is _At.TEXT else ""
        if self._at is not _At.CALLS:
            return [], said
        calls: list[Json] = []
        while (call := self._next_call()) is not None:
            calls.append(call)
        if self._balance is not None and not self._found and self._balance.closed(self._held):
            self._at = _At.OVER
            return calls, said + self._take()
        return calls, said

    def rest(self) -> str:
        """What was held back and is no call, once nothing more will come."""
        if self._at is _At.TEXT or (self._balance is not None and not self._found):
            return self._take()
        return ""

    def _take(self) -> str:
        taken, self._held = self._held, ""
        return taken

    def _before_mark(self) -> str:
        at = self._held.find(self._mark)
        found = at >= 0
        if not found:
            at = len(self._held) - overlap(self._held, self._mark)
        said = self._held[:at]
        if self._balance is not None and said.strip(BLANKS):
            self._at = _At.OVER  # JSON counts as a call only at the very beginning
            return self._take()
        self._held = self._held[at:]
        if found:
            self._at = _At.CALLS
        return said

    def _next_call(self) -> Json:
        found, named = self._objects.first(self._held), self._tools.first(self._held)
        if found is None or named is None:
            return None
        (value, last), (name, end) = found, named
        arguments = arguments_of(name, value)
        if arguments is None:
            return None
        self._held = self._held[max(end, last) :]
        self._objects, self._tools = _ObjectScanner(), _NameFinder(self._names)
        self._found += 1
        return {"id": new_call_id(), "function": {"index": self._found - 1, "name": name, "arguments": arguments}}


class _NameFinder:
    """Finds the tool whose name comes first in a text that grows (of two at one place, the longer)."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._read = names, 0
        self._known: tuple[str, int] | None = None

    def first(self, text: str) -> tuple[str, int] | None:
        """(the name, where it ends), or None as long as there is none or the text ends with what may become one."""
        if self._known is not None:
            return self._known
        places = [(at, -len(name), name) for name in self._names if (at := self._find(name, text)) >= 0]
        if not any(overlap(text, name[:-1]) for name in self._names):
            self._read = len(text)
            if places:
                at, _, name = min(places)
                self._known = (name, at + len(name))
        return self._known

    def _find(self, name: str, text: str) -> int:
        return text.find(name, max(self._read - len(name) + 1, 0))


class _ObjectScanner:
    """Finds the first JSON object of a text that grows, reading on where it stopped."""

    def __init__(self) -> None:
        self._read = self._depth = 0
        self._start = -1
        self._quoted = self._escaped = False
        self._known: tuple[dict[str, Json], int] | None = None

    def first(self, text: str) -> tuple[dict[str, Json], int] | None:
        """(the object, where its last brace stands), or None as long as there is none."""
        while self._known is None and self._read < len(text):
            at = self._read
            self._read += 1
            if not self._in_string(text[at]):
                self._brace(text, at)
        return self._known

    def _in_string(self, character: str) -> bool:
        """Whether `character` is none that can open or close an object."""
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._quoted = not self._quoted
        else:
            return self._quoted
        return True

    def _brace(self, text: str, at: int) -> None:
        if text[at] == "{":
            self._start = at if self._depth == 0 else self._start
            self._depth += 1
        elif text[at] == "}":
            self._depth = max(self._depth - 1, 0)
            if self._depth == 0 and self._start >= 0:
                value = _object(text[self._start : at + 1])
                self._known = (value, at) if value is not None else None
                self._start = -1


class _Balance:
    """Whether what a bare mark opened has been closed again, in a text that grows."""

    def __init__(self, opening: str, closing: str) -> None:
        self._opening, self._closing = opening, closing
        self._read = self._depth = 0
        self._quoted = self._escaped = self._done = False

    def closed(self, text: str) -> bool:
        while not self._done and self._read < len(text):
            character = text[self._read]
            self._read += 1
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._quoted = not self._quoted
            elif not self._quoted and character in (self._opening, self._closing):
                self._depth += 1 if character == self._opening else -1
                self._done = character == self._closing and self._depth == 0
        return self._done


def _object(text: str) -> dict[str, Json] | None:
    """Not by `go_json`, which explains what is wrong: a model can write nonsense faster than that."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> Json:
    raise ValueError(constant)  # NaN and the infinities are no JSON


def arguments_of(name: str, value: dict[str, Json]) -> dict[str, Json] | None:
    """The arguments of a call of `name` inside `value`: beside a "name", under the tool's own name, at any depth; or
    else `value` itself. None where a "name" has no object of arguments beside it: Ollama takes that for no call."""
    found, arguments = _search(name, value)
    return arguments if found else value


def _search(name: str, value: dict[str, Json]) -> tuple[bool, dict[str, Json] | None]:
    """(whether the search ends here, the arguments)."""
    if "name" in value:
        for key in ("arguments", "parameters"):
            if (arguments := _as_object(value.get(key))) is not None:
                return True, arguments
        return True, None
    if (arguments := _as_object(value.get(name))) is not None:
        return True, arguments
    for child in value.values():
        for candidate in child if isinstance(child, list) else [child]:
            if isinstance(candidate, dict):
                found, arguments = _search(name, candidate)
                if found:
                    return True, arguments
    return False, None


def _as_object(value: Json) -> dict[str, Json] | None:
    """An object, also one written as JSON text."""
    if isinstance(value, str):
        return _object(value)
    return value if isinstance(value, dict) else None
