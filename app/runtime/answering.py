"""The answer of a loaded model, part by part: text, thinking and tool calls told apart.

Two ways (protocol 2.4). A model that uses its file's own template is chatted with: the worker renders and parses,
and tool calls come with the end. A model with a Go template completes a prompt made here; thinking and calls are
found in its text by the marks that its template shows, each call as soon as it is whole.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from app.core.errors import GenerationFailed
from app.core.generation import Json
from app.runtime.generation import Loaded
from app.runtime.preparation import Prepared, maker_for
from app.runtime.schema_watch import held_to
from app.runtime.templates.go_hints import thinking_tags, tool_call_tag
from app.runtime.thinking import BLANKS, ThinkingSplitter
from app.runtime.tool_calls import ToolCallParser, tool_names
from app.runtime.worker_client import Final, Piece, WorkerCall
from app.runtime.worker_requests import chat_request, completion_request, special_token, with_logprobs
from app.wire.go_json import JsonError, loads
from app.wire.ollama_answers import Said, logprobs_of
from app.wire.requests import output_format

REPEATS = 30  # so many events in a row with the same text are an answer that has got stuck (protocol 2.6)


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of an answer. `raw` is all that the model wrote, before anything was told apart (completions only)."""

    said: Said
    final: Final
    raw: str = ""


async def answer(loaded: Loaded, prepared: Prepared) -> AsyncGenerator[Said | Ended, None]:
    """The parts of the answer, the last one `Ended`; waits for a slot first. Closing it stops the worker."""
    async with loaded.runner.slot():
        if prepared.prompt is None:
            parts = _chatted(loaded, prepared)
        else:
            parts = _completed(loaded, prepared, prepared.prompt)
        async with aclosing(parts) as stream:
            async for part in stream:
                yield part


async def _chatted(loaded: Loaded, prepared: Prepared) -> AsyncGenerator[Said | Ended, None]:
    form, num_ctx = output_format(loaded.body), loaded.runner.num_ctx
    request = chat_request(prepared.messages, loaded.tools, loaded.think, loaded.sampling, num_ctx, form)
    request = with_logprobs(request, loaded.body, chat=True)
    async with aclosing(held_to(loaded.runner, request, loaded.runner.worker.running.chat(request))) as events:
        async for event in events:
            if isinstance(event, Final):
                yield Ended(Said(event.text, event.thinking, tuple(_called(call) for call in event.calls)), event)
                return
            yield Said(event.text, event.thinking, (), logprobs_of(event.probabilities, top=_wants_top(loaded)))


def _called(call: WorkerCall) -> Json:
    try:
        arguments = loads(call.arguments) if call.arguments.strip() else {}
    except JsonError as error:
        raise _bad_arguments(call, error.message) from error
    if not isinstance(arguments, dict):
        raise _bad_arguments(call, "it is no JSON object")
    identity: dict[str, Json] = {"id": call.id} if call.id else {}
    return identity | {"function": {"index": call.index, "name": call.name, "arguments": arguments}}


def _bad_arguments(call: WorkerCall, why: str) -> GenerationFailed:
    text = f'llama-server returned invalid tool call arguments for "{call.name}": {why}'
    return GenerationFailed("worker", text)


async def _completed(loaded: Loaded, prepared: Prepared, prompt: str) -> AsyncGenerator[Said | Ended, None]:
    """Where an answer with thinking is to have a form, the model thinks freely first. As soon as it begins to answer
    it is stopped and asked again, with its thinking in the prompt and the form to hold to."""
    reader = AnswerReader.for_request(loaded, prompt)
    form = output_format(loaded.body)
    if form is not None and loaded.chat and reader.splits_thinking:
        thinking: list[str] = []
        async with aclosing(_pass(loaded, prepared, prompt, reader, None, until_answer=True)) as parts:
            async for part in parts:
                yield part
                if isinstance(part, Ended):
                    return
                thinking.append(part.thinking)
        if thought := "".join(thinking):
            messages = [*prepared.messages, {"role": "assistant", "thinking": thought}]
            prompt, _ = await maker_for(loaded).prompt(messages, truncate=loaded.truncate)
    async with aclosing(_pass(loaded, prepared, prompt, reader, form)) as parts:
        async for part in parts:
            yield part


