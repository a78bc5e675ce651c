"""JSON as Go's encoding/json writes and reads it, so that our bytes equal Ollama's.

Writing: compact, `<`, `>` and `&` as \\u003c, \\u003e, \\u0026, U+2028 and U+2029 escaped, numbers in Go's form (no
".0", exponents without padding), key order kept. One deliberate difference: U+0085 is escaped too, because the
official Python client splits its lines there. Reading: one value, numbers bounded, nesting bounded, lone
surrogates become U+FFFD; an error carries Go's own sentence.
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import cast

from app.core.generation import Json
from app.wire.go_syntax import explain

MAX_DEPTH = 256  # Go stops at 10,000; nothing that people send comes near this, and our own recursion stays safe
MAX_MARKS = 300_000  # commas and brackets outside strings; the longest `context` of tokens has some 130,000

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029", "\x85": "\\u0085"}
_ESCAPED = re.compile("[<>&\u2028\u2029\x85]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Up to the next comma or bracket outside a string, without ever going back.
_MARK = re.compile(r'(?:[^",\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?+)*+([,\[\]{}])', re.DOTALL)
_quote = json.encoder.encode_basestring


class JsonError(ValueError):
    """Text that is not the JSON it should be. `message` is what Go would say; `empty` marks a body without a value."""

    def __init__(self, message: str, *, empty: bool = False) -> None:
        super().__init__(message)
        self.message, self.empty = message, empty


def quote(text: str) -> str:
    """A JSON string literal as Go writes it."""
    quoted = _quote(text)
    if _ESCAPED.search(quoted):
        quoted = _ESCAPED.sub(lambda found: _ESCAPES[found.group()], quoted)
    return _SURROGATE.sub("\ufffd", quoted) if _SURROGATE.search(quoted) else quoted


def number(value: float) -> str:
    """A float64 as Go writes it: plain digits from 1e-6 up to 1e21, else an exponent without padding.

    Raises `JsonError` for NaN and infinities, which JSON cannot carry.
    """
    if not math.isfinite(value):
        raise JsonError(f"json: unsupported value: {'NaN' if math.isnan(value) else '+Inf' if value > 0 else '-Inf'}")
    if value == 0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    magnitude = abs(value)
    if magnitude < 1e-6 or magnitude >= 1e21:
        mantissa, exponent = format_shortest(value)
        return f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent)}"
    if value.is_integer():
        return str(int(value)) if magnitude < 2**53 else _long_integer(value)
    text = repr(value)
    if "e" in text:  # 1e-06 … 9.9e-05: Python uses an exponent where Go does not
        mantissa, exponent = format_shortest(value)
        sign, digits = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
        return f"{sign}0.{'0' * (-exponent - 1)}{digits.replace('.', '')}"
    return text


def format_shortest(value: float) -> tuple[str, int]:
    """(mantissa text, exponent) of the shortest decimal that reads back as `value`, e.g. 1.5e-7 -> ("1.5", -7)."""
    text = repr(value)
    if "e" in text:
        mantissa, exponent = text.split("e")
        return mantissa.removesuffix(".0"), int(exponent)
    digits = text.lstrip("-").removesuffix(".0")
    sign = "-" if text.startswith("-") else ""
    mantissa = digits[0] + (f".{digits[1:].rstrip('0')}" if digits[1:].rstrip("0") else "")
    return sign + mantissa, len(digits) - 1


def _long_integer(value: float) -> str:
    mantissa, exponent = format_shortest(value)
    sign, digits = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
    return sign + digits.replace(".", "").ljust(exponent + 1, "0")


def shortest_float32(value: float) -> float:
    """The float64 with the fewest digits that is the same float32: GGUF's 1e-05f is then written as Go writes it."""
    if not math.isfinite(value) or value == 0:
        return value
    (single,) = struct.unpack("<f", struct.pack("<f", value))
    for digits in range(1, 10):
        candidate = float(f"{single:.{digits}g}")
        if struct.unpack("<f", struct.pack("<f", candidate))[0] == single:
            return candidate
    return float(single)


