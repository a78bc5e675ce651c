"""The Modelfile in an answer of `/api/show`, read: what a model was made of, part by part.

Source: Model.String in server/images.go of Ollama 0.33 and the recordings show and show_derived. A value with a
newline, or with blanks at its ends, is quoted, with three quotes where it holds one; nothing is escaped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_COMMAND = re.compile(r"[A-Z]+")


@dataclass(frozen=True, slots=True)
class Modelfile:
    """`files` are the paths on the host after FROM: the model first, then projectors."""

    files: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    drafts: tuple[str, ...] = ()
    template: str = ""
    renderer: str = ""
    parser: str = ""
    licenses: tuple[str, ...] = ()


def read_modelfile(text: str) -> Modelfile:
    """Never fails: what is no command is passed over."""
    found: dict[str, list[str]] = {}
    at = 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        command, _, value = text[at:end].partition(" ")
        if _COMMAND.fullmatch(command):
            if value.startswith('"'):
                start = at + len(command) + 1
                value, end = _quoted(text, start, end)
            found.setdefault(command, []).append(value)
        at = end + 1

    def one(name: str) -> str:
        return found.get(name, [""])[0]

    return Modelfile(
        files=tuple(found.get("FROM", ())),
        adapters=tuple(found.get("ADAPTER", ())),
        drafts=tuple(found.get("DRAFT", ())),
        template=one("TEMPLATE"),
        renderer=one("RENDERER"),
        parser=one("PARSER"),
        licenses=tuple(found.get("LICENSE", ())),
    )


def _quoted(text: str, start: int, line_end: int) -> tuple[str, int]:
    """The quoted value that begins at `start`, and where the line it ends on ends. A quote without its other one is
    a part of the value."""
    mark = '"""' if text.startswith('"""', start) else '"'
    begin = start + len(mark)
    close = text.find(mark, begin)
    while close >= 0 and close + len(mark) < len(text) and text[close + len(mark)] != "\n":
        close = text.find(mark, close + 1)
    if close < 0:
        return text[start:line_end], line_end
    return text[begin:close], close + len(mark)
