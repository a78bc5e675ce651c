"""What the supervisor asks of a worker over HTTP, and the events of a completion or a chat.

Every request has a connection of its own (the worker closes a connection after a streamed answer in any case), and
completions are always streamed: only then does a worker notice at once that nobody listens.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import sys
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from app.core.errors import GenerationFailed, HostRefused
from app.core.generation import Json
from app.runtime.worker_http import Exchange, WorkerAddress, WorkerSaysNothing

EVENT_LIMIT = 8 << 20  # bytes of one event, as Ollama bounds them
SILENCE_SECONDS = 600.0  # between two events; in prefill there is one for every physical batch
_END_OF_CHAT = b"data: [DONE]"
STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One event with text. `probabilities` as llama.cpp gives them: [{token, logprob, top_logprobs}].

    `thinking` is what a chat's own parser in the worker took for thinking; a completion has none.
    """

    text: str
    probabilities: list[dict[str, Any]] | None = None
    thinking: str = ""


@dataclass(frozen=True, slots=True)
class Final:
    """The last event. Counts include cached prompt tokens, durations do not; nanoseconds."""

    text: str
    limited: bool
    prompt_tokens: int
    prompt_ns: int
    output_tokens: int
    output_ns: int
    thinking: str = ""
    calls: tuple[WorkerCall, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerCall:
    """A tool call that the worker's own parser found. `arguments` is JSON text as the model wrote it."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Vector:
    """The embedding of one text, in float32, and the tokens it took (with those that the model puts around it)."""

    values: array[float]
    tokens: int


class WorkerSilent(GenerationFailed):
    """No event for `SILENCE_SECONDS`, although the connection stands: whatever computes there is stuck."""


class WorkerClient:
    """Speaks to one worker. Raises `HostRefused` (the worker's status and body) and `GenerationFailed`."""

    def __init__(self, url: str, key: str) -> None:
        self.address = WorkerAddress(url, key)

    async def is_well(self, seconds: float) -> bool:
        """Whether the worker says within `seconds` that it is well."""
        try:
            async with asyncio.timeout(seconds), self.address.asked("GET", "/health", b"", seconds) as exchange:
                return await exchange.status() == 200
        except OSError:
            return False

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """Token ids; special tokens in the text are recognised."""
        answer = await self._ask("/tokenize", {"content": text, "add_special": add_special})
        tokens = answer.get("tokens")
        return [token for token in tokens if isinstance(token, int)] if isinstance(tokens, list) else []

    async def detokenize(self, tokens: list[int]) -> str:
        return str((await self._ask("/detokenize", {"tokens": list(tokens)})).get("content", ""))

    async def apply_template(self, body: Mapping[str, Json]) -> str:
        """The prompt that the model file's own chat template makes of a chat, rendered inside the worker."""
        return str((await self._ask("/apply-template", body)).get("prompt", ""))

    async def embed(self, text: str, *, raw: bool) -> Vector:
        """The embedding of `text`: of length 1, or (`raw`) as the model's pooling leaves it.

        The numbers travel as bytes: exact, a quarter of the size, and a NaN stays one.
        """
        body = {"input": text, "encoding_format": "base64", "embd_normalize": -1 if raw else 2}
        answer = await self._ask("/v1/embeddings", body)
        try:
            values = array("f", base64.b64decode(answer["data"][0]["embedding"], validate=True))
            tokens = int(answer["usage"]["prompt_tokens"])
        except (KeyError, IndexError, TypeError, ValueError, binascii.Error) as error:
            raise GenerationFailed("worker", f"error unmarshalling llama-server response: {error}") from error
        if sys.byteorder == "big":
            values.byteswap()
        return Vector(values, tokens)

    async def _ask(self, path: str, body: Mapping[str, Json]) -> dict[str, Any]:
        async with self._sent(path, body) as exchange:
            try:
                answer = json.loads(b"".join([piece async for piece in exchange.pieces()]))
            except (ValueError, OSError) as error:
                raise GenerationFailed("worker", STOPPED) from error
        return answer if isinstance(answer, dict) else {}

    @asynccontextmanager
    async def _sent(self, path: str, body: Mapping[str, Json]) -> AsyncIterator[Exchange]:
        """A request that was accepted."""
        answered = False
        try:
            async with self.address.asked("POST", path, json.dumps(body).encode(), SILENCE_SECONDS) as exchange:
                status = await exchange.status()
                answered = True
                if status >= 400:
                    text = b"".join([piece async for piece in exchange.pieces()]).decode("utf-8", "replace").strip()
                    raise HostRefused("worker", status, text)
                yield exchange
        except WorkerSaysNothing as error:
            raise WorkerSilent("worker", f"the model runner said nothing for {SILENCE_SECONDS:g} s") from error
        except OSError as error:
            said = f"an error was encountered while running the model: {error}" if answered else STOPPED
            raise GenerationFailed("worker", said) from error

    async def complete(self, body: Mapping[str, Json]) -> AsyncGenerator[Piece | Final, None]:
        """The events of one completion, the last one a `Final`. Close the iterator to stop the worker.

        A stream that ends without a `Final` raises `GenerationFailed`: the worker died.
        """
        async with self._sent("/completion", body) as exchange:
            async for event in _events(exchange):
                if event.get("error") is not None:
                    raise _in_stream(event["error"])
                if event.get("stop"):
                    yield _final(event, event.get("content") or "", limited=event.get("stop_type") == "limit")
                    return
                if event.get("content"):
                    yield Piece(event["content"], event.get("completion_probabilities"))
        raise GenerationFailed("worker", "an error was encountered while running the model: unexpected EOF")

    async def chat(self, body: Mapping[str, Json]) -> AsyncGenerator[Piece | Final, None]:
        """The events of one chat in the model file's own template; the rest is as for `complete`.

        Tool calls come in pieces and are all in the `Final`.
        """
        gathered: dict[int, WorkerCall] = {}
        async with self._sent("/v1/chat/completions", body) as exchange:
            async for event in _events(exchange):
                if event.get("error") is not None:
                    raise GenerationFailed("worker", f"llama-server chat error: {_as_go_prints(event['error'])}")
                choice = next(iter(event.get("choices") or ()), None)
                if choice is None:
                    continue
                delta = choice.get("delta") or {}
                _gather(gathered, delta.get("tool_calls") or ())
                text, thinking = delta.get("content") or "", delta.get("reasoning_content") or ""
                if choice.get("finish_reason") is not None:
                    final = _final(event, text, limited=choice["finish_reason"] == "length")
                    calls = tuple(gathered[index] for index in sorted(gathered))
                    yield replace(final, thinking=thinking, calls=calls)
                    return
                probabilities = (choice.get("logprobs") or {}).get("content")
                if text or thinking or probabilities:
                    yield Piece(text, probabilities, thinking)
        raise GenerationFailed("worker", "an error was encountered while running the model: unexpected EOF")


def _gather(gathered: dict[int, WorkerCall], pieces: Sequence[dict[str, Any]]) -> None:
    for piece in pieces:
        index, function = int(piece.get("index") or 0), piece.get("function") or {}
        before = gathered.get(index) or WorkerCall(index, "", "", "")
        gathered[index] = WorkerCall(
            index,
            before.id + (piece.get("id") or ""),
            before.name + (function.get("name") or ""),
            before.arguments + (function.get("arguments") or ""),
        )


def _as_go_prints(value: Any) -> str:
    """An error object as Go's %v shows a map: keys in order, nothing quoted."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_as_go_prints(value[key])}' for key in sorted(value))}]"
    return str(value)


def _in_stream(error: Any) -> GenerationFailed:
    said = error.get("message") if isinstance(error, dict) else error
    return GenerationFailed("worker", f"an error was encountered while running the model: {said}")


async def _events(exchange: Exchange) -> AsyncIterator[dict[str, Any]]:
    held = b""
    async for data in exchange.pieces():
        held += data
        *lines, held = held.split(b"\n")
        if len(held) > EVENT_LIMIT:
            raise GenerationFailed("worker", "llama-server response stream event exceeded 8 MB limit")
        for line in lines:
            for prefix in (b"data: ", b"error: "):
                if line.startswith(prefix) and line != _END_OF_CHAT:
                    yield _decoded(line[len(prefix) :], failed=prefix == b"error: ")


def _decoded(line: bytes, *, failed: bool) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise GenerationFailed("worker", f"error unmarshalling llama-server response: {error}") from error
    if not isinstance(event, dict):
        raise GenerationFailed("worker", "error unmarshalling llama-server response: not an object")
    return {"error": event} if failed and "error" not in event else event


def _final(event: dict[str, Any], text: str, *, limited: bool) -> Final:
    timings = event.get("timings") or {}
    return Final(
        text=text,
        limited=limited,
        prompt_tokens=int(timings.get("cache_n", 0)) + int(timings.get("prompt_n", 0)),
        prompt_ns=int(timings.get("prompt_ms", 0.0) * 1e6),
        output_tokens=int(timings.get("predicted_n", 0)),
        output_ns=int(timings.get("predicted_ms", 0.0) * 1e6),
    )
