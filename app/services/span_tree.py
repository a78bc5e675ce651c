"""The spans of a request as a tree: what happened inside what. Made when somebody looks, not while requests run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.core.generation import Span
from app.services.request_trace import Attribute, FinishedRequest

_IN_CACHE = frozenset({"key"})
_IN_HOST = frozenset({"load", "prefill", "first token", "decode"})


@dataclass(frozen=True, slots=True)
class SpanNode:
    """One span and what happened inside it. Nanoseconds; `start` since the request arrived."""

    name: str
    start_ns: int
    duration_ns: int
    attributes: Mapping[str, Attribute]
    children: tuple[SpanNode, ...] = ()


def tree_of(record: FinishedRequest) -> SpanNode:
    """The whole request, with its layers below it, and below an attempt at a host what the host told of it."""
    return SpanNode("request", 0, _ns(record.seconds), {}, _below(None, record.spans, parents_of(record.spans)))


def parents_of(spans: Sequence[Span]) -> tuple[int | None, ...]:
    """For each span the number of the one that it happened in; None for the request itself."""
    last_host = max((i for i, span in enumerate(spans) if span.name == "host"), default=None)
    first_cache = next((i for i, span in enumerate(spans) if span.name == "cache"), None)
    return tuple(
        last_host if span.name in _IN_HOST else first_cache if span.name in _IN_CACHE else None for span in spans
    )


def _below(parent: int | None, spans: Sequence[Span], parents: Sequence[int | None]) -> tuple[SpanNode, ...]:
    return tuple(
        SpanNode(span.name, _ns(span.start), _ns(span.seconds), dict(span.attributes), _below(index, spans, parents))
        for index, span in enumerate(spans)
        if parents[index] == parent
    )


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
