"""Go's fmt: how values print with print, println and printf, and in an action of a template.

Verbs, flags, widths, argument indexes and the %!… marks of mistakes are those of Go 1.26. Outside the subset, and
named as such: %p, %#v, addresses of pointers, and hexadecimal or binary floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.runtime.templates.go_budget import Budget, Sink, byte_length
from app.runtime.templates.go_errors import GoTemplateUnsupported
from app.runtime.templates.go_marshal import marshal
from app.runtime.templates.go_strconv import describe_character, quote
from app.runtime.templates.go_types import PROPERTIES_MAP
from app.runtime.templates.go_values import (
    GoMap,
    GoPointer,
    GoSlice,
    GoStruct,
    Invalid,
    Value,
    type_name,
)

_STRINGABLE = "vsxXq"
_BASES = {"v": "d", "d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}


@dataclass(slots=True)
class Flags:
    plus: bool = False
    minus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    names: bool = False  # %+v: fields with their names
    width: int | None = None
    precision: int | None = None


def text_of_stringer(value: Value, budget: Budget) -> str | None:
    """What the value's String method returns; None if its type has none."""
    if not isinstance(value, GoMap | GoSlice | GoStruct) or not value.type.text_form:
        return None
    if value.type.text_form == "names" and isinstance(value, GoSlice):
        budget.spend(len(value))
        names = [str(value.at(index)) for index in range(len(value))]
        return names[0] if len(names) == 1 else f"[{' '.join(names)}]" if names else ""
    if value.type.text_form == "json_or_braces" and isinstance(value, GoMap) and value.entries is None:
        return "{}"
    return marshal(value, budget)


def sprint(values: Sequence[Value], budget: Budget) -> str:
    """fmt.Sprint: a space between two arguments when neither is a string."""
    printer = Printer(budget)
    after_string = False
    for index, value in enumerate(values):
        is_string = isinstance(value, str)
        if index and not is_string and not after_string:
            printer.sink.write(" ")
        printer.argument(value, "v")
        after_string = is_string
    return printer.sink.text()


def sprintln(values: Sequence[Value], budget: Budget) -> str:
    """fmt.Sprintln: spaces between all arguments, and a newline."""
    printer = Printer(budget)
    for index, value in enumerate(values):
        if index:
            printer.sink.write(" ")
        printer.argument(value, "v")
    printer.sink.write("\n")
    return printer.sink.text()


