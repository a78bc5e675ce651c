"""Evaluates pipelines of a Go template: commands, arguments, fields, methods and function calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from app.runtime.templates.go_budget import Budget, byte_length
from app.runtime.templates.go_calls import Call, Function
from app.runtime.templates.go_errors import (
    MAX_NESTING,
    GoFunctionError,
    GoTemplateError,
    GoTemplateLimit,
    GoTemplateUnsupported,
)
from app.runtime.templates.go_format import text_of_stringer
from app.runtime.templates.go_functions import typescript_type
from app.runtime.templates.go_nodes import (
    Bool,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Nil,
    Node,
    NumberLiteral,
    Operand,
    Pipe,
    StringLiteral,
    Variable,
    source,
)
from app.runtime.templates.go_strconv import quote
from app.runtime.templates.go_types import PROPERTIES_MAP, PROPERTY, PROPERTY_MAP
from app.runtime.templates.go_values import (
    INVALID,
    GoMap,
    GoPointer,
    GoSlice,
    GoStruct,
    Invalid,
    Value,
    concrete,
    dereference,
    truth,
    type_name,
)

ANY = "interface {}"
_LEVELS = MAX_NESTING + 20  # what a tree of the deepest kind needs, and a little for templates calling templates


class Absent:
    """The type of `ABSENT`: no value comes from the previous stage of a pipeline."""


ABSENT: Final = Absent()


@dataclass(slots=True)
class Slot:
    """A variable on the stack."""

    name: str
    value: Value
    static: str = ""  # ANY where errors name that type instead of the value's own


class Evaluator:
    """The state of one execution that expressions need. `text` is the template's source, for error messages."""

    def __init__(
        self, text: str, functions: Mapping[str, Function], budget: Budget, today: date, *, missing_is_zero: bool
    ) -> None:
        self.text, self.functions, self.budget, self.today = text, functions, budget, today
        self.missing_is_zero = missing_is_zero  # a missing key gives the zero value of its type, else INVALID
        self.template = ""
        self.node: Node | Operand | Command | None = None
        self.slots: list[Slot] = []
        self.depth = 0
        self.dot_static = ""  # as a slot's, for the dot

    def fail(self, message: str) -> GoTemplateError:
        """The error to raise, with the place of the current node."""
        if self.node is None:
            return GoTemplateError(f"template: {self.template}: {message}")
        before = self.text[: self.node.pos]
        column = byte_length(before[before.rfind("\n") + 1 :])
        place = f":{before.count(chr(10)) + 1}:{column}"
        return GoTemplateError(
            f"template: {place}: executing {quote(self.template)} at <{source(self.node)}>: {message}"
        )

    def at(self, node: Node | Operand | Command) -> None:
        """Names the node for errors, and counts a step."""
        self.node = node
        self.budget.spend()

    def enter(self) -> None:
        self.depth += 1
        if self.depth > _LEVELS:
            raise GoTemplateLimit(f"the template is nested more than {MAX_NESTING} levels deep")

    # variables

    def set_variable(self, name: str, value: Value) -> None:
        self._slot(name).value = value

    def _slot(self, name: str) -> Slot:
        for passed, slot in enumerate(reversed(self.slots)):
            if slot.name == name:
                self.budget.spend(passed >> 4)
                return slot
        raise self.fail(f"undefined variable: {name}")

    # pipelines and commands

    def pipeline(self, dot: Value, pipe: Pipe | None) -> Value:
        """The value of a pipeline; its variables are declared or assigned."""
        if pipe is None:
            return INVALID
        self.at(pipe)
        self.enter()
        value: Value | Absent = ABSENT
        for command in pipe.commands:
            found = self._command(dot, command, value)
            value = concrete(found)
        self.depth -= 1
        result = INVALID if isinstance(value, Absent) else value
        for variable in pipe.variables:
            if pipe.assigns:
                self.set_variable(variable.names[0], result)
            else:
                self.slots.append(Slot(variable.names[0], result))
        return result

    def _command(self, dot: Value, command: Command, final: Value | Absent) -> Value:
        first = command.args[0]
        match first:
            case Field():
                return self._field_node(dot, first, command.args, final)
            case Chain():
                return self._chain(dot, first, command.args, final)
            case Identifier():
                return self._function(dot, first, command, command.args, final)
            case Pipe():
                self._refuse_arguments(command.args, final)
                return self.pipeline(dot, first)
            case Variable():
                return self._variable(dot, first, command.args, final)
        self.at(first)
        self._refuse_arguments(command.args, final)
        if isinstance(first, Dot):
            return dot
        if isinstance(first, Nil):
            raise self.fail("nil is not a command")
        return self._constant(first)

    def _refuse_arguments(self, args: Sequence[Operand], final: Value | Absent) -> None:
        if len(args) > 1 or not isinstance(final, Absent):
            raise self.fail(f"can't give argument to non-function {source(args[0])}")

    def _constant(self, node: Bool | NumberLiteral | StringLiteral) -> Value:
        if isinstance(node, Bool):
            return node.value
        if isinstance(node, StringLiteral):
            return node.text
        self.at(node)
        text, number = node.text, node.number
        hexadecimal = len(text) > 2 and text[0] == "0" and text[1] in "xX" and not set("pP") & set(text)
        if number.real is not None and not hexadecimal and text[0] != "'" and set(".eEpP") & set(text):
            return number.real
        if number.integer is None:
            raise self.fail(f"{text} overflows int")
        return number.integer

    # fields and variables

    def _field_node(self, dot: Value, node: Field, args: Sequence[Operand], final: Value | Absent) -> Value:
        self.at(node)
        return self._fields(dot, dot, node, node.names, args, final, self.dot_static)

    def _chain(self, dot: Value, node: Chain, args: Sequence[Operand], final: Value | Absent) -> Value:
        self.at(node)
        receiver = self._argument(dot, "value", node.node)
        return self._fields(dot, receiver, node, node.names, args, final)

    def _variable(self, dot: Value, node: Variable, args: Sequence[Operand], final: Value | Absent) -> Value:
        self.at(node)
        slot = self._slot(node.names[0])
        if len(node.names) == 1:
            self._refuse_arguments(args or (node,), final)
            return slot.value
        return self._fields(dot, slot.value, node, node.names[1:], args, final, slot.static)

    def _fields(
        self,
        dot: Value,
        receiver: Value,
        node: Operand,
        names: Sequence[str],
        args: Sequence[Operand],
        final: Value | Absent,
        static: str = "",
    ) -> Value:
        """.A.B.C of `receiver`; arguments go to the last one, should it be a method. `static` is the type that
        errors name: an interface where the value came out of one."""
        for name in names[:-1]:
            self.budget.spend()
            container, _ = dereference(receiver)
            receiver = self._field(name, (), ABSENT, receiver, static)
            static = ANY if isinstance(container, GoMap) and container.type.missing is None else ""
        return self._field(names[-1], args, final, receiver, static)

    def _field(self, name: str, args: Sequence[Operand], final: Value | Absent, receiver: Value, static: str) -> Value:
        if isinstance(receiver, Invalid):
            return INVALID
        kind = static or type_name(receiver)
        item, ended = dereference(receiver)
        if item is None:
            raise self.fail(f"nil pointer evaluating {kind}.{name}")
        extra = max(len(args) - 1, 0) + (not isinstance(final, Absent))
        found = self._method(item, name)
        if found is not None:
            if extra:
                raise self.fail(f"wrong number of args for {name}: want 0 got {extra}")
            return found[0]
        if isinstance(item, GoStruct) and not ended and any(spec.name == name for spec in item.type.fields):
            if extra:
                raise self.fail(f"{name} has arguments but cannot be invoked as function")
            return item.fields[name]
        if isinstance(item, GoMap):
            if extra:
                raise self.fail(f"{name} is not a method but has arguments")
            return (item.entries or {}).get(name, item.type.missing if self.missing_is_zero else INVALID)
        raise self.fail(f"can't evaluate field {name} in type {kind}")

    def _method(self, item: Value, name: str) -> tuple[Value] | None:
        """What the method `name` of a value returns; None where it has no such method."""
        if not isinstance(item, GoMap | GoSlice | GoStruct | GoPointer):
            return None
        if name == "String" and item.type.text_form:
            return (text_of_stringer(item, self.budget) or "",)
        if name in item.type.unsupported_methods:
            raise GoTemplateUnsupported(f"the method {name}")
        if item.type is PROPERTY and name == "ToTypeScriptType":
            return (self.budget.text(typescript_type(item, self.budget)),)
        if item.type is PROPERTIES_MAP and name in ("Len", "ToMap"):
            entries = item.fields if isinstance(item, GoStruct) else None
            return (len(entries or {}) if name == "Len" else GoMap(PROPERTY_MAP, entries),)
        return None

    # functions and their arguments

    def _function(
        self,
        dot: Value,
        node: Identifier,
        command: Command | Identifier,
        args: Sequence[Operand],
        final: Value | Absent,
    ) -> Value:
        self.at(node)
        given = args[1:]
        if node.name in ("and", "or"):
            return self._and_or(dot, node.name, given, final)
        self.budget.spend(2)
        function = self.functions.get(node.name)
        if function is None:
            if node.name == "call":
                raise GoTemplateUnsupported('the function "call"')
            raise self.fail(f"{quote(node.name)} is not a defined function")
        count = len(given) + (not isinstance(final, Absent))
        self._check_count(node.name, function, count, len(given))
        kinds = (*function.parameters, *[function.rest] * (count - len(function.parameters)))
        values = [self._argument(dot, kind, argument) for kind, argument in zip(kinds, given, strict=False)]
        if not isinstance(final, Absent):
            values.append(self._validated(final, kinds[-1]))
        try:
            return function.run(Call(values, self.budget, self.today))
        except GoFunctionError as error:
            self.at(command)
            raise self.fail(f"error calling {node.name}: {error}") from None

    def _check_count(self, name: str, function: Function, count: int, given: int) -> None:
        wanted = len(function.parameters)
        if function.rest and count < wanted:
            raise self.fail(f"wrong number of args for {name}: want at least {wanted} got {given}")
        if not function.rest and count != wanted:
            raise self.fail(f"wrong number of args for {name}: want {wanted} got {count}")

    def _and_or(self, dot: Value, name: str, args: Sequence[Operand], final: Value | Absent) -> Value:
        """`and` and `or` evaluate no further than they must, and return the value that decided."""
        if not args and isinstance(final, Absent):
            raise self.fail(f"wrong number of args for {name}: want at least 1 got 0")
        value: Value = INVALID
        for argument in args:
            value = self._argument(dot, "value", argument)
            if truth(concrete(value)) == (name == "or"):
                return value
        return value if isinstance(final, Absent) else final

    def _validated(self, value: Value, kind: str) -> Value:
        if kind == "any" and isinstance(value, Invalid):
            return None
        if kind == "string":
            if isinstance(value, Invalid):
                raise self.fail("invalid value; expected string")
            if not isinstance(value, str):
                raise self.fail(f"wrong type for value; expected string; got {type_name(value)}")
        return value

    def _argument(self, dot: Value, kind: str, node: Operand) -> Value:
        self.at(node)
        match node:
            case Dot():
                return self._validated(dot, kind)
            case Nil():
                if kind == "string":
                    raise self.fail("cannot assign nil to string")
                return None if kind == "any" else INVALID
            case Field():
                return self._validated(self._field_node(dot, node, (node,), ABSENT), kind)
            case Variable():
                return self._validated(self._variable(dot, node, (), ABSENT), kind)
            case Pipe():
                return self._validated(self.pipeline(dot, node), kind)
            case Identifier():
                return self._validated(self._function(dot, node, node, (), ABSENT), kind)
            case Chain():
                return self._validated(self._chain(dot, node, (), ABSENT), kind)
        if kind == "string" and not isinstance(node, StringLiteral):
            raise self.fail(f"expected string; found {source(node)}")
        return self._constant(node)
