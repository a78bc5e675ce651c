"""Cuts Markdown into blocks that never change again once a further block has begun. Pure.

The transcript draws a finished block once and redraws only the open last one, so a long answer costs the wire
what it is long, not its square. Code fences become blocks of their own: they are shown by a code element that does
not parse, so that a model's code can be copied byte for byte.

The law (a property test holds it): for every prefix of a text, all its blocks but the last are the first blocks of
the whole text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")  # str.splitlines would also cut at U+2028 and its like
_LEADING_BLANK = re.compile(r"\A(?:[ \t]*\r?\n)+")
_TRAILING_BLANK = re.compile(r"\n[ \t\r]*\n\Z")
_FENCE = re.compile(r"^(?P<indent> {0,3})(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})(?P<info>[^\n]*)$")
_LIST_ITEM = re.compile(r"^(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)")
_MAYBE_LIST_ITEM = re.compile(r"^(?:[-*+]|\d{1,9}[.)]?)$")


@dataclass(frozen=True, slots=True)
class Block:
    """`text` is Markdown, or the code itself where `is_code`. `source` is the exact input it was cut from."""

    text: str
    source: str
    is_code: bool = False
    language: str = ""


class BlockReader:
    """Takes a text in pieces of any size. `done` only grows; `tail` is the open block, None where nothing is open."""

    def __init__(self) -> None:
        self.done: list[Block] = []
        self._open = ""

    def feed(self, piece: str) -> None:
        self._open += piece
        blocks = split(self._open)
        self.done += blocks[:-1]
        self._open = blocks[-1].source if blocks else self._open

    @property
    def tail(self) -> Block | None:
        blocks = split(self._open)
        return blocks[-1] if blocks else None

    @property
    def blocks(self) -> tuple[Block, ...]:
        return (*self.done, *((self.tail,) if self.tail else ()))


def split(text: str) -> tuple[Block, ...]:
    """All blocks of a text; the last one may still be open. Blank text has none."""
    sources: list[str] = []
    current = ""
    for line in _LINE.findall(text):
        if current.strip() and _begins_block(current, line):
            sources.append(current)
            current = ""
        current += line
    if current.strip():
        sources.append(current)
    elif current and sources:
        sources[-1] += current
    return tuple(_block(source) for source in sources)


def merged(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """The same blocks with neighbouring Markdown joined: fewer elements for answers that no longer grow."""
    out: list[Block] = []
    for block in blocks:
        if out and not block.is_code and not out[-1].is_code:
            out[-1] = Block(out[-1].source + block.source, out[-1].source + block.source)
        else:
            out.append(block)
    return tuple(out)


def finished(text: str) -> tuple[Block, ...]:
    """The blocks of a text that is complete."""
    return split(text if text.endswith("\n") else text + "\n")


def _begins_block(current: str, line: str) -> bool:
    """True only if no further text can change that `line` begins a block of its own."""
    complete = line.endswith("\n")
    fence = _open_fence(current)
    if fence is not None:
        return _fence_closed(current, fence)
    if complete and _FENCE.match(line.rstrip("\r\n")):
        return True
    if not _TRAILING_BLANK.search(current) or not line.strip() or line[0] in " \t":
        return False
    if not _is_list(current):
        return True
    bare = line.rstrip("\r\n")
    return not (_LIST_ITEM.match(bare) or (not complete and _MAYBE_LIST_ITEM.match(bare)))


def _is_list(current: str) -> bool:
    return _LIST_ITEM.match(_body(current).lstrip(" ").split("\n", 1)[0].rstrip("\r")) is not None


def _body(source: str) -> str:
    return _LEADING_BLANK.sub("", source)


def _open_fence(current: str) -> re.Match[str] | None:
    first, newline, _ = _body(current).partition("\n")
    return _FENCE.match(first.rstrip("\r")) if newline else None


def _is_closing(line: str, fence: str) -> bool:
    bare = line.rstrip()
    body = bare.lstrip(" ")
    return len(bare) - len(body) <= 3 and len(body) >= len(fence) and set(body) == {fence[0]}


def _fence_closed(current: str, fence: re.Match[str]) -> bool:
    lines = _body(current).split("\n")
    return any(_is_closing(line, fence["fence"]) for line in lines[1:-1])


def _block(source: str) -> Block:
    fence = _open_fence(source)
    if fence is None:
        return Block(_without_open_fence(source), source)
    lines = _body(source).rstrip("\n").split("\n")[1:]
    indent = len(fence["indent"])
    code: list[str] = []
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        if _is_closing(line, fence["fence"]) or (last and _may_close(line, fence["fence"])):
            break
        code.append(line[min(indent, len(line) - len(line.lstrip(" "))) :].rstrip("\r"))
    language = fence["info"].strip().split(" ")[0].strip("{}.").lower()
    return Block("\n".join(code), source, is_code=True, language=language)


def _may_close(line: str, fence: str) -> bool:
    """An unfinished last line that looks like the beginning of the closing fence is not shown as code."""
    body = line.strip(" ")
    return bool(body) and set(body) == {fence[0]} and len(line) - len(line.lstrip(" ")) <= 3


def _without_open_fence(source: str) -> str:
    """Hide an unfinished last line that is about to become a fence, so that it does not flash as text."""
    head, _, last = source.rpartition("\n")
    return head if re.match(r"^ {0,3}(?:`{1,2}$|`{3}|~{3})", last) else source
