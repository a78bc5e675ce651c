"""The tree of a parsed Go template, and each node as Go writes it in error messages. Positions index characters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from app.runtime.templates.go_strconv import Number, quote


@dataclass(frozen=True, slots=True)
class Text:
    pos: int
    text: str


@dataclass(frozen=True, slots=True)
class Bool:
    pos: int
    value: bool


@dataclass(frozen=True, slots=True)
class Nil:
    pos: int


@dataclass(frozen=True, slots=True)
class Dot:
    pos: int


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    pos: int
    text: str
    number: Number


@dataclass(frozen=True, slots=True)
class StringLiteral:
    pos: int
    quoted: str
    text: str


@dataclass(frozen=True, slots=True)
class Identifier:
    """The name of a function."""

    pos: int
    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """.A.B"""

    pos: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """$x.A: the first name is the variable with its dollar sign."""

    pos: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """(pipeline).A.B, or function.A"""

    pos: int
    node: Operand
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    pos: int
    args: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pipe:
    pos: int
    assigns: bool  # $x = … rather than $x := …
    variables: tuple[Variable, ...]
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Action:
    pos: int
    pipe: Pipe


@dataclass(frozen=True, slots=True)
class Branch:
    """if, with or range."""

    pos: int
    keyword: str
    pipe: Pipe
    body: Block
    otherwise: Block | None


@dataclass(frozen=True, slots=True)
class Block:
    pos: int
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """{{template "name" pipeline}}"""

    pos: int
    name: str
    pipe: Pipe | None


@dataclass(frozen=True, slots=True)
class Leave:
    """break or continue"""

    pos: int
    keyword: str


@dataclass(frozen=True, slots=True)
class Marker:
    """{{end}} or {{else}}; never part of a tree. `chained` is the keyword of {{else if}} and {{else with}}."""

    pos: int
    keyword: str
    chained: str = ""


Operand: TypeAlias = Bool | Nil | Dot | NumberLiteral | StringLiteral | Identifier | Field | Variable | Chain | Pipe
Node: TypeAlias = Text | Action | Branch | Block | Call | Leave


def source(node: Node | Operand | Command | Marker) -> str:
    """`node` as Go prints it, for the <…> of an error message."""
    match node:
        case Text():
            return node.text
        case Bool():
            return "true" if node.value else "false"
        case Nil():
            return "nil"
        case Dot():
            return "."
        case NumberLiteral():
            return node.text
        case StringLiteral():
            return node.quoted
        case Identifier():
            return node.name
        case Field():
            return "".join(f".{name}" for name in node.names)
        case Variable():
            return ".".join(node.names)
        case Chain():
            return _argument(node.node) + "".join(f".{name}" for name in node.names)
        case Command():
            return " ".join(_argument(argument) for argument in node.args)
        case Pipe():
            return _pipe(node)
        case Action():
            return f"{{{{{_pipe(node.pipe)}}}}}"
        case Block():
            return "".join(source(child) for child in node.nodes)
        case Branch():
            otherwise = f"{{{{else}}}}{source(node.otherwise)}" if node.otherwise else ""
            return f"{{{{{node.keyword} {_pipe(node.pipe)}}}}}{source(node.body)}{otherwise}{{{{end}}}}"
        case Call():
            return f"{{{{template {quote(node.name)}{' ' + _pipe(node.pipe) if node.pipe else ''}}}}}"
        case Leave() | Marker():
            return f"{{{{{node.keyword}}}}}"


def _argument(node: Operand) -> str:
    return f"({_pipe(node)})" if isinstance(node, Pipe) else source(node)


def _pipe(node: Pipe) -> str:
    names = ", ".join(source(variable) for variable in node.variables)
    sign = "" if not names else " = " if node.assigns else " := "
    return names + sign + " | ".join(source(command) for command in node.commands)


def identifiers(node: Node | Operand) -> list[str]:
    """The fields and variables that a tree names, as Ollama collects them to see what a template can do.

    Chains and declared variables are not among them. Raises `LookupError` for {{template}} without a pipeline,
    which Ollama refuses.
    """
    match node:
        case Block():
            return [name for child in node.nodes for name in identifiers(child)]
        case Branch():
            blocks = [node.body] if node.otherwise is None else [node.body, node.otherwise]
            return identifiers(node.pipe) + [name for block in blocks for name in identifiers(block)]
        case Action():
            return identifiers(node.pipe)
        case Call():
            if node.pipe is None:
                raise LookupError("undefined template specified")
            return identifiers(node.pipe)
        case Pipe():
            return [name for command in node.commands for argument in command.args for name in identifiers(argument)]
        case Field() | Variable():
            return list(node.names)
        case _:
            return []
