"""fmt.Sprintf: reads a format and hands each verb with its flags to the printer."""

from __future__ import annotations

from collections.abc import Sequence

from app.runtime.templates.go_budget import Budget, readable
from app.runtime.templates.go_errors import MAX_TEXT, GoTemplateLimit, GoTemplateUnsupported
from app.runtime.templates.go_format import Flags, Printer
from app.runtime.templates.go_values import Invalid, Value, type_name

_LARGEST = 1_000_000  # Go refuses wider fields
_FLAG_NAMES = {"#": "sharp", "0": "zero", "+": "plus", "-": "minus", " ": "space"}


def sprintf(template: str, values: Sequence[Value], budget: Budget) -> str:
    """`template` with `values` filled in; mistakes are marked in the text, as Go does, never raised."""
    return _Format(template, values, budget).run()


class _Format:
    """The state of one Sprintf: the place in the format and in the arguments."""

    def __init__(self, template: str, values: Sequence[Value], budget: Budget) -> None:
        self.template, self.values = template, values
        self.printer = Printer(budget)
        self.at = 0
        self.argument = 0
        self.after_index = self.reordered = False
        self.good = True  # whether the explicit indexes of this verb make sense

    def run(self) -> str:
        sink = self.printer.sink
        while self.at < len(self.template):
            percent = self.template.find("%", self.at)
            end = len(self.template) if percent < 0 else percent
            if end > self.at:
                sink.write(self.template[self.at : end])
            self.at = end + 1
            if percent >= 0 and not self._verb():
                break
        if not self.reordered and self.argument < len(self.values):
            self._extra()
        return sink.text()

    def _rest(self, text: str) -> bool:
        return self.template.startswith(text, self.at)

    def _verb(self) -> bool:
        """One %…; False where the format ends inside it."""
        self.good, self.after_index = True, False
        self.printer.budget.spend(4)
        self.printer.flags = flags = Flags()
        while self.template[self.at : self.at + 1] in _FLAG_NAMES:
            setattr(flags, _FLAG_NAMES[self.template[self.at]], True)
            self.at += 1
        self._index()
        self._width(flags)
        if self._rest(".") and self.at + 1 < len(self.template):
            self._precision(flags)
        if max(flags.width or 0, flags.precision or 0) > MAX_TEXT:
            raise GoTemplateLimit(f"the template makes a text longer than {MAX_TEXT} bytes")
        if not self.after_index:
            self._index()
        if self.at >= len(self.template):
            self.printer.sink.write("%!(NOVERB)")
            return False
        verb = readable(self.template[self.at])
        self.at += 1
        self._print(verb, flags)
        return True

    def _print(self, verb: str, flags: Flags) -> None:
        sink = self.printer.sink
        if verb == "%":
            sink.write("%")
        elif not self.good:
            sink.write(f"%!{verb}(BADINDEX)")
        elif self.argument >= len(self.values):
            sink.write(f"%!{verb}(MISSING)")
        else:
            if verb in "vw":
                if flags.sharp:
                    raise GoTemplateUnsupported("printf's %#v")
                flags.names, flags.plus = flags.plus, False
            self.printer.argument(self.values[self.argument], verb)
            self.argument += 1

    def _index(self) -> None:
        """An explicit [n] chooses the argument."""
        self.after_index = False
        if not self._rest("["):
            return
        self.reordered = True
        closing = self.template.find("]", self.at)
        if closing < 0 or len(self.template) - self.at < 3:
            self.good = False
            self.at += 1
            return
        digits = self.template[self.at + 1 : closing]
        number = int(digits) - 1 if digits.isascii() and digits.isdigit() and len(digits) < 8 else -1
        self.at = closing + 1
        self.good = self.good and 0 <= number < len(self.values)
        # Go counts an index out of range as present, but one that is no number as absent.
        self.after_index = number >= 0 or digits == "0"
        if 0 <= number < len(self.values):
            self.argument = number

    def _digits(self) -> int | None:
        """A decimal number at this place; one too large swallows the rest of the format, as in Go."""
        start = self.at
        while self.at < len(self.template) and self.template[self.at] in "0123456789":
            self.at += 1
            if int(self.template[start : self.at]) > _LARGEST and self.template[self.at : self.at + 1].isdigit():
                self.at = len(self.template)
                return None
        return int(self.template[start : self.at]) if self.at > start else None

    def _star(self) -> int | None:
        """The argument that gives a width or a precision, where * stands for it."""
        self.at += 1
        self.after_index = False
        if self.argument >= len(self.values):
            return None
        value = self.values[self.argument]
        self.argument += 1
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST
        return int(value) if whole and isinstance(value, int) else None

    def _width(self, flags: Flags) -> None:
        if not self._rest("*"):
            flags.width = self._digits()
            self.good = self.good and not (self.after_index and flags.width is not None)
            return
        flags.width = self._star()
        if flags.width is None:
            self.printer.sink.write("%!(BADWIDTH)")
        elif flags.width < 0:
            flags.width, flags.minus, flags.zero = -flags.width, True, False

    def _precision(self, flags: Flags) -> None:
        self.at += 1
        self.good = self.good and not self.after_index
        self._index()
        if not self._rest("*"):
            flags.precision = self._digits() or 0
            return
        flags.precision = self._star()
        if flags.precision is not None and flags.precision < 0:
            flags.precision = None
        if flags.precision is None:
            self.printer.sink.write("%!(BADPREC)")

    def _extra(self) -> None:
        """Arguments that no verb used."""
        self.printer.flags = Flags()
        sink = self.printer.sink
        sink.write("%!(EXTRA ")
        for index, value in enumerate(self.values[self.argument :]):
            sink.write(", " if index else "")
            if value is None or isinstance(value, Invalid):
                sink.write("<nil>")
            else:
                sink.write(f"{type_name(value)}=")
                self.printer.argument(value, "v")
        sink.write(")")
