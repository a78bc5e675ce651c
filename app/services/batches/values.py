"""A batch, its prompts and what became of each: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from app.core.errors import LoupeError
from app.core.generation import Json


class Form(StrEnum):
    """What a file of prompts is."""

    JSONL = "jsonl"  # JSON lines: a text, or an object with a prompt or messages
    CSV = "csv"
    TEXT = "text"  # a prompt on every line
    OPENAI = "openai"  # OpenAI's batch format: lines of custom_id, method, url, body


class BatchState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"  # by a person, until it is resumed; also over a restart
    DONE = "done"  # every prompt was answered, or failed for good
    CANCELLED = "cancelled"  # `resume` goes on with it
    FAILED = "failed"  # the batch itself, such as for a full disk; `resume` goes on with it


class BatchNotFound(LoupeError):
    status = 404
    code = "batch_not_found"

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"there is no batch {batch_id[:40]!r}, or it was deleted")


class FileNotFound(LoupeError):
    status = 404
    code = "file_not_found"

    def __init__(self, file_id: str) -> None:
        super().__init__(f"there is no file {file_id[:60]!r}, or it was deleted")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that OpenAI's clients sent beforehand; `size` in bytes."""

    id: str
    name: str
    owner: str
    purpose: str
    created_at: float
    size: int


@dataclass(frozen=True, slots=True)
class Defaults:
    """What prompts of our own forms get that do not say it themselves."""

    model: str = ""
    system: str = ""
    options: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request of a batch. `seq` counts from 1 in the order of the file, `name` is its own name for it (custom_id),
    `url` the route that would take it, `body` what is asked there, `given` the row as it came."""

    seq: int
    name: str
    url: str
    body: Mapping[str, Json]
    given: Mapping[str, Json] = field(default_factory=dict)

    @property
    def model(self) -> str:
        model = self.body.get("model")
        return model if isinstance(model, str) else ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a prompt: the host's own record, gathered, or the error (`status` as HTTP would tell it) after
    `tries`. `seconds` from the last asking to the end, its wait for a slot included."""

    record: Mapping[str, Json] = field(default_factory=dict)
    status: int = 200
    error: str = ""
    host: str = ""
    seconds: float = 0.0
    cached: bool = False
    request_id: str = ""
    tries: int = 1

    @property
    def failed(self) -> bool:
        return bool(self.error)

    @property
    def prompt_tokens(self) -> int:
        return self._count("prompt_eval_count")

    @property
    def output_tokens(self) -> int:
        return self._count("eval_count")

    def _count(self, key: str) -> int:
        value = self.record.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0


@dataclass(frozen=True, slots=True)
class Batch:
    """`owner` is the principal that it belongs to; times in seconds since the epoch; tokens as the hosts count them."""

    id: str
    name: str
    owner: str
    form: Form
    created_at: float
    total: int
    models: tuple[str, ...]
    state: BatchState = BatchState.RUNNING
    answered: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    ended_at: float | None = None
    error: str = ""
    source: Mapping[str, Json] = field(default_factory=dict)  # how OpenAI's clients asked for it

    @property
    def left(self) -> int:
        return self.total - self.answered - self.failed

    @property
    def active(self) -> bool:
        return self.state in (BatchState.RUNNING, BatchState.PAUSED)
