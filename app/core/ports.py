"""What the service layer needs from outside, as protocols. `backends` and the tests' fakes satisfy them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from app.core.generation import Chunk, GenerationRequest
from app.core.hosts import HostAddress, HostStatus, LoadedModel, ModelDetail, ModelInfo, RawAnswer
from app.core.making import MakingProgress, QuantizedFile


class Clock(Protocol):
    """Time, injected: tests move it by hand."""

    def monotonic(self) -> float: ...

    def now(self) -> float:
        """Seconds since the epoch."""
        ...


class SystemClock:
    """The functions themselves: a request looks at the clock twenty times."""

    monotonic = staticmethod(time.monotonic)
    now = staticmethod(time.time)


class Backend(Protocol):
    """One model host that speaks Ollama's protocol.

    Every method raises only `HostError`s and `ModelNotFound`. Closing the iterator of `stream` (or cancelling the
    task that reads it) closes the connection, which is how Ollama frees the slot.
    """

    @property
    def address(self) -> HostAddress: ...

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk, None]:
        """Run a generation. Always streamed upstream; ends with exactly one chunk that is `done` or `whole`."""
        ...

    async def version(self) -> tuple[str, str]:
        """(protocol version, `Server` header or "")."""
        ...

    async def models(self) -> Sequence[ModelInfo]: ...

    async def loaded(self) -> Sequence[LoadedModel]: ...

    async def show(self, model: str) -> ModelDetail: ...

    async def forward(self, method: str, path: str, body: bytes = b"") -> RawAnswer:
        """A short request passed through unread (tags, show, copy, delete …), error statuses included."""
        ...

    def forward_stream(self, method: str, path: str, body: bytes | AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """A long management request (pull, create …): the host's NDJSON lines, without newlines, as they come.

        Raises `HostRefused` with the host's status when it answers an error before the first line.
        """
        ...

    async def close(self) -> None: ...


class Fleet(Protocol):
    """All hosts at once, as the catalog needs them; the host pool is one."""

    def statuses(self) -> tuple[HostStatus, ...]: ...

    def backend(self, host: str) -> Backend: ...


class FamilyMaker(Protocol):
    """Makes the starter family in the embedded runtime's store, in a process of its own."""

    def run(self) -> AsyncIterator[MakingProgress]:
        """Goes on where an earlier run stopped. Raises `LoupeError` with the reason; closing it ends the process."""
        ...


class Quantizer(Protocol):
    """Quantizes one model file, in a process of its own and of low priority."""

    def run(self, source: Path, target: Path, level: str) -> AsyncGenerator[MakingProgress | QuantizedFile, None]:
        """Progress in bytes of source tensors, and at the end the file. `target` appears whole or not at all.

        Raises `LoupeError` with the reason; closing it ends the process.
        """
        ...
