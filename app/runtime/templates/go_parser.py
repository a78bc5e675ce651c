"""Parses a Go template into trees, with the rules and sentences of Go 1.26's text/template/parse."""

from __future__ import annotations

from collections.abc import Container

from app.runtime.templates.go_cursor import Cursor, Shared
from app.runtime.templates.go_errors import GoTemplateUnsupported
from app.runtime.templates.go_lexer import Kind, Lexer, Token
from app.runtime.templates.go_nodes import (
    Action,
    Block,
    Bool,
    Branch,
    Call,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Leave,
    Marker,
    Nil,
    Node,
    NumberLiteral,
    Operand,
    Pipe,
    StringLiteral,
    Text,
    Variable,
    source,
)
from app.runtime.templates.go_strconv import LiteralError, parse_character, parse_number, quote

_GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_OPERANDS = frozenset(
    (Kind.BOOL, Kind.CHAR_CONSTANT, Kind.COMPLEX, Kind.DOT, Kind.FIELD, Kind.IDENTIFIER, Kind.NUMBER, Kind.NIL)
    + (Kind.RAW_STRING, Kind.STRING, Kind.VARIABLE, Kind.LEFT_PAREN)
)
_STRINGS = (Kind.STRING, Kind.RAW_STRING)
_NUMBERS = (Kind.CHAR_CONSTANT, Kind.COMPLEX, Kind.NUMBER)
_CONTROLS = {Kind.IF: "if", Kind.WITH: "with", Kind.RANGE: "range"}
_LEAVES = {Kind.BREAK: "break", Kind.CONTINUE: "continue"}


def parse_trees(text: str, functions: Container[str]) -> dict[str, Block]:
    """The trees of `text` by template name; the main one is "".

    Raises `GoTemplateError` in Go's words, `GoTemplateUnsupported` for a function not in `functions`.
    """
    shared = Shared(Lexer(text), functions)
    _Tree(shared).parse_main()
    return shared.trees


def is_empty(block: Block) -> bool:
    """Whether a tree holds nothing but white space."""
    return all(isinstance(node, Text) and not node.text.strip(_GO_SPACE) for node in block.nodes)


