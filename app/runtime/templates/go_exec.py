"""Executes the trees of a Go template over a value, as Go 1.26's text/template does.

Budget, depth and output are bounded; an error names the place as Go does:
`template: :LINE:COLUMN: executing "NAME" at <SOURCE>: what went wrong`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date

from app.runtime.templates.go_budget import Sink
from app.runtime.templates.go_calls import Function
from app.runtime.templates.go_evaluate import ANY, Evaluator, Slot
from app.runtime.templates.go_format import Printer
from app.runtime.templates.go_nodes import Action, Block, Branch, Call, Leave, Node, Text
from app.runtime.templates.go_strconv import quote
from app.runtime.templates.go_types import ARGUMENTS
from app.runtime.templates.go_values import (
    ANY_MAP,
    ANY_SLICE,
    INVALID,
    GoMap,
    GoPointer,
    GoSlice,
    Invalid,
    Uint8,
    Value,
    concrete,
    dereference,
    truth,
)


class Execution(Evaluator):
    """One run of a set of trees; what it says goes to `output`."""

    def __init__(
        self,
        text: str,
        trees: Mapping[str, Block],
        functions: Mapping[str, Function],
        output: Sink,
        today: date,
        *,
        missing_is_zero: bool = True,
    ) -> None:
        super().__init__(text, functions, output.budget, today, missing_is_zero=missing_is_zero)
        self.trees, self.output = trees, output

    def run(self, data: Value) -> None:
        """Executes the main template. Raises `GoTemplateError` and its kinds."""
        self.slots = [Slot("$", data)]
        self._block(data, self.trees[""])

    def _block(self, dot: Value, block: Block) -> str:
        """The nodes in order; returns "break" or "continue" where one of them says so."""
        self.enter()
        left = ""
        for node in block.nodes:
            left = self._walk(dot, node)
            if left:
                break
        self.depth -= 1
        return left

    def _walk(self, dot: Value, node: Node) -> str:
        self.at(node)
        match node:
            case Text():
                self.output.write(node.text)
            case Action():
                value = self.pipeline(dot, node.pipe)
                if not node.pipe.variables:
                    self._print(node, value)
            case Branch():
                return self._range(dot, node) if node.keyword == "range" else self._if_or_with(dot, node)
            case Call():
                self._call(dot, node)
            case Leave():
                return node.keyword
            case Block():
                return self._block(dot, node)
        return ""

    def _print(self, node: Action, value: Value) -> None:
        self.at(node)
        if isinstance(value, GoPointer) and value.target is not None:
            value = value.target
        if isinstance(value, Invalid):
            self.output.write("<no value>")
        elif isinstance(value, str):
            self.output.write(value)
        else:
            printer = Printer(self.budget)
            printer.argument(value, "v")
            self.output.write(printer.sink.text())

    def _if_or_with(self, dot: Value, branch: Branch) -> str:
        """A chain of {{else if}} is followed in a loop: it needs no recursion."""
        mark = len(self.slots)
        left = ""
        while True:
            value = self.pipeline(dot, branch.pipe)
            if truth(concrete(value)):
                left = self._with(value, branch.body) if branch.keyword == "with" else self._block(dot, branch.body)
                break
            otherwise = branch.otherwise
            if otherwise is None:
                break
            following = otherwise.nodes[0] if len(otherwise.nodes) == 1 else None
            if isinstance(following, Branch) and following.keyword != "range":
                branch = following
                continue
            left = self._block(dot, otherwise)
            break
        del self.slots[mark:]
        return left

    def _with(self, dot: Value, body: Block) -> str:
        kept, self.dot_static = self.dot_static, ""
        left = self._block(dot, body)
        self.dot_static = kept
        return left

    def _range(self, dot: Value, branch: Branch) -> str:
        outer = len(self.slots)
        value, _ = dereference(self.pipeline(dot, branch.pipe))
        empty, static = True, _element_static(value)
        for index, element in self._elements(branch, value):
            self.budget.spend()
            empty = False
            if self._iteration(branch, index, element, static) == "break":
                break
        left = self._block(dot, branch.otherwise) if empty and branch.otherwise else ""
        del self.slots[outer:]
        return left

    def _elements(self, branch: Branch, value: Value) -> Iterator[tuple[Value, Value]]:
        match value:
            case None | Invalid():
                return
            case GoSlice():
                for index in range(len(value)):
                    yield index, value.at(index)
            case GoMap():
                self.budget.spend(len(value.entries or ()))
                yield from sorted((value.entries or {}).items())
            case int() if not isinstance(value, bool):
                if len(branch.pipe.variables) > 1:
                    raise self.fail(f"can't use {int(value)} to iterate over more than one variable")
                for number in range(value):
                    yield INVALID, Uint8(number) if isinstance(value, Uint8) else number
            case _:
                printer = Printer(self.budget)
                printer.argument(value, "v")
                raise self.fail(f"range can't iterate over {printer.sink.text()}")

    def _iteration(self, branch: Branch, index: Value, element: Value, static: str) -> str:
        variables, mark, kept = branch.pipe.variables, len(self.slots), self.dot_static
        if variables and branch.pipe.assigns:
            first, *rest = variables
            self.set_variable(first.names[0], index if rest else element)
            if rest:
                self.set_variable(rest[0].names[0], element)
        elif variables:
            self.slots[-1].value, self.slots[-1].static = element, static
            if len(variables) > 1:
                self.slots[-2].value = index
        self.dot_static = static
        left = self._block(element, branch.body)
        self.dot_static = kept
        del self.slots[mark:]
        return left

    def _call(self, dot: Value, call: Call) -> None:
        """{{template}}: a tree of its own, which sees none of the variables."""
        tree = self.trees.get(call.name)
        if tree is None:
            raise self.fail(f"template {quote(call.name)} not defined")
        value = self.pipeline(dot, call.pipe)
        kept = self.slots, self.template
        self.slots, self.template = [Slot("$", value)], call.name
        self._with(value, tree)
        self.slots, self.template = kept


def _element_static(value: Value) -> str:
    """The type that errors name for what a range goes through: the one that the container declares."""
    loose = isinstance(value, GoMap | GoSlice) and value.type in (ANY_SLICE, ANY_MAP, ARGUMENTS)
    return ANY if loose else ""
