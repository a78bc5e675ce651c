"""One sending of a request to a host: what became of it, what it took, and whom it is charged to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from app.core.errors import Cancelled
from app.core.generation import Chunk, Usage
from app.core.trace_context import HOST_HEADERS
from app.services.host_lease import Lease
from app.services.request_trace import Trace

LEFT = (GeneratorExit, asyncio.CancelledError, Cancelled)
Told = Callable[[str, str, Usage | None], None]
"""(host, outcome, what the host counted), where `outcome` is ok, cancelled or failed."""


class Attempt:
    """Around the reading of one host's answer; `began` and `ended` say how far it came. No generator, because each one
    between a host and its reader costs every request some microseconds, and every piece of an answer a part of one.
    """

    __slots__ = ("_began", "_first", "_host", "_lease", "_number", "_told", "_trace", "_usage", "outcome")

    def __init__(self, trace: Trace, lease: Lease, number: int, told: Told) -> None:
        self._trace, self._lease, self._number, self._told = trace, lease, number, told
        self._first: float | None = None
        self._usage: Usage | None = None
        self.outcome = "failed"

    def __enter__(self) -> Self:
        trace, lease = self._trace, self._lease
        trace.host = self._host = lease.address.name
        trace.enter("prefill" if lease.warm else "loading")
        HOST_HEADERS.set(trace.passed_on(self._number))
        self._began = trace.elapsed
        return self

    def began(self, chunk: Chunk | None) -> None:
        """Its first piece is there, or it ended without one."""
        self._first = self._trace.elapsed
        self._trace.enter("decode")
        if chunk is not None:
            self._lease.answers()

    def ended(self, usage: Usage | None) -> None:
        """The host has finished."""
        self.outcome, self._usage = "ok", usage
        self._lease.succeeded()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.outcome != "ok" and isinstance(error, LEFT):
            self.outcome = "cancelled"
        trace, usage = self._trace, self._usage
        self._told(self._host, self.outcome, usage)
        trace.add_span("host", self._began, trace.elapsed, host=self._host, attempt=self._number, outcome=self.outcome)
        if usage is not None and self._first is not None:
            trace.add_host_spans(usage, self._began, self._first)
