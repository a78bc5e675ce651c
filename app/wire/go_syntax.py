"""Why a text is not JSON, in the words of Go's encoding/json. Called only after parsing has failed.

Source: the sentences of Go's scanner, as recorded for a cut-off body ("unexpected EOF") and as Go 1.26 prints them.
"""

from __future__ import annotations

import re

_SPACE = re.compile(r"[ \t\r\n]*+")
_SOUND = re.compile(r'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')  # inside a string
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_ESCAPES = dict(zip("\n\t\r\\\a\b\f\v", ("\\n", "\\t", "\\r", "\\\\", "\\a", "\\b", "\\f", "\\v"), strict=True))
_HEX = "0123456789abcdefABCDEF"


class _Broken(Exception):
    """Carries the sentence out of the nested readers."""


def explain(text: str) -> str:
    """The sentence for the first value in `text`; "unexpected EOF" where it is cut off."""
    try:
        _Scanner(text).scan()
    except _Broken as broken:
        return str(broken)
    return "unexpected EOF"


def _quoted(character: str) -> str:
    if character in ("'", '"'):
        return "'\\''" if character == "'" else "'\"'"
    if character in _ESCAPES:
        return f"'{_ESCAPES[character]}'"
    first = character.encode()[0]  # Go's scanner works on bytes and names the first one
    shown = chr(first)
    return f"'{shown}'" if shown.isprintable() else f"'\\x{first:02x}'" if first < 0x80 else f"'\\u{first:04x}'"


class _Scanner:
    """Walks one value without recursion; `stack` holds the open brackets."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.stack: list[str] = []

    def peek(self) -> str:
        if self.at >= len(self.text):
            raise _Broken("unexpected EOF")
        return self.text[self.at]

    def skip(self) -> str:
        self._pass(_SPACE)
        return self.peek()

    def _pass(self, run: re.Pattern[str]) -> None:
        """Over a run of characters at the speed of the pattern: a text may be one string of megabytes."""
        if (found := run.match(self.text, self.at)) is not None:
            self.at = found.end()

    def fail(self, where: str) -> None:
        raise _Broken(f"invalid character {_quoted(self.peek())} {where}")

    def scan(self) -> None:
        self.value()
        while self.stack:
            self.after_value()

    def value(self) -> None:
        mark = self.skip()
        if mark in "{[":
            self.at += 1
            self.stack.append(mark)
            if self.skip() == ("}" if mark == "{" else "]"):
                self.at += 1
                self.stack.pop()
            elif mark == "{":
                self.key()
            else:
                self.value_later()
        else:
            self.scalar(mark)

    def value_later(self) -> None:
        """An element of an array: scalars are read here, brackets push and return to the loop of `scan`."""
        while self.skip() in "{[":
            mark = self.peek()
            self.at += 1
            self.stack.append(mark)
            closing = "}" if mark == "{" else "]"
            if self.skip() == closing:
                self.at += 1
                self.stack.pop()
                return
            if mark == "{":
                self.key_name()
        self.scalar(self.peek())

    def key(self) -> None:
        self.key_name()
        self.value_later()

    def key_name(self) -> None:
        if self.skip() != '"':
            self.fail("looking for beginning of object key string")
        self.string()
        if self.skip() != ":":
            self.fail("after object key")
        self.at += 1

    def after_value(self) -> None:
        mark, inside = self.skip(), self.stack[-1]
        if mark == ("}" if inside == "{" else "]"):
            self.at += 1
            self.stack.pop()
        elif mark != ",":
            self.fail("after object key:value pair" if inside == "{" else "after array element")
        else:
            self.at += 1
            if inside == "{":
                self.key()
            else:
                self.value_later()

    def scalar(self, mark: str) -> None:
        if mark == '"':
            self.string()
        elif mark in "tfn":
            self.literal({"t": "true", "f": "false", "n": "null"}[mark])
        elif mark == "-" or mark.isascii() and mark.isdigit():
            self.number()
        else:
            self.fail("looking for beginning of value")

    def literal(self, word: str) -> None:
        for wanted in word:
            if self.peek() != wanted:
                self.fail(f"in literal {word} (expecting '{wanted}')")
            self.at += 1

    def string(self) -> None:
        self.at += 1
        self._pass(_SOUND)
        if (character := self.peek()) == "\\":
            self.at += 1
            self.escape()
        elif character != '"':
            self.fail("in string literal")
        self.at += 1

    def escape(self) -> None:
        if self.peek() not in '"\\/bfnrtu':
            self.fail("in string escape code")
        unicode = self.peek() == "u"
        self.at += 1
        for _ in range(4 if unicode else 0):
            if self.peek() not in _HEX:
                self.fail("in \\u hexadecimal character escape")
            self.at += 1

    def number(self) -> None:
        found = _NUMBER.match(self.text, self.at)
        if found is None:  # only a minus
            self.at += 1
            self.fail("in numeric literal")
            return
        self.at = found.end()
        rest = self.text[self.at : self.at + 1]
        if rest == "." and "." not in found.group():
            self.at += 1
            self.fail("after decimal point in numeric literal")
        elif rest in ("e", "E") and "e" not in found.group().lower():
            self.at += 1
            if self.peek() in "+-":
                self.at += 1
            self.fail("in exponent of numeric literal")
