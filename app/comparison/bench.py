"""The one way by which a comparison talks to a host, as a protocol: probes, speed and tasks are written against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.core.generation import Json, Usage
from app.core.hosts import LoadedModel, ModelDetail


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer. `logprobs` are the entries of all its records, in order, as Ollama sends them
    (`{token, logprob, bytes, top_logprobs: [...]}`). `ttft` and `seconds` by our own clock, from the moment the request
    left for the host. `complete` is false where the stream ended without `done` (Ollama's guard against 30 repeats).
    `disturbed`: other work ran on the host meanwhile."""

    text: str
    usage: Usage
    ttft: float
    seconds: float
    logprobs: Sequence[Mapping[str, Json]] = ()
    done_reason: str = ""
    complete: bool = True
    disturbed: bool = False


class Bench(Protocol):
    """One host, through Loupe's queue in the batch class, with the answer cache bypassed. Raises `LoupeError`s.

    `generate` takes a body of `/api/generate` without `stream`; the first request of a model loads it.
    """

    @property
    def host(self) -> str: ...

    async def generate(self, model: str, body: Mapping[str, Json]) -> Reply: ...

    async def render(self, model: str, question: str, system: str = "") -> str:
        """The prompt that a chat with this one question makes of the model's template (`_debug_render_only`)."""
        ...

    async def load(self, model: str, options: Mapping[str, Json]) -> float:
        """Seconds that the host says the load took; 0 where it was loaded."""
        ...

    async def unload(self, model: str) -> None:
        """Returns when the host does not list it any more."""
        ...

    async def loaded(self) -> Sequence[LoadedModel]: ...

    async def show(self, model: str) -> ModelDetail: ...

    async def version(self) -> tuple[str, str]:
        """(protocol version, `Server` header or "")."""
        ...
