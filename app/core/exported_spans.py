"""Spans as a collector of traces takes them, and what became of sending them. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

SpanKind = Literal["server", "client", "internal"]
SpanValue = str | int | float | bool | tuple[str, ...]


class ExportedSpan(NamedTuple):
    """One span. Ids in hex ("" for no parent), moments in nanoseconds since the epoch; `error` is None where it went
    well."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: SpanKind
    start_ns: int
    end_ns: int
    attributes: Mapping[str, SpanValue]
    error: str | None = None
    state: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a collector made of some spans. `again`: it may take them later, after `wait` seconds if it said so."""

    taken: bool
    again: bool = False
    wait: float | None = None
    why: str = ""


class SpanSender(Protocol):
    """Takes spans to a collector; raises nothing."""

    async def send(self, spans: Sequence[ExportedSpan]) -> Delivery: ...

    async def close(self) -> None: ...
