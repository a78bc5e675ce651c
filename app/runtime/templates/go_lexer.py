"""Tokens of a Go template: text outside {{ and }}, and what stands inside an action.

Behaviour and the sentences of errors follow Go 1.26's text/template/parse; positions are indexes of characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from app.runtime.templates.go_budget import byte_length
from app.runtime.templates.go_strconv import describe_character, quote


class Kind(Enum):
    """What a token is. From BLOCK on they are keywords."""

    ERROR = auto()
    BOOL = auto()
    CHAR = auto()
    CHAR_CONSTANT = auto()
    COMPLEX = auto()
    ASSIGN = auto()
    DECLARE = auto()
    EOF = auto()
    FIELD = auto()
    IDENTIFIER = auto()
    LEFT_DELIM = auto()
    LEFT_PAREN = auto()
    NUMBER = auto()
    PIPE = auto()
    RAW_STRING = auto()
    RIGHT_DELIM = auto()
    RIGHT_PAREN = auto()
    SPACE = auto()
    STRING = auto()
    TEXT = auto()
    VARIABLE = auto()
    BLOCK = auto()
    BREAK = auto()
    CONTINUE = auto()
    DOT = auto()
    DEFINE = auto()
    ELSE = auto()
    END = auto()
    IF = auto()
    NIL = auto()
    RANGE = auto()
    TEMPLATE = auto()
    WITH = auto()


_KEYWORDS = {
    kind.name.lower(): kind
    for kind in (Kind.BLOCK, Kind.BREAK, Kind.CONTINUE, Kind.DEFINE, Kind.ELSE, Kind.END, Kind.IF, Kind.NIL)
    + (Kind.RANGE, Kind.TEMPLATE, Kind.WITH)
}
_SINGLE = {"=": Kind.ASSIGN, "|": Kind.PIPE, "(": Kind.LEFT_PAREN, ")": Kind.RIGHT_PAREN}
_BLANKS = " \t\r\n"
_SPACES = re.compile("[ \t\r\n]+")
_QUOTED = {
    '"': (re.compile(r'"(?:\\[^\n]|[^"\\\n])*"'), Kind.STRING, "unterminated quoted string"),
    "`": (re.compile("`[^`]*`"), Kind.RAW_STRING, "unterminated raw quoted string"),
    "'": (re.compile(r"'(?:\\[^\n]|[^'\\\n])*'"), Kind.CHAR_CONSTANT, "unterminated character constant"),
}
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    pos: int  # index of its first character
    text: str
    line: int  # from 1

    def __str__(self) -> str:
        """As Go names it in an error."""
        if self.kind is Kind.EOF:
            return "EOF"
        if self.kind is Kind.ERROR:
            return self.text
        if self.kind.value >= Kind.BLOCK.value:
            return f"<{self.text}>"
        return f"{quote(self.text[:10])}..." if byte_length(self.text) > 10 else quote(self.text)


def is_alphanumeric(character: str) -> bool:
    return character == "_" or character.isalpha() or character.isdecimal()


class Lexer:
    """Gives tokens one at a time; after an ERROR token nothing more should be asked of it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = self.start = 0
        self.line = 1
        self.line_at = 0  # `line` counts the newlines before this index
        self.depth = 0  # open parentheses of the current action
        self.inside = False

    def next(self) -> Token:
        """The next token; EOF again and again at the end."""
        return self._in_action() if self.inside else self._in_text()

    def _token(self, kind: Kind, text: str | None = None) -> Token:
        self.line += self.text.count("\n", self.line_at, self.start)
        self.line_at = self.start
        token = Token(kind, self.start, self.text[self.start : self.pos] if text is None else text, self.line)
        self.start = self.pos
        return token

    def _error(self, message: str) -> Token:
        return self._token(Kind.ERROR, message)

    def _skip_to(self, pos: int) -> None:
        self.start = self.pos = pos

    def _after_blanks(self, pos: int) -> int:
        found = _SPACES.match(self.text, pos)
        return found.end() if found else pos

    def _blank_at(self, pos: int) -> bool:
        return pos < len(self.text) and self.text[pos] in _BLANKS

    # outside of actions

    def _in_text(self) -> Token:
        while True:
            opening = self.text.find("{{", self.pos)
            if opening < 0:
                self.pos = len(self.text)
                return self._token(Kind.TEXT if self.pos > self.start else Kind.EOF)
            trims = self.text.startswith("-", opening + 2) and self._blank_at(opening + 3)
            plain = self.text[self.start : opening]
            plain = plain.rstrip(_BLANKS) if trims else plain
            if plain:
                self.pos = self.start + len(plain)
                token = self._token(Kind.TEXT)
                self._skip_to(opening)
                return token
            self._skip_to(opening)
            inner = opening + (4 if trims else 2)
            if not self.text.startswith("/*", inner):
                self.pos = opening + 2
                token = self._token(Kind.LEFT_DELIM)
                self._skip_to(inner)
                self.inside, self.depth = True, 0
                return token
            problem = self._skip_comment(inner)
            if problem:
                return self._error(problem)

    def _skip_comment(self, start: int) -> str:
        """Moves behind the comment that starts at `start`; the sentence of an error, or nothing."""
        self._skip_to(start)
        closing = self.text.find("*/", start + 2)
        if closing < 0:
            return "unclosed comment"
        width, trims = self._right_delim(closing + 2)
        if not width:
            return "comment ends before closing delimiter"
        end = closing + 2 + width
        self._skip_to(self._after_blanks(end) if trims else end)
        return ""

    def _right_delim(self, pos: int) -> tuple[int, bool]:
        """(length, whether it trims) of the closing delimiter at `pos`; length 0 where there is none."""
        if self._blank_at(pos) and self.text.startswith("-}}", pos + 1):
            return 4, True
        return (2, False) if self.text.startswith("}}", pos) else (0, False)

    # inside of actions

    def _in_action(self) -> Token:
        width, trims = self._right_delim(self.pos)
        if width:
            return self._close(width, trims) if self.depth == 0 else self._error("unclosed left paren")
        if self.pos >= len(self.text):
            return self._error("unclosed action")
        mark = self.text[self.pos]
        if mark in _BLANKS:
            return self._blanks()
        if mark in _SINGLE:
            return self._single(mark)
        if mark in _QUOTED:
            return self._quoted(mark)
        if mark == ":":
            return self._declare()
        if mark == "$" or mark == "." and not self._digit_or_end(self.pos + 1):
            return self._name(Kind.VARIABLE if mark == "$" else Kind.FIELD)
        if mark in "+-." or mark.isascii() and mark.isdigit():
            return self._number()
        if is_alphanumeric(mark):
            return self._identifier()
        self.pos += 1
        if " " < mark < "\x7f":
            return self._token(Kind.CHAR)
        return self._error(f"unrecognized character in action: {describe_character(mark)}")

    def _digit_or_end(self, pos: int) -> bool:
        return pos >= len(self.text) or "0" <= self.text[pos] <= "9"

    def _close(self, width: int, trims: bool) -> Token:
        self._skip_to(self.pos + width - 2)
        self.pos += 2
        token = self._token(Kind.RIGHT_DELIM)
        if trims:
            self._skip_to(self._after_blanks(self.pos))
        self.inside = False
        return token

    def _blanks(self) -> Token:
        self.pos = self._after_blanks(self.pos)
        if self.text.startswith("-}}", self.pos):
            self.pos -= 1  # the last blank belongs to the delimiter
        return self._token(Kind.SPACE)

    def _single(self, mark: str) -> Token:
        self.depth += {"(": 1, ")": -1}.get(mark, 0)
        self.pos += 1
        return self._error("unexpected right paren") if self.depth < 0 else self._token(_SINGLE[mark])

    def _declare(self) -> Token:
        if not self.text.startswith(":=", self.pos):
            return self._error("expected :=")
        self.pos += 2
        return self._token(Kind.DECLARE)

    def _quoted(self, mark: str) -> Token:
        pattern, kind, problem = _QUOTED[mark]
        found = pattern.match(self.text, self.pos)
        if found is None:
            return self._error(problem)
        self.pos = found.end()
        return self._token(kind)

    def _run(self, pos: int) -> int:
        while pos < len(self.text) and is_alphanumeric(self.text[pos]):
            pos += 1
        return pos

    def _at_terminator(self, pos: int) -> bool:
        return pos >= len(self.text) or self.text[pos] in " \t\r\n.,|:)(" or self.text.startswith("}}", pos)

    def _name(self, kind: Kind) -> Token:
        """A field or a variable; a lone dot or dollar sign too."""
        end = self._run(self.pos + 1)
        alone = end == self.pos + 1
        if not self._at_terminator(end):
            return self._error(f"bad character {describe_character(self.text[end])}")
        self.pos = end
        return self._token(Kind.DOT if alone and kind is Kind.FIELD else kind)

    def _identifier(self) -> Token:
        end = self._run(self.pos)
        if not self._at_terminator(end):
            return self._error(f"bad character {describe_character(self.text[end])}")
        self.pos = end
        word = self.text[self.start : end]
        if word in ("true", "false"):
            return self._token(Kind.BOOL)
        return self._token(_KEYWORDS.get(word, Kind.IDENTIFIER))

    def _scan_number(self) -> bool:
        found = _NUMBER.match(self.text, self.pos)
        self.pos = found.end() if found else self.pos
        if self.pos < len(self.text) and is_alphanumeric(self.text[self.pos]):
            self.pos += 1
            return False
        return True

    def _number(self) -> Token:
        kind = Kind.NUMBER
        good = self._scan_number()
        if good and self.text[self.pos : self.pos + 1] in ("+", "-"):
            kind = Kind.COMPLEX
            good = self._scan_number() and self.text[self.pos - 1] == "i"
        return (
            self._token(kind) if good else self._error(f"bad number syntax: {quote(self.text[self.start : self.pos])}")
        )
