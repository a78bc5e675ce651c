"""Functions that make text: print and its kin, and the escapes for HTML, JavaScript and URLs."""

from __future__ import annotations

from urllib.parse import quote_plus

from app.runtime.templates.go_calls import Call
from app.runtime.templates.go_format import sprint, sprintln
from app.runtime.templates.go_printf import sprintf
from app.runtime.templates.go_strconv import is_print
from app.runtime.templates.go_values import (
    GoPointer,
    Invalid,
    Value,
)

_HTML = str.maketrans({"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"})
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _joined(call: Call) -> str:
    """The arguments as one text, pointers followed: what the escaping functions escape."""
    if len(call.args) == 1 and isinstance(call.args[0], str):
        return call.args[0]
    return sprint([_printable(value) for value in call.args], call.budget)


def _printable(value: Value) -> Value:
    if isinstance(value, GoPointer) and value.target is not None:
        return value.target
    return "<no value>" if value is None or isinstance(value, Invalid) else value


def html_text(call: Call) -> Value:
    text = _joined(call)
    call.budget.spend(len(text) >> 4)
    return call.budget.text(text.translate(_HTML))


def js_text(call: Call) -> Value:
    text = _joined(call)
    call.budget.spend(len(text) >> 3)
    return call.budget.text("".join(_js_character(character) for character in text))


def _js_character(character: str) -> str:
    if character in _JS:
        return _JS[character]
    if character < " ":
        return f"\\u{ord(character):04X}"
    if is_print(character) or character == "\x7f":
        return character
    code = 0xFFFD if 0xDC80 <= ord(character) <= 0xDCFF else ord(character)
    return "\ufffd" if code == 0xFFFD else f"\\u{code:04X}"


def urlquery_text(call: Call) -> Value:
    return call.budget.text(quote_plus(_joined(call).encode("utf-8", "surrogateescape"), safe="-._~"))


def print_text(call: Call) -> Value:
    return sprint(call.args, call.budget)


def println_text(call: Call) -> Value:
    return sprintln(call.args, call.budget)


def printf_text(call: Call) -> Value:
    return sprintf(str(call.args[0]), call.args[1:], call.budget)
