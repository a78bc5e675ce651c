"""A parser's view of the tokens: looking ahead, pushing back, counting depth, and failing in Go's words."""

from __future__ import annotations

from collections.abc import Container

from app.runtime.templates.go_errors import MAX_NESTING, GoTemplateError, GoTemplateLimit
from app.runtime.templates.go_lexer import Kind, Lexer, Token
from app.runtime.templates.go_nodes import Block
from app.runtime.templates.go_strconv import LiteralError, unquote


class Shared:
    """What all trees of one text have in common."""

    def __init__(self, lexer: Lexer, functions: Container[str]) -> None:
        self.lexer, self.functions = lexer, functions
        self.trees: dict[str, Block] = {}
        self.depth = 0


class Cursor:
    """The tokens of one template; those of a define inside it are read by a cursor of its own."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.lookahead: list[Token] = []  # tokens pushed back; the next one is the last
        self.latest = Token(Kind.EOF, 0, "", 0)  # the token read last: errors give its line
        self.action_line = 0  # where the action being read began

    def _next(self) -> Token:
        if self.lookahead:
            return self.lookahead.pop()
        self.latest = self.shared.lexer.next()
        return self.latest

    def _back(self, *tokens: Token) -> None:
        """Pushes back; the first of `tokens` will be next."""
        self.lookahead.extend(reversed(tokens))

    def _peek(self) -> Token:
        token = self._next()
        self._back(token)
        return token

    def _next_solid(self) -> Token:
        while True:
            token = self._next()
            if token.kind is not Kind.SPACE:
                return token

    def _peek_solid(self) -> Token:
        token = self._next_solid()
        self._back(token)
        return token

    def _fail(self, message: str) -> GoTemplateError:
        return GoTemplateError(f"template: :{self.latest.line}: {message}")

    def _unexpected(self, token: Token, context: str) -> GoTemplateError:
        if token.kind is not Kind.ERROR:
            return self._fail(f"unexpected {token} in {context}")
        extra = ""
        if self.action_line not in (0, token.line):
            extra = f" in action started at :{self.action_line}"
            if token.text.endswith(" action"):
                extra = extra.removeprefix(" in action")
        return self._fail(token.text + extra)

    def _expect(self, context: str, *kinds: Kind) -> Token:
        token = self._next_solid()
        if token.kind not in kinds:
            raise self._unexpected(token, context)
        return token

    def _enter(self) -> None:
        self.shared.depth += 1
        if self.shared.depth > MAX_NESTING:
            raise GoTemplateLimit(f"the template is nested more than {MAX_NESTING} levels deep")

    def _leave(self) -> None:
        self.shared.depth -= 1

    def _unquoted(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except LiteralError as error:
            raise self._fail(str(error)) from None