class _Tree(Cursor):
    """One template: the main one, or the body of a define or block."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.variables = ["$"]
        self.range_depth = 0

    # lists of text and actions

    def parse_main(self) -> None:
        """The whole text: like a list, and {{define}} is allowed here."""
        nodes: list[Node] = []
        start = self._peek().pos
        while self._peek().kind is not Kind.EOF:
            if self._peek().kind is Kind.LEFT_DELIM:
                delimiter = self._next()
                following = self._next_solid()
                if following.kind is Kind.DEFINE:
                    _Tree(self.shared)._definition()
                    continue
                self._back(delimiter, following)
            node = self._text_or_action()
            if isinstance(node, Marker):
                raise self._fail(f"unexpected {source(node)}")
            nodes.append(node)
        self._add("", Block(start, tuple(nodes)))

    def _definition(self) -> None:
        name = self._unquoted(self._expect("define clause", *_STRINGS))
        self._expect("define clause", Kind.RIGHT_DELIM)
        self._body(name, "define clause")

    def _body(self, name: str, context: str) -> None:
        self._enter()
        block, end = self._list()
        if end.keyword != "end":
            raise self._fail(f"unexpected {source(end)} in {context}")
        self._leave()
        self._add(name, block)

    def _add(self, name: str, block: Block) -> None:
        known = self.shared.trees.get(name)
        if known is None or is_empty(known):
            self.shared.trees[name] = block
        elif not is_empty(block):
            raise self._fail(f"template: multiple definition of template {quote(name)}")

    def _list(self) -> tuple[Block, Marker]:
        """Everything up to {{end}} or {{else}}, and that."""
        nodes: list[Node] = []
        start = self._peek_solid().pos
        while self._peek_solid().kind is not Kind.EOF:
            node = self._text_or_action()
            if isinstance(node, Marker):
                return Block(start, tuple(nodes)), node
            nodes.append(node)
        raise self._fail("unexpected EOF")

    def _text_or_action(self) -> Node | Marker:
        token = self._next_solid()
        if token.kind is Kind.TEXT:
            return Text(token.pos, token.text)
        if token.kind is not Kind.LEFT_DELIM:
            raise self._unexpected(token, "input")
        self.action_line = token.line
        node = self._action()
        self.action_line = 0
        return node

    # actions

    def _action(self) -> Node | Marker:
        token = self._next_solid()
        kind = token.kind
        if kind in _CONTROLS:
            return self._control(_CONTROLS[kind])
        if kind in _LEAVES:
            return self._leave_range(token, _LEAVES[kind])
        if kind is Kind.ELSE:
            return self._else()
        if kind is Kind.END:
            return Marker(self._expect("end", Kind.RIGHT_DELIM).pos, "end")
        if kind is Kind.TEMPLATE:
            return self._call()
        if kind is Kind.BLOCK:
            return self._block()
        self._back(token)
        return Action(token.pos, self._pipeline("command", Kind.RIGHT_DELIM))

    def _leave_range(self, token: Token, keyword: str) -> Leave:
        following = self._next_solid()
        if following.kind is not Kind.RIGHT_DELIM:
            raise self._unexpected(following, f"{{{{{keyword}}}}}")
        if self.range_depth == 0:
            raise self._fail(f"{{{{{keyword}}}}} outside {{{{range}}}}")
        return Leave(token.pos, keyword)

    def _else(self) -> Marker:
        following = self._peek_solid()
        if following.kind in (Kind.IF, Kind.WITH):  # {{else if}}: the keyword is left for _control
            return Marker(following.pos, "else", _CONTROLS[following.kind])
        return Marker(self._expect("else", Kind.RIGHT_DELIM).pos, "else")

    def _control(self, keyword: str) -> Branch:
        """if, with or range. Every {{else if}} of a chain is a level of the tree."""
        variables, depth = len(self.variables), self.shared.depth
        arms: list[tuple[Pipe, Block, int]] = []
        otherwise: Block | None = None
        while True:
            self._enter()
            pipe = self._pipeline(keyword, Kind.RIGHT_DELIM)
            self.range_depth += keyword == "range"
            body, end = self._list()
            self.range_depth -= keyword == "range"
            arms.append((pipe, body, end.pos))
            if end.keyword == "end":
                break
            if end.chained == keyword:
                self._next()
                continue
            otherwise, end = self._list()
            if end.keyword != "end":
                raise self._fail(f"expected end; found {source(end)}")
            break
        self.shared.depth = depth
        del self.variables[variables:]
        pipe, body, _ = arms.pop()
        branch = Branch(pipe.pos, keyword, pipe, body, otherwise)
        for pipe, body, pos in reversed(arms):
            branch = Branch(pipe.pos, keyword, pipe, body, Block(pos, (branch,)))
        return branch

    def _call(self) -> Call:
        token = self._expect("template clause", *_STRINGS)
        name = self._unquoted(token)
        following = self._next_solid()
        if following.kind is Kind.RIGHT_DELIM:
            return Call(token.pos, name, None)
        self._back(following)
        return Call(token.pos, name, self._pipeline("template clause", Kind.RIGHT_DELIM))

    def _block(self) -> Call:
        token = self._expect("block clause", *_STRINGS)
        name = self._unquoted(token)
        pipe = self._pipeline("block clause", Kind.RIGHT_DELIM)
        _Tree(self.shared)._body(name, "block clause")
        return Call(token.pos, name, pipe)

    # pipelines

    def _pipeline(self, context: str, end: Kind) -> Pipe:
        start = self._peek_solid().pos
        variables, assigns = self._declarations(context)
        commands: list[Command] = []
        while True:
            token = self._next_solid()
            if token.kind is end:
                break
            if token.kind not in _OPERANDS:
                raise self._unexpected(token, context)
            self._back(token)
            commands.append(self._command())
        if not commands:
            raise self._fail(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.args[0], Bool | Dot | Nil | NumberLiteral | StringLiteral):
                raise self._fail(f"non executable command in pipeline stage {stage}")
        return Pipe(start, assigns, variables, tuple(commands))

    def _declarations(self, context: str) -> tuple[tuple[Variable, ...], bool]:
        """`$x :=`, `$x =` or, in a range, `$i, $x :=` at the start of a pipeline."""
        variables: list[Variable] = []
        while True:
            token = self._peek_solid()
            if token.kind is not Kind.VARIABLE:
                return tuple(variables), False
            self._next()
            after = self._peek()
            following = self._next_solid()
            if following.kind not in (Kind.ASSIGN, Kind.DECLARE) and following.text != ",":
                self._back(following)
                self._back(*((token, after) if after.kind is Kind.SPACE else (token,)))
                return tuple(variables), False
            variables.append(Variable(token.pos, tuple(token.text.split("."))))
            self.variables.append(token.text)
            if following.kind in (Kind.ASSIGN, Kind.DECLARE):
                return tuple(variables), following.kind is Kind.ASSIGN
            if context != "range" or len(variables) > 1:
                raise self._fail(f"too many declarations in {context}")
            if self._peek_solid().kind not in (Kind.VARIABLE, Kind.RIGHT_DELIM, Kind.RIGHT_PAREN):
                raise self._fail("range can only initialize variables")

    def _command(self) -> Command:
        start = self._peek_solid().pos
        args: list[Operand] = []
        while True:
            self._peek_solid()
            operand = self._operand()
            if operand is not None:
                args.append(operand)
            token = self._next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT_DELIM, Kind.RIGHT_PAREN):
                self._back(token)
            elif token.kind is not Kind.PIPE:
                raise self._unexpected(token, "operand")
            break
        if not args:
            raise self._fail("empty command")
        return Command(start, tuple(args))

    def _operand(self) -> Operand | None:
        node = self._term()
        if node is None or self._peek().kind is not Kind.FIELD:
            return node
        pos, names = self._peek().pos, []
        while self._peek().kind is Kind.FIELD:
            names.append(self._next().text[1:])
        if isinstance(node, Field):
            return Field(pos, (*node.names, *names))
        if isinstance(node, Variable):
            return Variable(pos, (*node.names, *names))
        if isinstance(node, Bool | StringLiteral | NumberLiteral | Nil | Dot):
            raise self._fail(f"unexpected . after term {quote(source(node))}")
        return Chain(pos, node, tuple(names))

    def _term(self) -> Operand | None:
        token = self._next_solid()
        match token.kind:
            case Kind.IDENTIFIER:
                return self._function(token)
            case Kind.DOT:
                return Dot(token.pos)
            case Kind.NIL:
                return Nil(token.pos)
            case Kind.VARIABLE:
                if token.text not in self.variables:
                    raise self._fail(f"undefined variable {quote(token.text)}")
                return Variable(token.pos, (token.text,))
            case Kind.FIELD:
                return Field(token.pos, (token.text[1:],))
            case Kind.BOOL:
                return Bool(token.pos, token.text == "true")
            case Kind.LEFT_PAREN:
                self._enter()
                pipe = self._pipeline("parenthesized pipeline", Kind.RIGHT_PAREN)
                self._leave()
                return pipe
        if token.kind in _STRINGS:
            return StringLiteral(token.pos, token.text, self._unquoted(token))
        if token.kind in _NUMBERS:
            return self._number(token)
        self._back(token)
        return None

    def _function(self, token: Token) -> Identifier:
        if token.text not in self.shared.functions:
            named = quote(token.text)
            message = f"template: :{self.latest.line}: function {named} not defined"
            raise GoTemplateUnsupported(f"the function {named}", message)
        return Identifier(token.pos, token.text)

    def _number(self, token: Token) -> NumberLiteral:
        if token.kind is Kind.COMPLEX:
            raise GoTemplateUnsupported(f"the complex number {token.text}")
        try:
            read = parse_character if token.kind is Kind.CHAR_CONSTANT else parse_number
            return NumberLiteral(token.pos, token.text, read(token.text))
        except LiteralError as error:
            raise self._fail(str(error)) from None