class Printer:
    """Writes values to `sink` under `flags`."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.sink = Sink(budget)
        self.flags = Flags()
        self.in_mistake = False  # inside %!v(…) no String method is called

    def argument(self, value: Value, verb: str) -> None:
        """One argument of a print function."""
        if isinstance(value, Invalid):
            value = None
        if verb == "T":
            self._string("<nil>" if value is None else type_name(value), "s")
        elif value is None:
            self._pad("<nil>") if verb == "v" else self._mistake(value, verb)
        elif verb == "p":
            raise GoTemplateUnsupported("printf's %p")
        else:
            self.value(value, verb, 0)

    def value(self, value: Value, verb: str, depth: int) -> None:
        """A value at some depth inside others."""
        if not self.in_mistake and isinstance(value, GoMap | GoSlice | GoStruct):
            if verb == "w":
                return self._mistake(value, verb)
            text = text_of_stringer(value, self.budget) if verb in _STRINGABLE else None
            if text is not None:
                return self._string(text, verb)
        match value:
            case None | Invalid():
                self.sink.write("<nil>")
            case bool():
                self._pad("true" if value else "false") if verb in "tv" else self._mistake(value, verb)
            case int():
                self._integer(value, verb)
            case float():
                self._real(value, verb)
            case str():
                self._string(value, verb)
            case GoPointer():
                self._pointer(value, verb, depth)
            case _:
                self._container(value, verb, depth)
        return None

    def _container(self, value: GoMap | GoSlice | GoStruct, verb: str, depth: int) -> None:
        match value:
            case GoMap():
                self.budget.spend(len(value.entries or ()))
                self.sink.write("map[")
                for index, (key, member) in enumerate(sorted((value.entries or {}).items())):
                    self.sink.write(" " if index else "")
                    self.value(key, verb, depth + 1)
                    self.sink.write(":")
                    self.value(member, verb, depth + 1)
                self.sink.write("]")
            case GoSlice() if isinstance(value.items, bytes) and verb in "sqxX":
                data = value.items[value.start : value.end]
                self._string(data.decode("utf-8", "surrogateescape"), verb)
            case GoSlice():
                self.sink.write("[")
                for index in range(len(value)):
                    self.sink.write(" " if index else "")
                    self.value(value.at(index), verb, depth + 1)
                self.sink.write("]")
            case GoStruct():
                self._struct(value, verb, depth)

    def _struct(self, value: GoStruct, verb: str, depth: int) -> None:
        if value.type is PROPERTIES_MAP:
            raise GoTemplateUnsupported("the nested properties of a tool as text")
        self.sink.write("{")
        for index, spec in enumerate(value.type.fields):
            self.sink.write((" " if index else "") + (f"{spec.name}:" if self.flags.names else ""))
            self.value(value.fields[spec.name], verb, depth + 1)
        self.sink.write("}")

    def _pointer(self, value: GoPointer, verb: str, depth: int) -> None:
        if value.target is None:
            self._pad("<nil>") if verb == "v" else self._mistake(value, verb)
        elif depth:
            raise GoTemplateUnsupported("the address of a message as text")
        else:
            self.sink.write("&")
            self.value(value.target, verb, depth + 1)

    def _mistake(self, value: Value, verb: str) -> None:
        """%!verb(type=value)"""
        self.sink.write(f"%!{verb}(")
        if value is None:
            self.sink.write("<nil>")
        else:
            self.sink.write(f"{type_name(value)}=")
            self.in_mistake = True
            self.value(value, "v", 0)
            self.in_mistake = False
        self.sink.write(")")

    def _pad(self, text: str, *, zero: bool = True) -> None:
        missing = (self.flags.width or 0) - len(text)
        if missing <= 0:
            self.sink.write(text)
        elif self.flags.minus:
            self.sink.write(text + " " * missing)
        else:
            self.sink.write(("0" if self.flags.zero and zero else " ") * missing + text)

    def _string(self, text: str, verb: str) -> None:
        if verb in "xX":
            return self._hexadecimal(text, verb)
        if verb not in "vsq":
            return self._mistake(text, verb)
        if self.flags.precision is not None:
            text = text[: self.flags.precision]
        if verb == "q":
            self.budget.spend(len(text) >> 3)
            raw = self.flags.sharp and "`" not in text and all(c.isprintable() or c == "\t" for c in text)
            text = f"`{text}`" if raw else quote(text, ascii_only=self.flags.plus)
        return self._pad(text)

    def _hexadecimal(self, text: str, verb: str) -> None:
        self.budget.spend(byte_length(text) >> 2)
        data = text.encode("utf-8", "surrogateescape")[: self.flags.precision]
        prefix = f"0{verb}" if self.flags.sharp and data else ""
        between = f" {prefix}" if self.flags.space else ""
        self._pad(prefix + between.join(f"{byte:02{verb}}" for byte in data))

    def _integer(self, value: int, verb: str) -> None:
        if verb in "cqU":
            return self._character(value, verb)
        if verb not in _BASES:
            return self._mistake(value, verb)
        flags, digits = self.flags, format(abs(int(value)), _BASES[verb])
        if flags.precision == 0 and value == 0:
            return self.sink.write(" " * (flags.width or 0))
        sign = "-" if value < 0 else "+" if flags.plus else " " if flags.space else ""
        wanted = flags.precision or 0
        if flags.precision is None and flags.zero and not flags.minus and flags.width is not None:
            wanted = flags.width - len(sign)
        digits = digits.rjust(wanted, "0")
        if flags.sharp:
            digits = {"b": "0b", "x": "0x", "X": "0X"}.get(verb, "") + digits
            digits = f"0{digits}" if verb in "oO" and not digits.startswith("0") else digits
        return self._pad(sign + ("0o" if verb == "O" else "") + digits, zero=False)

    def _character(self, value: int, verb: str) -> None:
        whole = 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000
        character = chr(value) if whole else "\ufffd"
        if verb == "c":
            self._pad(character)
        elif verb == "q":
            self._pad(quote(character, "'", ascii_only=self.flags.plus))
        else:
            wanted = max(4, self.flags.precision or 0)
            shown = describe_character(character)[6:] if self.flags.sharp and whole else ""
            code = format(value if value >= 0 else value + (1 << 64), "X").rjust(wanted, "0")
            self._pad(f"U+{code}{shown}", zero=False)

    def _real(self, value: float, verb: str) -> None:
        if verb not in "vgGeEfFbxX":
            return self._mistake(value, verb)
        if verb in "bxX" or self.flags.sharp:
            raise GoTemplateUnsupported(f"printf's %{'#' if self.flags.sharp else ''}{verb} of a float")
        number = _format_real(value, verb, self.flags.precision)
        if not number.startswith("-") and (self.flags.plus or self.flags.space):
            number = ("+" if self.flags.plus else " ") + number
        width = self.flags.width or 0
        if self.flags.zero and not self.flags.minus and number[0] in "+- " and width > len(number):
            return self.sink.write(number[0] + number[1:].rjust(width - 1, "0"))
        return self._pad(number)


def _format_real(value: float, verb: str, precision: int | None) -> str:
    if verb in "eEfF":
        return format(value, f".{6 if precision is None else precision}{verb.replace('F', 'f')}")
    if precision is not None:
        return format(value, f".{precision}{verb.replace('v', 'g')}")
    _, digits, power = Decimal(repr(value)).as_tuple()
    exponent = len(digits) + int(power) - 1
    if value and not -4 <= exponent < 6:
        mantissa = "".join(map(str, digits)).rstrip("0")
        sign = "-" if value < 0 else ""
        mantissa = sign + mantissa[0] + (f".{mantissa[1:]}" if len(mantissa) > 1 else "")
        text = f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
        return text.upper() if verb == "G" else text
    return repr(value).removesuffix(".0")
