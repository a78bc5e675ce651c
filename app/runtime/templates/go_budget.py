"""Steps and text sizes of one rendering, counted so that no template can run long or grow without end."""

from __future__ import annotations

import re

from app.runtime.templates.go_errors import MAX_STEPS, MAX_TEXT, GoTemplateLimit

_RAW_BYTE = re.compile("[\udc80-\udcff]")


def byte_length(text: str) -> int:
    """Length in UTF-8 bytes, as Go's len gives it (bytes that are not UTF-8 are surrogate escapes here)."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def canonical(text: str) -> str:
    """`text` with escaped bytes that together form a character joined to it, so that equal strings compare equal."""
    if text.isascii() or not _RAW_BYTE.search(text):
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def readable(text: str) -> str:
    """`text` for a reader: every byte that is not part of a character becomes U+FFFD."""
    return text if text.isascii() else _RAW_BYTE.sub("\ufffd", canonical(text))


class Budget:
    """The steps that are left. `GoTemplateLimit` when there are none."""

    __slots__ = ("left",)

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise GoTemplateLimit("the template does too much work: it was stopped")

    def text(self, text: str) -> str:
        """A string that was just made: its size is checked and paid for (a step for every 64 characters)."""
        if len(text) > MAX_TEXT:
            raise GoTemplateLimit(f"the template makes a text longer than {MAX_TEXT} bytes")
        self.spend(1 + (len(text) >> 6))
        return canonical(text)


class Sink:
    """Collects text up to `MAX_TEXT` bytes; each piece is paid for as it comes."""

    __slots__ = ("budget", "parts", "size")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.parts: list[str] = []
        self.size = 0

    def write(self, text: str) -> None:
        self.size += byte_length(text)
        if self.size > MAX_TEXT:
            raise GoTemplateLimit(f"the template makes a text longer than {MAX_TEXT} bytes")
        self.budget.spend(1 + (len(text) >> 6))
        self.parts.append(text)

    def text(self) -> str:
        return canonical("".join(self.parts))
