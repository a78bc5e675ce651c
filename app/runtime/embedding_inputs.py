"""How much of a text a model can embed, and what is left of a text that is longer.

Source: protocol 2.9. Lengths are in tokens; two of them are kept for the marks around an input, unless it has them.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.core.errors import BadRequest
from app.runtime.library import LocalModel
from app.runtime.worker_client import WorkerClient

TOO_LONG = "the input length exceeds the context length"
NOTHING_LEFT = "input after truncation exceeds maximum context length"
NO_SHORTER = "input exceeds maximum context length and cannot be truncated further"
_PER_TOKEN = 64  # characters of a text that are looked at for each token of room: real text has four or five
_EDGE = 64  # tokens at the end of a part that may be other ones in the whole text
_GROWTH = 8
_MARKS = 4  # tokens around a text at most: those of begin and end, and a space that some vocabularies put before it
_APART = 12  # tokens at most for one character that is not ASCII: four bytes, and some come apart into three others


@dataclass(frozen=True, slots=True)
class _Cut:
    """The first tokens of a text, and whether they are all of it."""

    tokens: list[int]
    whole: bool


class EmbeddingInputs:
    """Fits texts into the context of one model. `num_ctx` is what was asked for; zero or less is the model's own."""

    def __init__(self, model: LocalModel, worker: WorkerClient, num_ctx: int) -> None:
        trained = model.trained_context or max(num_ctx, 0)
        self._worker, self._context = worker, min(num_ctx, trained) if num_ctx > 0 else trained
        number = model.gguf.number if model.gguf else lambda _key: None
        self._begin = number("tokenizer.ggml.bos_token_id") or 0
        self._end = number("tokenizer.ggml.eos_token_id") or 0

    async def checked(self, text: str) -> str:
        """`text`, as it is. Raises `BadRequest` where it is longer than the context."""
        if await self._shortened(text, self._context) is not None:
            raise BadRequest(TOO_LONG, "input")
        return text

    async def sendable(self, text: str) -> str:
        """`text`, left to the worker to judge, but for one that is too long whatever is around it: `BadRequest`."""
        if (
            not _is_short(text, self._context)
            and len((await self._beginning(text, self._context)).tokens) > self._context
        ):
            raise BadRequest(TOO_LONG, "input")
        return text

    async def fitting(self, text: str) -> str:
        """As much of `text` as the context holds. Raises `BadRequest` where it holds nothing."""
        shorter = await self._shortened(text, self._context)
        return text if shorter is None else await self._worker.detokenize(shorter)

    async def cut_to(self, text: str, limit: int) -> str:
        """The beginning of `text`, within `limit` too. Raises `BadRequest` where that does not make it shorter."""
        shorter = await self._shortened(text, min(self._context, limit) if limit > 0 else self._context)
        if shorter is None:
            raise BadRequest(NO_SHORTER, "input")
        return await self._worker.detokenize(shorter)

    async def _shortened(self, text: str, limit: int) -> list[int] | None:
        """The tokens that `text` is cut to, None where it fits as it is."""
        if _is_short(text, limit):
            return None
        cut = await self._beginning(text, limit)
        room = self._room(cut.tokens, limit)
        if room <= 0:
            raise BadRequest(NOTHING_LEFT, "input")
        return None if cut.whole and len(cut.tokens) <= room else cut.tokens[:room]

    def _room(self, tokens: list[int], limit: int) -> int:
        """What is left of `limit` for the text itself."""
        if tokens and tokens[0] != self._begin:
            limit -= 1
        if tokens and tokens[-1] != self._end:
            limit -= 1
        return limit

    async def _beginning(self, text: str, limit: int) -> _Cut:
        """More than `limit` tokens of `text`, or all of it.

        A text far longer than what is needed is not read to its end: of 40 megabytes a few kilobytes decide.
        """
        length = max(limit, 1) * _PER_TOKEN
        while length < len(text):
            tokens = await self._worker.tokenize(text[:length])
            if len(tokens) > max(limit, 1) + _EDGE:
                return _Cut(tokens[:-_EDGE], whole=False)
            length *= _GROWTH
        return _Cut(await self._worker.tokenize(text), whole=True)


def _is_short(text: str, limit: int) -> bool:
    """Whether a text needs no look: an ASCII character is a token at most."""
    return len(text) * (1 if text.isascii() else _APART) + _MARKS <= limit
