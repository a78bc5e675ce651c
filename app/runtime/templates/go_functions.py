"""The functions of Go templates and Ollama's own: JSON, dates, TypeScript types.

`and`, `or` and `call` are not here: they need the executor.
"""

from __future__ import annotations

from datetime import timedelta

from app.runtime.templates.go_budget import Budget, readable
from app.runtime.templates.go_calls import Call, Function
from app.runtime.templates.go_compare import eq, ge, gt, le, less, ne
from app.runtime.templates.go_escape import html_text, js_text, print_text, printf_text, println_text, urlquery_text
from app.runtime.templates.go_lookup import index, length, slice_
from app.runtime.templates.go_marshal import marshal
from app.runtime.templates.go_types import PROPERTY
from app.runtime.templates.go_values import (
    GoSlice,
    GoStruct,
    Value,
    concrete,
    truth,
)


def _json(call: Call) -> Value:
    return marshal(call.args[0], call.budget)


def _current_date(call: Call) -> Value:
    return call.today.isoformat()


def _yesterday_date(call: Call) -> Value:
    return (call.today - timedelta(days=1)).isoformat()


_TYPESCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def typescript_type(value: Value, budget: Budget) -> str:
    """A tool's property as a TypeScript type: unions for anyOf and for lists of types."""
    budget.spend()
    if not isinstance(value, GoStruct) or value.type is not PROPERTY:
        return "any"
    any_of, names = value.fields["AnyOf"], value.fields["Type"]
    if isinstance(any_of, GoSlice) and len(any_of):
        return " | ".join(typescript_type(any_of.at(index), budget) for index in range(len(any_of)))
    if not isinstance(names, GoSlice) or not len(names):
        return "any"
    budget.spend(len(names))
    return " | ".join(_TYPESCRIPT.get(readable(str(names.at(index))), "any") for index in range(len(names)))


def _typescript(call: Call) -> Value:
    return call.budget.text(typescript_type(call.args[0], call.budget))


def _not(call: Call) -> Value:
    return not truth(concrete(call.args[0]))


_PAIR = ("value", "value")
BUILTINS = {
    "not": Function(_not, ("value",)),
    "eq": Function(eq, ("value",), "value"),
    "ne": Function(ne, _PAIR),
    "lt": Function(less, _PAIR),
    "le": Function(le, _PAIR),
    "gt": Function(gt, _PAIR),
    "ge": Function(ge, _PAIR),
    "index": Function(index, ("value",), "value"),
    "slice": Function(slice_, ("value",), "value"),
    "len": Function(length, ("value",)),
    "print": Function(print_text, (), "any"),
    "println": Function(println_text, (), "any"),
    "printf": Function(printf_text, ("string",), "any"),
    "html": Function(html_text, (), "any"),
    "js": Function(js_text, (), "any"),
    "urlquery": Function(urlquery_text, (), "any"),
}
OLLAMA = {
    "json": Function(_json, ("any",)),
    "currentDate": Function(_current_date, (), "string"),
    "yesterdayDate": Function(_yesterday_date, (), "string"),
    "toTypeScriptType": Function(_typescript, ("any",)),
}
NAMES = frozenset((*BUILTINS, *OLLAMA, "and", "or", "call"))
