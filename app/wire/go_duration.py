"""Go durations as Ollama's `keep_alive` takes them. Source: Go's time.ParseDuration and the recorded answers."""

from __future__ import annotations

import re

from app.core.errors import BadRequest
from app.core.generation import Json

NANOSECOND_LIMIT = 2**63 - 1
FOREVER = NANOSECOND_LIMIT  # what a negative keep_alive becomes; about 292 years

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")


def parse_duration(text: str) -> int:
    """`text` ("1h30m", "-1s", "0") in nanoseconds. Raises `BadRequest` with Go's sentence."""
    shown, rest = quote_go(text), text
    negative = rest.startswith("-")
    if rest[:1] in ("-", "+"):
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise BadRequest(f"time: invalid duration {shown}", "keep_alive")
    total = 0
    while rest:
        found = _PART.match(rest)
        whole, fraction, unit = found.groups() if found else ("", None, "")
        if not found or not (whole or fraction):
            raise BadRequest(f"time: invalid duration {shown}", "keep_alive")
        if not unit:
            raise BadRequest(f"time: missing unit in duration {shown}", "keep_alive")
        if unit not in _UNITS:
            raise BadRequest(f"time: unknown unit {quote_go(unit)} in duration {shown}", "keep_alive")
        if len(whole) > 19:
            raise BadRequest(f"time: invalid duration {shown}", "keep_alive")
        scale = _UNITS[unit]
        total += int(whole or "0") * scale + (int((fraction or "0")[:18]) * scale) // 10 ** len((fraction or "0")[:18])
        if total > NANOSECOND_LIMIT:
            raise BadRequest(f"time: invalid duration {shown}", "keep_alive")
        rest = rest[found.end() :]
    return -total if negative else total


def quote_go(text: str) -> str:
    """Go's %q: quotes and escapes, printable text as it is."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b", "\f": "\\f"}
    escapes["\v"] = "\\v"
    parts = []
    for character in text:
        if character in escapes:
            parts.append(escapes[character])
        elif character.isprintable():
            parts.append(character)
        else:
            code = ord(character)
            parts.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return f'"{"".join(parts)}"'


def keep_alive_ns(value: Json) -> int | None:
    """A request's `keep_alive` in nanoseconds: None where it says nothing, `FOREVER` where it is negative.

    Numbers are seconds, strings are Go durations. Raises `BadRequest` as recorded for anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        raise BadRequest("Unsupported type: 'bool'", "keep_alive")
    if isinstance(value, int | float):
        return FOREVER if value < 0 else min(int(value * 10**9), FOREVER)
    if isinstance(value, str):
        parsed = parse_duration(value)
        return FOREVER if parsed < 0 else parsed
    kind = "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"
    raise BadRequest(f"Unsupported type: '{kind}'", "keep_alive")
