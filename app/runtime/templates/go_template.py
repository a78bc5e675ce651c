"""Prompts from the Go templates of an Ollama store or a Modelfile.

The subset of Go's text/template that chat templates use, over the values that Ollama 0.33 gives to them: see
`go_types` for the fields of messages and tools, `go_functions` for the functions. Rendering is a pure function of
its arguments (and of the day, for currentDate), bounded in steps, depth and size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache

from app.core.generation import Json
from app.runtime.templates.go_budget import Budget, Sink, byte_length, readable
from app.runtime.templates.go_cut import until_response
from app.runtime.templates.go_errors import MAX_TEMPLATE, GoTemplateError, GoTemplateLimit, GoTemplateUnsupported
from app.runtime.templates.go_exec import Execution
from app.runtime.templates.go_functions import BUILTINS, NAMES, OLLAMA
from app.runtime.templates.go_nodes import Action, Block, Command, Field, Pipe, identifiers
from app.runtime.templates.go_parser import parse_trees
from app.runtime.templates.go_types import MESSAGES, clean, mapping_of, message_value, role_of, text_of, tools_value
from app.runtime.templates.go_values import ANY_MAP, GoMap, Value, make_slice

__all__ = ["GoTemplate", "GoTemplateError", "GoTemplateLimit", "GoTemplateUnsupported", "parse", "render_chat"]

Message = Mapping[str, Json]
_LEVELS = ("high", "medium", "low", "max")
_RESPONSE = Action(0, Pipe(0, False, (), (Command(0, (Field(0, ("Response",)),)),)))
_FUNCTIONS = {**BUILTINS, **OLLAMA}


@dataclass(frozen=True, slots=True)
class GoTemplate:
    """A parsed template. `variables` are the names it uses, in lower case and sorted, from which Ollama concludes
    what a model can do: "tools", "suffix" (insert), "messages", "thinking"."""

    text: str
    trees: Mapping[str, Block]
    variables: tuple[str, ...]

    def execute(self, values: Mapping[str, Value], *, today: date | None = None) -> str:
        """The template over a map of values, without anything that Ollama does around it."""
        output = Sink(Budget())
        self._run(output, dict(values), today or _today())
        return readable(output.text())

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Json]] | None = None,
        think: bool | str | None = None,
        prompt: str = "",
        suffix: str = "",
        today: date | None = None,
    ) -> str:
        """The prompt for a chat, or, with `prompt` and `suffix`, for filling in what stands between them.

        A template without `.Messages` is executed once for every turn, and the last time only up to `.Response`.
        Raises `GoTemplateError` where Ollama's own execution would fail, or a bound is reached.
        """
        thinking: dict[str, Value] = {
            "Think": think in _LEVELS if isinstance(think, str) else bool(think),
            "ThinkLevel": clean(think) if isinstance(think, str) else "medium" if think else "",
            "IsThinkSet": think is not None,
        }
        output, day = Sink(Budget()), today or _today()
        try:
            if prompt and suffix:
                values: dict[str, Value] = {"Prompt": clean(prompt), "Suffix": clean(suffix), "Response": ""}
                self._run(output, values | thinking, day)
            elif "messages" in self.variables:
                self._run(output, _chat_values(messages, tools) | thinking, day)
            else:
                self._turns(output, _collate(messages)[1], thinking, day)
        except RecursionError:
            raise GoTemplateLimit("the template is nested too deeply") from None
        return readable(output.text())

    def _run(self, output: Sink, values: dict[str, Value], today: date) -> None:
        Execution(self.text, self.trees, _FUNCTIONS, output, today).run(GoMap(ANY_MAP, values))

    def _turns(
        self, output: Sink, messages: list[tuple[Message, str]], thinking: dict[str, Value], today: date
    ) -> None:
        """The old way: .System, .Prompt and .Response, turn by turn."""
        turn: dict[str, Value] = {"System": "", "Prompt": "", "Response": ""}
        for message, content in messages:
            role = role_of(message)
            if role == "system" and (turn["Prompt"] or turn["Response"]) or role == "user" and turn["Response"]:
                self._run(output, turn | thinking, today)
                turn = dict.fromkeys(turn, "")
            key = {"system": "System", "user": "Prompt", "assistant": "Response"}.get(role)
            if key:
                turn[key] = content
        # Ollama executes the last turn in a template of its own: without its functions, its named templates and
        # its rule for missing keys.
        trees = {"": until_response(self.trees[""])}
        last = Execution(self.text, trees, BUILTINS, output, today, missing_is_zero=False)
        last.run(GoMap(ANY_MAP, turn | thinking))


def _today() -> date:
    return datetime.now().astimezone().date()


def _collate(messages: Sequence[Message]) -> tuple[str, list[tuple[Message, str]]]:
    """(all system texts, messages with their texts). Neighbours of one role become one message, which keeps the
    first one's images and calls; answers of tools stay apart."""
    system: list[str] = []
    merged: list[tuple[Message, list[str]]] = []
    for message in messages:
        mapping_of(message, "a message")
        role, content = role_of(message), text_of(message.get("content"), "content")
        if role == "system":
            system.append(content)
        if merged and role != "tool" and role_of(merged[-1][0]) == role:
            merged[-1][1].append(content)
        else:
            merged.append((message, [content]))
    return "\n\n".join(system), [(message, "\n\n".join(parts)) for message, parts in merged]