def dumps(value: Json) -> bytes:
    """`value` as compact JSON in UTF-8. Raises `JsonError` for what JSON cannot carry."""
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts).encode()


def _write(value: Json, parts: list[str]) -> None:
    kind = type(value)
    if kind is str:
        parts.append(quote(cast(str, value)))
    elif kind is bool:
        parts.append("true" if value else "false")
    elif kind is int:
        parts.append(str(value))
    elif value is None:
        parts.append("null")
    elif isinstance(value, float):
        parts.append(number(value))
    elif isinstance(value, dict):
        _write_object(value, parts)
    elif isinstance(value, list | tuple):
        _write_array(value, parts)
    elif isinstance(value, str):
        parts.append(quote(str(value)))
    elif isinstance(value, int):
        parts.append(str(int(value)))
    else:
        raise JsonError(f"json: unsupported type: {kind.__name__}")


def _write_object(value: dict[str, Json], parts: list[str]) -> None:
    opening = "{"
    for key, member in value.items():
        parts.append(f"{opening}{quote(key)}:")
        _write(member, parts)
        opening = ","
    parts.append("{}" if opening == "{" else "}")


def _write_array(value: list[Json] | tuple[Json, ...], parts: list[str]) -> None:
    opening = "["
    for member in value:
        parts.append(opening)
        _write(member, parts)
        opening = ","
    parts.append("[]" if opening == "[" else "]")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= 20 else _real(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise JsonError(f"json: cannot unmarshal number {digits[:64]} into Go value of type float64")
    return value


def _constant(name: str) -> float:
    raise json.JSONDecodeError("not JSON", name, 0)


_decoder = json.JSONDecoder(parse_int=_integer, parse_float=_real, parse_constant=_constant)


def loads(data: bytes | str) -> Json:
    """The first JSON value in `data` (as Go's Decoder, which ignores what follows it).

    Bad UTF-8 becomes U+FFFD. Raises `JsonError`: `empty` when there is no value at all, else with Go's sentence (or
    ours, for one of more than `MAX_MARKS` values: every value costs fifty times its bytes).
    """
    return _first(data if isinstance(data, str) else data.decode("utf-8", "replace"))[0]


def loads_whole(text: str) -> Json:
    """The JSON value that all of `text` is (as Go's Unmarshal). Raises `JsonError`."""
    value, end = _first(text)
    if text[end:].strip(" \t\r\n"):
        raise JsonError("there is more than one JSON value")
    return value


def _first(text: str) -> tuple[Json, int]:
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise JsonError("EOF", empty=True)
    _check_structure(text)
    try:
        value, end = _decoder.raw_decode(text, start)
    except json.JSONDecodeError:
        raise JsonError(explain(text)) from None
    except RecursionError:
        raise JsonError("exceeded max depth") from None
    return (_mended(value) if "\\u" in text else cast(Json, value)), end


def _check_structure(text: str) -> None:
    """Depth and number of values, before anything is built of them."""
    if sum(map(text.count, ",[]{}")) <= MAX_DEPTH:
        return
    depth, marks, found = 0, 0, _MARK.match(text)
    while found is not None:
        mark = found.group(1)
        depth += 1 if mark in "[{" else -1 if mark in "]}" else 0
        marks += 1
        if depth > MAX_DEPTH:
            raise JsonError("exceeded max depth")
        if marks > MAX_MARKS:
            raise JsonError(f"the body has more than {MAX_MARKS} values, which this server does not read; send fewer")
        found = _MARK.match(text, found.end())


def _mended(value: Json) -> Json:
    """`value` with lone surrogates (from \\ud800 escapes) replaced, as Go does; they could not be encoded."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mended(member) for member in value]
    if isinstance(value, dict):
        return {_SURROGATE.sub("\ufffd", key): _mended(member) for key, member in value.items()}
    return value
