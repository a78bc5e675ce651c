"""From a request to a prompt: which messages, in which template, and what is left out when they do not fit.

Source: protocol 2.5, and the recordings generate_render, chat_render, generate_long_*, chat_derived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from app.core.errors import BadRequest
from app.core.generation import Json
from app.runtime.library import PLAIN_TEMPLATE, LocalModel
from app.runtime.prompt_bounds import bounds_of
from app.runtime.templates.go_template import GoTemplate
from app.runtime.templates.go_template import parse as parse_template
from app.runtime.thinking import ThinkingSplitter
from app.runtime.tool_shapes import images_of
from app.runtime.worker_client import WorkerClient
from app.runtime.worker_requests import template_request

Message = Mapping[str, Json]

TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)
_PLAIN = parse_template(PLAIN_TEMPLATE)


def generate_messages(model: LocalModel, body: Mapping[str, Json]) -> list[Message]:
    """/api/generate as a chat: system, the model's own messages (unless `context` goes on), the prompt."""
    system = body.get("system") or model.system
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    if body.get("context") is None:
        messages += model.messages
    asked: dict[str, Json] = {"role": "user", "content": body.get("prompt") or ""}
    return [*messages, asked | ({"images": body["images"]} if body.get("images") else {})]


def chat_messages(model: LocalModel, given: Sequence[Message]) -> list[Message]:
    """The model's own messages and the request's; its system prompt unless the request begins with one."""
    messages = [*model.messages, *given]
    if model.system and given[0].get("role") != "system":
        messages = [{"role": "system", "content": model.system}, *messages]
    if model.config.get("model_family") == "qwen3" or model.name.model == "deepseek-r1":
        return _without_old_thinking(messages)
    return messages


