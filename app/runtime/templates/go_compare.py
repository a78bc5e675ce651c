"""eq, ne, lt, le, gt and ge, with Go's rules for what can be compared. `GoFunctionError` says what cannot."""

from __future__ import annotations

from app.runtime.templates.go_budget import Budget
from app.runtime.templates.go_calls import Call
from app.runtime.templates.go_errors import GoFunctionError
from app.runtime.templates.go_format import Printer, sprint
from app.runtime.templates.go_values import (
    GoPointer,
    Invalid,
    Value,
    basic_kind,
    concrete,
    is_nil,
    type_name,
)


def _equal(first: Value, second: Value, budget: Budget) -> bool:
    kind, other = basic_kind(first), basic_kind(second)
    if kind != other:
        if {kind, other} == {"int", "uint"}:
            return first == second
        if not isinstance(first, Invalid) and not isinstance(second, Invalid):
            names = f"{type_name(first)} and {type_name(second)}"
            raise GoFunctionError(f"incompatible types for comparison: {names}")
        return False
    if kind:
        budget.spend(len(first) >> 8 if isinstance(first, str) else 0)
        return first == second
    return _equal_composites(first, second, budget)


def _equal_composites(first: Value, second: Value, budget: Budget) -> bool:
    absent = isinstance(first, Invalid) or isinstance(second, Invalid)
    if not absent and type(first) is not type(second):
        shown = f"{_shown(first, budget)}: {type_name(first)}, {type_name(second)}: {sprint([second], budget)}"
        raise GoFunctionError(f"non-comparable types {shown}")
    if is_nil(first) or is_nil(second):
        return is_nil(first) == is_nil(second)
    if isinstance(second, GoPointer):
        return first is second
    raise GoFunctionError(f"non-comparable type {_shown(second, budget)}: {type_name(second)}")


def _shown(value: Value, budget: Budget) -> str:
    """A value in an error message: Go prints it with %s."""
    printer = Printer(budget)
    printer.argument(value, "s")
    return printer.sink.text()


def eq(call: Call) -> Value:
    if len(call.args) == 1:
        raise GoFunctionError("missing argument for comparison")
    first = concrete(call.args[0])
    return any(_equal(first, concrete(other), call.budget) for other in call.args[1:])


def ne(call: Call) -> Value:
    return not eq(call)


def less(call: Call) -> bool:
    first, second = (concrete(value) for value in call.args)
    kind, other = basic_kind(first), basic_kind(second)
    if not kind or not other:
        raise GoFunctionError("invalid type for comparison")
    if kind != other and {kind, other} != {"int", "uint"}:
        raise GoFunctionError(f"incompatible types for comparison: {type_name(first)} and {type_name(second)}")
    if isinstance(first, bool):
        raise GoFunctionError("invalid type for comparison")
    if isinstance(first, str) and isinstance(second, str):
        call.budget.spend(len(first) + len(second) >> 8)
        return first.encode("utf-8", "surrogateescape") < second.encode("utf-8", "surrogateescape")
    return isinstance(first, int | float) and isinstance(second, int | float) and first < second


def le(call: Call) -> Value:
    return less(call) or eq(call)


def gt(call: Call) -> Value:
    return not le(call)


def ge(call: Call) -> Value:
    return not less(call)
