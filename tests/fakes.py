"""Hand-written stand-ins for the ports: a clock that is moved by hand, a host that says what it was told to say."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime

from app.core.errors import LoupeError
from app.core.generation import Chunk, GenerationRequest, Json, Usage
from app.core.hosts import HostAddress, LoadedModel, ModelDetail, ModelInfo, RawAnswer

MODEL = "smollm2:135m-instruct-q8_0"
DIGEST = "d" * 64


class FakeClock:
    """Both clocks start at a fixed moment and move only by `advance`."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.epoch = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> float:
        return self.epoch

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.epoch += seconds


class MovedClock:
    """The system's clocks, moved on by hand."""

    def __init__(self) -> None:
        self.moved = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.moved

    def now(self) -> float:
        return time.time() + self.moved


def chunk(text: str = "", *, done: bool = False, reason: str = "", usage: Usage | None = None) -> Chunk:
    """One record of a chat answer, its line included."""
    record: dict[str, Json] = {
        "model": MODEL,
        "created_at": "2026-11-23T02:24:52.823302894Z",
        "message": {"role": "assistant", "content": text},
        "done": done,
    }
    if done:
        record["done_reason"] = reason or "stop"
    line = json.dumps(record, separators=(",", ":")).encode()
    return Chunk(line, text, done=done, done_reason=(reason or "stop") if done else "", usage=usage)


def answer(*texts: str, reason: str = "stop") -> list[Chunk]:
    """A complete answer of these pieces."""
    usage = Usage(
        total_ns=900_000_000,
        load_ns=100_000_000,
        prompt_tokens=18,
        prefill_ns=50_000_000,
        output_tokens=len(texts),
        decode_ns=200_000_000,
    )
    return [*(chunk(text) for text in texts), chunk("", done=True, reason=reason, usage=usage)]


def chat(text: str = "Name the capital of France.", *, model: str = MODEL, **body: Json) -> GenerationRequest:
    """A chat request; with `options={"temperature": 0}` it is deterministic."""
    return GenerationRequest("chat", {"model": model, "messages": [{"role": "user", "content": text}], **body})


def model_info(name: str = MODEL, digest: str = DIGEST) -> ModelInfo:
    return ModelInfo(name=name, digest=digest, size=1000, modified_at=datetime(2026, 1, 1, tzinfo=UTC))


def loaded_model(name: str = MODEL, digest: str = DIGEST, context: int = 4096) -> LoadedModel:
    return LoadedModel(name, digest, 1000, 0, datetime(2026, 1, 1, tzinfo=UTC), context)


Step = Chunk | LoupeError | asyncio.Event
"""What a fake host does next: send a record, fail, or wait for an event."""


class FakeBackend:
    """A host in memory. `enqueue` scripts the next generations; without a script each answers "Paris."."""

    def __init__(self, name: str = "one", *, slots: int = 1, models: Iterable[ModelInfo] | None = None) -> None:
        self._address = HostAddress(name, f"http://{name}.test", slots=slots)
        self._scripts: deque[Sequence[Step]] = deque()
        self.model_list = list(models) if models is not None else [model_info()]
        self.loaded_list = [loaded_model(row.name, row.digest) for row in self.model_list]
        self.told_version = ("0.33.0", "")
        self.down: LoupeError | None = None
        self.requests: list[GenerationRequest] = []
        self.checks = self.running = self.peak = self.left_early = 0
        self.closed = False

    @property
    def address(self) -> HostAddress:
        return self._address

    def enqueue(self, *steps: Step) -> None:
        self._scripts.append(steps)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        self.running += 1
        self.peak = max(self.peak, self.running)
        steps = self._scripts.popleft() if self._scripts else answer("Paris", ".")
        finished = False
        try:
            if self.down is not None:
                raise self.down
            for step in steps:
                await asyncio.sleep(0)
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, LoupeError):
                    raise step
                else:
                    finished = step.done or step.whole
                    yield step
        finally:
            self.running -= 1
            self.left_early += not finished

    async def version(self) -> tuple[str, str]:
        self.checks += 1
        if self.down is not None:
            raise self.down
        return self.told_version

    async def models(self) -> Sequence[ModelInfo]:
        if self.down is not None:
            raise self.down
        return list(self.model_list)

    async def loaded(self) -> Sequence[LoadedModel]:
        if self.down is not None:
            raise self.down
        return list(self.loaded_list)

    async def show(self, model: str) -> ModelDetail:
        return ModelDetail(info={})

    async def forward(self, method: str, path: str, body: bytes = b"") -> RawAnswer:
        return RawAnswer(200, "application/json", b"{}")

    async def forward_stream(
        self, method: str, path: str, body: bytes | AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        yield b'{"status":"success"}'

    async def close(self) -> None:
        self.closed = True


async def settle() -> None:
    """Let every task that can go on go on, until none can."""
    for _ in range(50):
        await asyncio.sleep(0)