def _without_old_thinking(messages: list[Message]) -> list[Message]:
    """Answers before the last question without the thinking that stands in their text."""
    last = max((at for at, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    return [
        {**message, "content": _answer_in(message)} if at < last and message.get("role") == "assistant" else message
        for at, message in enumerate(messages)
    ]


def _answer_in(message: Message) -> str:
    splitter = ThinkingSplitter("<think>", "</think>")
    return splitter.feed(str(message.get("content") or ""))[1] + splitter.rest()[1]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The messages that fit, and their prompt where it had to be made to know that."""

    messages: list[Message]
    prompt: str | None = None


class PromptMaker:
    """Renders messages for one model with one worker. `tools` and `think` are the request's."""

    def __init__(
        self,
        model: LocalModel,
        worker: WorkerClient,
        num_ctx: int,
        *,
        tools: Json = None,
        think: bool | str | None = None,
    ) -> None:
        self._model, self._worker, self._num_ctx = model, worker, num_ctx
        self._tools, self._think = tools, think

    async def render(self, messages: Sequence[Message], *, template: GoTemplate | None = None) -> str:
        """The prompt for all of `messages`. Raises `GoTemplateError`, or `HostRefused` from the worker's renderer."""
        if template is None and self._model.native and self._model.own_template:
            bare = [{key: value for key, value in message.items() if key != "images"} for message in messages]
            request = template_request(bare, self._tools, self._think)
            return self._without_bos(await self._worker.apply_template(request))
        tools = cast(list[Message] | None, self._tools)
        chosen = template or self._model.template or _PLAIN
        return chosen.render(messages, tools=tools, think=self._think)

    async def fitting(self, messages: Sequence[Message], *, truncate: bool) -> Fitted:
        """As many of the newest messages as fit; system messages and the last one always stay."""
        if not truncate or len(messages) == 1:
            return Fitted(list(messages))
        fitted, fits = await self._beginning_at(messages, 0)
        low, high = 1, len(messages) - 1
        while not fits and low < high:  # fewer messages make a shorter prompt: the first that fits is found by halves
            middle = (low + high) // 2
            if (await self._beginning_at(messages, middle))[1]:
                high = middle
            else:
                low = middle + 1
        return fitted if fits else (await self._beginning_at(messages, high))[0]

    async def _beginning_at(self, messages: Sequence[Message], start: int) -> tuple[Fitted, bool]:
        """The messages from `start` on with all system messages before it, and whether they fit."""
        system = [message for message in messages[:start] if message.get("role") == "system"]
        kept = [*system, *messages[start:]]
        prompt = await self.render(kept)
        fits = len(prompt.encode()) <= self._num_ctx
        if not fits and not self._surely_exceeds(prompt):
            fits = len(await self._worker.tokenize(prompt)) <= self._num_ctx
        return Fitted(kept, prompt), fits

    def _surely_exceeds(self, prompt: str) -> bool:
        bounds = bounds_of(self._model.gguf) if self._model.gguf else None
        return bounds is not None and bounds.surely_exceed(prompt, self._num_ctx)

    def _shortened(self, prompt: str) -> str:
        """`prompt`, without a part of its middle that no cut to the context would leave."""
        bounds = bounds_of(self._model.gguf) if self._model.gguf and self._surely_exceeds(prompt) else None
        return bounds.shortened(prompt, self._num_ctx, self._num_ctx) if bounds else prompt

    async def prompt(self, messages: Sequence[Message], *, truncate: bool) -> tuple[str, list[str]]:
        """The prompt of the messages that fit, with a mark for each of their images, and those images."""
        fitted = await self.fitting(messages, truncate=truncate)
        images = images_of(fitted.messages)
        if fitted.prompt is not None and not images:
            return fitted.prompt, []
        return await self.render(marked_images(fitted.messages)), images

    def within_reach(self, prompt: str) -> str:
        """`prompt`, for a worker that is to refuse one that does not fit. Raises `BadRequest` where that is certain
        already: a worker counts all the tokens before it says so."""
        if self._surely_exceeds(prompt):
            raise BadRequest(TOO_LONG)
        return prompt

    async def within_context(self, prompt: str, num_keep: int, *, shift: bool) -> str | list[int]:
        """`prompt`, or its tokens with a piece cut out of the middle where it fills the context.

        The first `num_keep` tokens stay, and of the rest the newest half of the context. Raises `BadRequest` where
        the context must not be shifted.
        """
        if self._num_ctx <= 1 or len(prompt.encode()) < self._num_ctx:
            return prompt
        tokens = await self._worker.tokenize(self._shortened(prompt), add_special=True)
        if len(tokens) <= self._num_ctx - 1:
            return prompt
        if not shift:
            raise BadRequest(TOO_LONG)
        keep = len(tokens) if num_keep < 0 else num_keep
        keep = min(keep + int(self._adds_bos()), self._num_ctx - 1)
        limit = self._num_ctx - max((self._num_ctx - keep) // 2, 1)
        return tokens[:keep] + tokens[keep + len(tokens) - limit :]

    async def context(self, text: str) -> list[int]:
        """The tokens of prompt and answer, which a later request may send back. Of a text far beyond the context those
        in the middle are left out, as they would be from that request."""
        return await self._worker.tokenize(self._shortened(text))

    def _adds_bos(self) -> bool:
        gguf = self._model.gguf
        return gguf is not None and gguf.metadata.get("tokenizer.ggml.add_bos_token") is True

    def _without_bos(self, prompt: str) -> str:
        """A rendered prompt without its BOS, where the tokenizer will put one before it anyway."""
        gguf = self._model.gguf
        if gguf is None or not self._adds_bos():
            return prompt
        number, tokens = gguf.number("tokenizer.ggml.bos_token_id"), gguf.metadata.get("tokenizer.ggml.tokens")
        if number is None or not isinstance(tokens, list) or not 0 <= number < len(tokens):
            return prompt
        return prompt.removeprefix(str(tokens[number]))


def marked_images(messages: Sequence[Message]) -> list[Message]:
    """Messages whose text says where their images are: [img-0], [img-1], … where it says [img], or before it."""
    marked: list[Message] = []
    count = 0
    for message in messages:
        before, content = "", str(message.get("content") or "")
        for _ in images_of([message]):
            mark, count = f"[img-{count}]", count + 1
            if "[img]" in content:
                content = content.replace("[img]", mark, 1)
            else:
                before += mark
        marked.append({**message, "content": before + content} if images_of([message]) else message)
    return marked
