"""Telling a model's thinking from its answer, in the text of a stream.

Source: protocol 2.4 and the behaviour of Ollama 0.33's package thinking: the opening mark counts only as the first
thing that is said, blanks around the marks belong to neither side. What is held back until a mark is certain comes
out at the end, so that no text is lost.
"""

from __future__ import annotations

from enum import Enum, auto

# What Go's unicode.IsSpace knows; Python's own strip takes four control characters more.
BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


class _At(Enum):
    START = auto()  # nothing but blanks so far
    OPENED = auto()  # behind the opening mark, nothing but blanks since
    THINKING = auto()
    CLOSED = auto()  # behind the closing mark, nothing but blanks since
    ANSWER = auto()


class ThinkingSplitter:
    """Splits one answer. `opened` says that the prompt ended with the opening mark."""

    def __init__(self, opening: str, closing: str, *, opened: bool = False) -> None:
        self._opening, self._closing = opening, closing
        self._at = _At.OPENED if opened else _At.START
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """(thinking, answer) that is certain now."""
        self._held += text
        if self._at is _At.START and not self._started():
            return "", ""
        thinking = self._thought() if self._at in (_At.OPENED, _At.THINKING) else ""
        return thinking, self._answered() if self._at in (_At.CLOSED, _At.ANSWER) else ""

    def rest(self) -> tuple[str, str]:
        """What was held back, once nothing more will come."""
        held, self._held = self._held, ""
        if self._at in (_At.OPENED, _At.CLOSED):
            return "", ""
        return (held, "") if self._at is _At.THINKING else ("", held)

    def _started(self) -> bool:
        """Whether it is decided that the answer begins with thinking, or without."""
        said = self._held.lstrip(BLANKS)
        if said.startswith(self._opening):
            self._at, self._held = _At.OPENED, said[len(self._opening) :]
            return True
        if self._opening.startswith(said):
            return False
        self._at = _At.ANSWER
        return True

    def _thought(self) -> str:
        if self._at is _At.OPENED:
            self._held = self._held.lstrip(BLANKS)
            if not self._held:
                return ""
            self._at = _At.THINKING
        thinking, closed, after = self._held.partition(self._closing)
        if closed:
            self._at, self._held = _At.CLOSED, after
            return thinking
        keep = overlap(self._held, self._closing)
        thinking, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return thinking

    def _answered(self) -> str:
        said, self._held = self._held, ""
        if self._at is _At.CLOSED:
            said = said.lstrip(BLANKS)
            if said:
                self._at = _At.ANSWER
        return said


def overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` could be the beginning of `mark`."""
    for size in range(min(len(text), len(mark)), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