def _chat_values(messages: Sequence[Message], tools: Sequence[Mapping[str, Json]] | None) -> dict[str, Value]:
    system, merged = _collate(messages)
    shown: list[Value] = [message_value(message, content) for message, content in merged]
    return {
        "System": system,
        "Messages": make_slice(MESSAGES, shown or None),
        "Tools": tools_value(tools),
        "Response": "",
    }


@lru_cache(maxsize=32)
def parse(text: str) -> GoTemplate:
    """Reads a template, as Ollama does when it is created or loaded.

    Raises `GoTemplateError` with Go's sentence ("template: :1: unclosed action"), `GoTemplateUnsupported` for what
    lies outside the subset (an unknown function carries Go's sentence too), `GoTemplateLimit` past a bound.
    """
    text = clean(text)
    if byte_length(text) > MAX_TEMPLATE:
        raise GoTemplateLimit(f"the template is longer than {MAX_TEMPLATE} bytes")
    try:
        trees = parse_trees(text, NAMES)
        names = {name.lower() for tree in trees.values() for name in identifiers(tree)}
    except LookupError as error:
        raise GoTemplateError(str(error)) from None
    except RecursionError:
        raise GoTemplateLimit("the template is nested too deeply") from None
    if "messages" not in names and "response" not in names:
        trees[""] = replace(trees[""], nodes=(*trees[""].nodes, _RESPONSE))
        names.add("response")
    return GoTemplate(text, trees, tuple(sorted(names)))


def render_chat(
    template_text: str,
    messages: Sequence[Message],
    *,
    system: str = "",
    tools: Sequence[Mapping[str, Json]] | None = None,
    think: bool | str | None = None,
    suffix: str = "",
    prompt: str = "",
    response: str = "",
) -> str:
    """The prompt that Ollama makes of a template and a request.

    `messages`, `tools` and `think` have the shapes of the API (think: None is unset, else a bool or a level).
    `system` goes before the messages; `prompt` is a user's turn after them, or with `suffix` the text before a gap;
    `response` is the beginning of the answer. Errors as `parse` and `GoTemplate.render`.
    """
    template = parse(template_text)
    if prompt and suffix:
        return template.render((), think=think, prompt=prompt, suffix=suffix)
    turns: list[Message] = [{"role": "system", "content": system}] if system else []
    turns += messages
    turns += [{"role": "user", "content": prompt}] if prompt else []
    turns += [{"role": "assistant", "content": response}] if response else []
    return template.render(turns, tools=tools, think=think)
