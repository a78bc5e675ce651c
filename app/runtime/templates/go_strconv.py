"""Go's literals: quoting, unquoting and numbers, as package strconv and the template parser read them.

Strings are Python strings in which a byte that is not UTF-8 stands as a surrogate escape (PEP 383).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from app.runtime.templates.go_budget import canonical
from app.runtime.templates.go_errors import GoTemplateUnsupported

_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92}
_NAMED = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 92: "\\\\"}
_HEX_WIDTH = {"x": 2, "u": 4, "U": 8}
_HEX = re.compile("[0-9a-fA-F]+")

_INTEGERS = tuple(
    (re.compile(pattern), base)
    for pattern, base in (
        ("0[xX]((?:_?[0-9a-fA-F])+)", 16),
        ("0[bB]((?:_?[01])+)", 2),
        ("0[oO]((?:_?[0-7])+)", 8),
        ("(0(?:_?[0-7])*)", 8),
        ("([1-9](?:_?[0-9])*)", 10),
    )
)
_D, _H = "[0-9](?:_?[0-9])*", "[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_DECIMAL = re.compile(rf"[+-]?(?:{_D}(?:\.(?:{_D})?)?|\.{_D})(?:[eE][+-]?{_D})?")
_HEXADECIMAL = re.compile(rf"[+-]?0[xX](?:_?{_H}(?:\.(?:{_H})?)?|\.{_H})[pP][+-]?{_D}")


class LiteralError(ValueError):
    """A literal that Go refuses; the text is Go's sentence."""


def is_print(character: str) -> bool:
    """Go's unicode.IsPrint: letters, marks, numbers, punctuation, symbols and the ASCII space."""
    return character.isprintable()


def quote(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    """`text` as a Go literal in `mark` quotes (strconv.Quote; QuoteToASCII with `ascii_only`)."""
    return mark + "".join(_quoted(character, mark, ascii_only) for character in text) + mark


def _quoted(character: str, mark: str, ascii_only: bool) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if character == mark:
        return "\\" + mark
    if code in _NAMED:
        return _NAMED[code]
    if (code < 0x7F or not ascii_only) and is_print(character):
        return character
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote_char(text: str, mark: str) -> tuple[int, bool, str]:
    """(value, whether it is a character rather than one byte, the rest) of the first, maybe escaped, character.

    Raises `LiteralError`.
    """
    if not text or text[0] == mark:
        raise LiteralError("invalid syntax")
    if text[0] != "\\":
        return ord(text[0]), True, text[1:]
    letter, rest = text[1:2], text[2:]
    if letter in _SIMPLE:
        return _SIMPLE[letter], False, rest
    if letter in _HEX_WIDTH:
        return _unquote_hex(letter, rest)
    if letter and letter in "01234567" and len(rest) >= 2 and all(digit in "01234567" for digit in rest[:2]):
        value = int(letter + rest[:2], 8)
        if value <= 255:
            return value, False, rest[2:]
    elif letter and letter in "'\"" and letter == mark:
        return ord(letter), False, rest
    raise LiteralError("invalid syntax")


def _unquote_hex(letter: str, rest: str) -> tuple[int, bool, str]:
    digits = rest[: _HEX_WIDTH[letter]]
    if len(digits) < _HEX_WIDTH[letter] or not _HEX.fullmatch(digits):
        raise LiteralError("invalid syntax")
    value = int(digits, 16)
    if letter != "x" and (value > 0x10FFFF or 0xD800 <= value < 0xE000):
        raise LiteralError("invalid syntax")
    return value, letter != "x", rest[len(digits) :]


def unquote(literal: str) -> str:
    """The value of a `"…"` or back-quoted literal. Raises `LiteralError`."""
    inner = literal[1:-1]
    if literal[0] == "`":
        return inner.replace("\r", "")
    if "\\" not in inner:
        return inner
    parts: list[str] = []
    while inner:
        plain = inner.find("\\")
        if plain:
            parts.append(inner[:plain] if plain > 0 else inner)
            inner = inner[plain:] if plain > 0 else ""
            continue
        value, whole, inner = unquote_char(inner, literal[0])
        parts.append(chr(value) if whole or value < 0x80 else chr(0xDC00 + value))
    return canonical("".join(parts))


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric constant: the integer it can stand for (with one beyond int64 in `unsigned`) and its float."""

    integer: int | None
    unsigned: int | None
    real: float | None


def parse_number(text: str) -> Number:
    """A number as the template parser reads it. Raises `LiteralError`, and `GoTemplateUnsupported` for complex ones."""
    if text.endswith("i") and _real(text[:-1]) is not None:
        raise GoTemplateUnsupported(f"the complex number {text}")
    sign, digits = (text[0], text[1:]) if text[0] in "+-" else ("", text)
    whole = _integer(digits)
    unsigned = whole if whole is not None and whole < 1 << 64 and not sign else None
    integer = None
    if whole is not None:
        signed = -whole if sign == "-" else whole
        integer = signed if -(1 << 63) <= signed < 1 << 63 else None
    if integer is not None or unsigned is not None:
        return Number(integer, unsigned, float(integer if integer is not None else unsigned or 0))
    real = _real(text)
    if real is None:
        raise LiteralError(f"illegal number syntax: {quote(text)}")
    if not any(mark in text for mark in ".eEpP"):
        raise LiteralError(f"integer overflow: {quote(text)}")
    return Number(int(real) if real.is_integer() and abs(real) < 2**63 else None, None, real)


def _integer(digits: str) -> int | None:
    for pattern, base in _INTEGERS:
        found = pattern.fullmatch(digits)
        if found:
            clean = found.group(1).replace("_", "")
            return int(clean, base) if len(clean) <= 80 else 1 << 64
    return None


def _real(text: str) -> float | None:
    clean = text.replace("_", "")
    try:
        value = float.fromhex(clean) if _HEXADECIMAL.fullmatch(text) else None
        value = float(clean) if value is None and _DECIMAL.fullmatch(text) else value
    except OverflowError:
        return None
    return value if value is not None and math.isfinite(value) else None


def parse_character(literal: str) -> Number:
    """A character constant such as 'a' or '\\n', as its code. Raises `LiteralError`."""
    value, _, rest = unquote_char(literal[1:], "'")
    if rest != "'":
        raise LiteralError(f"malformed character constant: {literal}")
    return Number(value, value, float(value))


def describe_character(character: str) -> str:
    """U+0041 'A', as Go's %#U."""
    shown = f" '{character}'" if is_print(character) else ""
    return f"U+{ord(character):04X}{shown}"
