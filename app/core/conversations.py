"""Values of stored conversations. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from app.core.generation import Json, Span, Usage


class MessageState(StrEnum):
    """What became of a message. Only `STREAMING` can still change by itself."""

    COMPLETE = "complete"
    STREAMING = "streaming"
    STOPPED = "stopped"  # by Stop, or because nobody watched any more
    INTERRUPTED = "interrupted"  # the process ended in mid-answer
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything an answer carries beside its text: where it came from and what it cost. `ttft` in seconds.

    `cached_age`: how old (seconds) an answer out of the cache was when it was given; None for one that a model wrote.
    """

    model: str = ""
    digest: str = ""
    host: str = ""
    usage: Usage | None = None
    spans: tuple[Span, ...] = ()
    ttft: float | None = None
    cached: bool = False
    cached_age: float | None = None
    error: str = ""
    error_code: str = ""  # the error class's code, so that a reloaded page says the same
    done_reason: str = ""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message as history holds it. `created_at` in seconds since the epoch."""

    id: str
    role: str
    content: str
    created_at: float
    state: MessageState = MessageState.COMPLETE
    thinking: str = ""
    answer: Answer = Answer()

    @property
    def model(self) -> str:
        return self.answer.model

    @property
    def usage(self) -> Usage | None:
        return self.answer.usage

    @property
    def spans(self) -> tuple[Span, ...]:
        return self.answer.spans

    @property
    def ttft(self) -> float | None:
        return self.answer.ttft

    @property
    def cached(self) -> bool:
        return self.answer.cached

    @property
    def cached_age(self) -> float | None:
        return self.answer.cached_age

    @property
    def error(self) -> str:
        return self.answer.error

    @property
    def host(self) -> str:
        return self.answer.host


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """One line of the conversation list."""

    id: str
    title: str
    model: str
    updated_at: float
    answering: bool = False


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    principal: str
    title: str
    model: str
    system: str
    options: Mapping[str, Json]
    created_at: float
    updated_at: float
    messages: tuple[StoredMessage, ...] = field(default=())
