"""What the tree of a template tells about the answers of its model: the marks of thinking and of tool calls.

Ollama 0.33 looks at a Go template in the same way (its packages thinking and tools), to know what to split off.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.runtime.templates.go_nodes import Action, Block, Branch, Call, Field, Node, Pipe, Text
from app.runtime.templates.go_template import GoTemplate

NO_TAG = "{"  # a call begins with its JSON


def thinking_tags(template: GoTemplate) -> tuple[str, str]:
    """The texts around `.Thinking` inside the range over `.Messages`, e.g. ("<think>", "</think>"); "" for none.

    They are the first and the last text of the innermost list of nodes that holds the field; the last such field
    of the template decides.
    """
    return _thinking(template.trees[""], None, ("", ""))


def _thinking(block: Block, looped: Branch | None, found: tuple[str, str]) -> tuple[str, str]:
    for node in block.nodes:
        pipe = node.pipe if isinstance(node, Action | Branch | Call) else None
        over = node if isinstance(node, Branch) and node.keyword == "range" else looped
        inside = over is not None and _names_first(over.pipe, "Messages")
        if inside and _names_first(pipe, "Thinking"):
            found = _edges(block, found)
        if isinstance(node, Branch):
            for inner in (node.body, node.otherwise):
                found = _thinking(inner, over, found) if inner is not None else found
    return found


def _names_first(pipe: Pipe | None, name: str) -> bool:
    """Whether a field that starts with `name` is an argument of the pipeline, at any depth of parentheses."""
    arguments = [argument for command in pipe.commands for argument in command.args] if pipe else []
    return any(
        isinstance(argument, Field)
        and argument.names[0] == name
        or isinstance(argument, Pipe)
        and _names_first(argument, name)
        for argument in arguments
    )


def _edges(block: Block, found: tuple[str, str]) -> tuple[str, str]:
    first, last = block.nodes[0], block.nodes[-1]
    opening = first.text.strip() if isinstance(first, Text) else found[0]
    return opening, last.text.strip() if isinstance(last, Text) else found[1]


def tool_call_tag(template: GoTemplate) -> str:
    """What a tool call begins with, e.g. "<tool_call>" or "[TOOL_CALLS] ["; `NO_TAG` where the template shows none.

    It is the first text inside the first {{ if }} that names `.ToolCalls`, up to the brace that opens the call.
    """
    branch = _calls_branch(template.trees[""].nodes)
    text, _ = _first_text(branch.body.nodes) if branch else (None, True)
    tag = (text or "").replace("\r\n", "\n").partition("{")[0].strip()
    return tag or NO_TAG


def _calls_branch(nodes: Iterable[Node]) -> Branch | None:
    for node in nodes:
        if not isinstance(node, Branch):
            continue
        arguments = [argument for command in node.pipe.commands for argument in command.args]
        named = any(isinstance(argument, Field) and "ToolCalls" in argument.names for argument in arguments)
        if node.keyword == "if" and named:
            return node
        for block in (node.body, node.otherwise):
            found = _calls_branch(block.nodes) if block is not None else None
            if found is not None:
                return found
    return None


def _first_text(nodes: Iterable[Node]) -> tuple[str | None, bool]:
    """(the first text that is not blank, whether to stop looking): an action or a finished branch ends the search."""
    for node in nodes:
        if isinstance(node, Text) and node.text.strip():
            return node.text, True
        if isinstance(node, Action):
            return None, True
        if isinstance(node, Branch):
            for block in (node.body, node.otherwise):
                text, _ = _first_text(block.nodes) if block is not None else (None, False)
                if text is not None:
                    return text, True
            return None, True
    return None, False
