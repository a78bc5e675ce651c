"""W3C trace context (https://www.w3.org/TR/trace-context/): what a client's `traceparent` says, and ours for a host."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import NamedTuple

STATE_LIMIT = 512  # characters of a `tracestate` that is passed on; a longer one is left out whole
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01
_SPREAD = 0x9E3779B97F4A7C15  # odd, so that multiples of it are all different modulo 2**64

HOST_HEADERS: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("host_headers", default=())
"""The headers that tell a host which trace this is: set by whoever makes an attempt, read by its sender."""

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The request that this code works for, as its client knows it, for log lines; "" outside of one."""


class TraceContext(NamedTuple):
    """The trace that a request belongs to. `parent` is the client's span, "" where the trace begins here."""

    trace_id: str
    parent: str = ""
    sampled: bool = True
    state: str = ""

    def headers(self, span_id: str) -> tuple[tuple[str, str], ...]:
        """What a host is told, with `span_id` as the parent of what it does."""
        told = ("traceparent", f"00-{self.trace_id}-{span_id}-{'01' if self.sampled else '00'}")
        return (told, ("tracestate", self.state)) if self.state else (told,)


def read_context(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """The context in a request's raw headers; None where there is none, more than one, or one that is malformed."""
    parents, states = [], []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value.decode("latin-1"))
        elif name == b"tracestate":
            states.append(value.decode("latin-1").strip())
    found = _PARENT.fullmatch(parents[0].strip()) if len(parents) == 1 else None
    if found is None:
        return None
    version, trace_id, parent, flags, rest = found.groups()
    if version == "ff" or (rest is not None and version == "00") or not (trace_id.strip("0") and parent.strip("0")):
        return None
    state = ",".join(filter(None, states))
    told = state if len(state) <= STATE_LIMIT and state.isascii() and state.isprintable() else ""
    return TraceContext(trace_id, parent, bool(int(flags, 16) & _SAMPLED), told)


def span_id(root: str, number: int) -> str:
    """The id of the span with that number (from 1) in the request `root`, whose own id is that of its first span."""
    return f"{int(root, 16) ^ (number * _SPREAD) % 2**64:016x}"
