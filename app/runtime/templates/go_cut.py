"""What a template of the old kind says before the answer: everything up to the first {{ .Response }}.

Ollama ends the prompt of such a template there, so that the model goes on where the answer belongs.
"""

from __future__ import annotations

from dataclasses import replace

from app.runtime.templates.go_nodes import Action, Block, Branch, Command, Field, Node, Operand, Pipe


def until_response(tree: Block) -> Block:
    """`tree` without what follows `.Response`. Conditions are kept whole: naming it there cuts nothing.

    One difference: an {{else}} behind a cut branch, at which Ollama itself breaks, is left out.
    """
    return _Cut().block(tree)


class _Cut:
    def __init__(self) -> None:
        self.done = False

    def block(self, block: Block) -> Block:
        kept = [node for node in map(self._node, block.nodes) if node is not None]
        return replace(block, nodes=tuple(kept))

    def _node(self, node: Node) -> Node | None:
        if self.done:
            return None
        match node:
            case Block():
                return self.block(node)
            case Branch():
                body = self.block(node.body)
                otherwise = None if node.otherwise is None or self.done else self.block(node.otherwise)
                return replace(node, body=body, otherwise=otherwise)
            case Action():
                pipe = self._pipe(node.pipe)
                return None if pipe is None else replace(node, pipe=pipe)
        return node

    def _pipe(self, pipe: Pipe) -> Pipe | None:
        commands: list[Command] = []
        for command in pipe.commands:
            args = tuple(argument for argument in map(self._argument, command.args) if argument is not None)
            if not args:
                return None
            commands.append(replace(command, args=args))
        return replace(pipe, commands=tuple(commands))

    def _argument(self, argument: Operand) -> Operand | None:
        if isinstance(argument, Field) and "Response" in argument.names:
            self.done = True
            return argument
        if self.done:
            return None
        return self._pipe(argument) if isinstance(argument, Pipe) else argument
