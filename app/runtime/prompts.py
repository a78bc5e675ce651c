"""From a request to a prompt: which messages, in which template, and what is left out when they do not fit.

Source: protocol 2.5, and the recordings generate_render, chat_render, generate_long_*, chat_derived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from app.core.errors import BadRequest
from app.core.generation import Json
from app.runtime.library import LocalModel
from app.runtime.templates.go_template import GoTemplate
from app.runtime.worker_client import WorkerClient

Message = Mapping[str, Json]

TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)


def generate_messages(model: LocalModel, body: Mapping[str, Json]) -> list[Message]:
    """/api/generate as a chat: system, the model's own messages (unless `context` goes on), the prompt."""
    system = body.get("system") or model.system
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    if body.get("context") is None:
        messages += model.messages
    return [*messages, {"role": "user", "content": body.get("prompt") or ""}]


def chat_messages(model: LocalModel, given: Sequence[Message]) -> list[Message]:
    """The model's own messages and the request's; its system prompt unless the request begins with one."""
    messages = [*model.messages, *given]
    if model.system and given[0].get("role") != "system":
        return [{"role": "system", "content": model.system}, *messages]
    return messages


class PromptMaker:
    """Renders messages for one model with one worker."""

    def __init__(self, model: LocalModel, worker: WorkerClient, num_ctx: int) -> None:
        self._model, self._worker, self._num_ctx = model, worker, num_ctx

    async def render(self, messages: Sequence[Message], *, template: GoTemplate | None = None) -> str:
        """The prompt for all of `messages`. Raises `GoTemplateError`, or `HostRefused` from the worker's renderer."""
        chosen = template or self._model.template
        if chosen is not None:
            return chosen.render(messages)
        if self._model.has_own_template:
            return self._without_bos(await self._worker.apply_template([_for_worker(m) for m in messages]))
        return "".join(str(m.get("content") or "") for m in messages if m.get("role") in ("user", "assistant"))

    async def fitting(self, messages: Sequence[Message], *, truncate: bool) -> str:
        """The prompt of as many of the newest messages as fit; system messages and the last one always stay."""
        if not truncate or len(messages) == 1:
            return await self.render(messages)
        prompt = ""
        for start in range(len(messages)):
            system = [message for message in messages[:start] if message.get("role") == "system"]
            prompt = await self.render([*system, *messages[start:]])
            if len(prompt) < self._num_ctx or len(await self._worker.tokenize(prompt)) <= self._num_ctx:
                break
        return prompt

    async def within_context(self, prompt: str, num_keep: int, *, shift: bool) -> str | list[int]:
        """`prompt`, or its tokens with a piece cut out of the middle where it fills the context.

        The first `num_keep` tokens stay, and of the rest the newest half of the context. Raises `BadRequest` where
        the context must not be shifted.
        """
        if self._num_ctx <= 1 or len(prompt.encode()) < self._num_ctx:
            return prompt
        tokens = await self._worker.tokenize(prompt, add_special=True)
        if len(tokens) <= self._num_ctx - 1:
            return prompt
        if not shift:
            raise BadRequest(TOO_LONG)
        keep = len(tokens) if num_keep < 0 else num_keep
        keep = min(keep + int(self._adds_bos()), self._num_ctx - 1)
        limit = self._num_ctx - max((self._num_ctx - keep) // 2, 1)
        return tokens[:keep] + tokens[keep + len(tokens) - limit :]

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


def _for_worker(message: Message) -> Json:
    """Only what a template reads, so that nothing of a request reaches the worker unchecked."""
    return cast(Json, {"role": str(message.get("role") or "user"), "content": str(message.get("content") or "")})
