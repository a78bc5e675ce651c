"""Values of one generation: the request, the pieces of its answer, and what it cost. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Endpoint = Literal["chat", "generate"]


class CacheMode(StrEnum):
    """What a request wants of the response cache."""

    USE = "use"
    REFRESH = "refresh"
    BYPASS = "bypass"


class Priority(StrEnum):
    """The two classes of the queue."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One `/api/chat` or `/api/generate` request in Ollama's shape.

    `body` is the decoded JSON object, whole (unknown keys included, so that nothing is lost on the way and the
    cache key covers everything). It has been checked by `wire` and is never changed; use `with_body`.
    """

    endpoint: Endpoint
    body: Mapping[str, Json]

    @property
    def model(self) -> str:
        model = self.body.get("model")
        return model if isinstance(model, str) else ""

    @property
    def stream(self) -> bool:
        """Absent and null mean true (recorded: generate and chat stream by default)."""
        return self.body.get("stream") is not False

    @property
    def options(self) -> Mapping[str, Json]:
        options = self.body.get("options")
        return options if isinstance(options, dict) else {}

    @property
    def num_ctx(self) -> int | None:
        value = self.options.get("num_ctx")
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def is_load_or_unload(self) -> bool:
        """An empty prompt, or no messages, loads the model (with keep_alive 0: unloads it) and generates nothing."""
        return not (self.body.get("messages") if self.endpoint == "chat" else self.body.get("prompt"))

    @property
    def deterministic(self) -> bool:
        """Temperature 0 or an explicit seed: only then may an answer be cached without being asked to."""
        temperature, seed = self.options.get("temperature"), self.options.get("seed")
        fixed_seed = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
        return (temperature == 0 and temperature is not False) or fixed_seed

    def with_body(self, **changes: Json) -> GenerationRequest:
        return GenerationRequest(self.endpoint, {**self.body, **changes})


@dataclass(frozen=True, slots=True)
class Usage:
    """What the host counted. Durations in nanoseconds; `prompt_tokens` includes cached ones, `prefill_ns` does not."""

    total_ns: int = 0
    load_ns: int = 0
    prompt_tokens: int = 0
    prefill_ns: int = 0
    output_tokens: int = 0
    decode_ns: int = 0

    @property
    def decode_tps(self) -> float | None:
        """Decode speed in tokens per second; None where it was not measured. A single token comes out of reading the
        prompt: hosts tell some microseconds of decoding for it, which would be a speed of hundreds of thousands."""
        return self.output_tokens / (self.decode_ns / 1e9) if self.decode_ns and self.output_tokens > 1 else None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One record of a host's answer.

    `line` is the JSON text as the host sent it, without the newline, so that a client of the same dialect gets
    the same bytes. `whole` marks an answer that came as one JSON object instead of a stream (load, unload, render).
    `more`: the next record is here already, so that both may be written together.
    """

    line: bytes
    text: str = ""
    thinking: str = ""
    done: bool = False
    done_reason: str = ""
    usage: Usage | None = None
    whole: bool = False
    more: bool = False


class Span(NamedTuple):
    """One layer's share of a request: `start` and `end` in seconds since the request arrived.

    A tuple, because each request makes a handful, several times as fast as frozen dataclasses.
    """

    name: str
    start: float
    end: float
    attributes: Mapping[str, str | int | float | bool] = MappingProxyType({})

    @property
    def seconds(self) -> float:
        return self.end - self.start