async def _pass(
    loaded: Loaded, prepared: Prepared, prompt: str, reader: AnswerReader, form: Json, *, until_answer: bool = False
) -> AsyncGenerator[Said | Ended, None]:
    """One completion. `until_answer` ends it, without an `Ended`, where thinking is over and text begins."""
    top, raw, repeats = _wants_top(loaded), [], _Repeats()
    request = await _completion(loaded, prepared, prompt, reader, form)
    async with aclosing(held_to(loaded.runner, request, loaded.runner.worker.running.complete(request))) as events:
        async for event in events:
            repeats.count(event)
            raw.append(event.text)
            logprobs = logprobs_of(event.probabilities, top=top) if isinstance(event, Piece) else []
            thinking, text = reader.split(event.text, last=isinstance(event, Final))
            if until_answer and text:
                if thinking or logprobs:
                    yield Said("", thinking, (), logprobs)
                return
            calls, text = reader.calls(text, last=isinstance(event, Final))
            said = Said(text, thinking, tuple(calls), logprobs)
            if isinstance(event, Final):
                yield Ended(said, event, "".join(raw))
                return
            if text or thinking or calls or logprobs:
                yield said


async def _completion(
    loaded: Loaded, prepared: Prepared, prompt: str, reader: AnswerReader, form: Json
) -> dict[str, Json]:
    num_ctx, images = loaded.runner.num_ctx, prepared.images
    text: str | list[int] = prompt
    if loaded.truncate and not images:
        keep, shift = loaded.sampling.num_keep, loaded.runner.launch.shift
        text = await maker_for(loaded).within_context(prompt, keep, shift=shift)
    elif not images:
        text = maker_for(loaded).within_reach(prompt)
    request = completion_request(text, loaded.sampling, num_ctx, form, images=images)
    if reader.special_tokens:
        request["preserved_tokens"] = list(reader.special_tokens)
    return with_logprobs(request, loaded.body, chat=False)


def _wants_top(loaded: Loaded) -> bool:
    return isinstance(top := loaded.body.get("top_logprobs"), int) and top > 0


class _Repeats:
    """Ends an answer that has got stuck."""

    def __init__(self) -> None:
        self._last, self._times = "", 0

    def count(self, event: Piece | Final) -> None:
        """Raises `GenerationFailed` at the thirty-first repetition."""
        stripped = event.text.strip()
        self._last, self._times = stripped, self._times + 1 if stripped == self._last else 0
        if self._times > REPEATS and isinstance(event, Piece):
            raise GenerationFailed("worker", "prediction aborted, token repeat limit reached")


class AnswerReader:
    """Tells thinking, tool calls and text apart in one answer; without a splitter and a parser all is text."""

    def __init__(self, splitter: ThinkingSplitter | None, parser: ToolCallParser | None, marks: Iterable[str]) -> None:
        self._splitter, self._parser = splitter, parser
        self.special_tokens = tuple(token for mark in marks if (token := special_token(mark)))

    @classmethod
    def for_request(cls, loaded: Loaded, prompt: str) -> AnswerReader:
        """By the marks that the model's template shows."""
        template = loaded.model.template
        opening, closing = _thinking_marks(loaded)
        splitter, parser, marks = None, None, []
        if loaded.think and opening and closing:
            opened = prompt.strip(BLANKS).endswith(opening)
            splitter = ThinkingSplitter(opening, closing, opened=opened)
            marks += [opening, closing]
        if loaded.tools and template is not None:
            mark = tool_call_tag(template)
            parser = ToolCallParser(mark, tool_names(loaded.tools))
            marks.append(mark)
        return cls(splitter, parser, marks)

    @property
    def splits_thinking(self) -> bool:
        return self._splitter is not None

    def split(self, text: str, *, last: bool) -> tuple[str, str]:
        """(thinking, the rest) of the next piece of the answer."""
        if self._splitter is None:
            return "", text
        thinking, said = self._splitter.feed(text)
        if last:
            more, rest = self._splitter.rest()
            return thinking + more, said + rest
        return thinking, said

    def calls(self, text: str, *, last: bool) -> tuple[list[Json], str]:
        """(whole calls, text) of what is no thinking."""
        if self._parser is None:
            return [], text
        calls, said = self._parser.feed(text)
        return calls, said + self._parser.rest() if last else said


def _thinking_marks(loaded: Loaded) -> tuple[str, str]:
    """What stands around thinking. /api/generate with the file's own template knows it only by its usual marks."""
    model = loaded.model
    if model.native:
        return ("<think>", "</think>") if "thinking" in model.capabilities else ("", "")
    return thinking_tags(model.template) if model.template else ("", "")
