"""Loaded models: one runner per model file, with its worker, its slots, and the time until it is unloaded.

Source: protocol 7.3 (keep_alive is sticky, its time starts when the last request has ended) and 3.3 (ps).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.runtime.library import LocalModel
from app.runtime.options import Launch
from app.runtime.worker_process import Worker
from app.wire.go_duration import FOREVER


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """One row of /api/ps. `size` in bytes; `expires_ns` nanoseconds since the epoch."""

    model: LocalModel
    size: int
    expires_ns: int
    num_ctx: int


class Runner:
    """A worker in service. `refs` counts the requests that hold it; `idle` is set while there is none."""

    def __init__(
        self,
        model: LocalModel,
        launch: Launch,
        worker: Worker,
        *,
        num_ctx: int,
        parallel: int,
        on_expired: Callable[[Runner], None],
    ) -> None:
        self.model, self.launch, self.worker, self.num_ctx = model, launch, worker, num_ctx
        self.slots = asyncio.Semaphore(parallel)
        self.refs = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.last_used = time.monotonic()
        self.session_ns = 0
        self._expires_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._on_expired = on_expired

    def serves(self, model: LocalModel, launch: Launch) -> bool:
        return self.worker.alive and launch.served_by(self.launch, model.trained_context)

    def hold(self, session_ns: int | None) -> None:
        """One more request; `session_ns` is its keep_alive, None leaves what was said before."""
        self.refs += 1
        self.idle.clear()
        if session_ns is not None:
            self.session_ns = session_ns
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def release(self) -> None:
        """A request has ended; after the last one the time until unloading begins."""
        self.refs -= 1
        if self.refs:
            return
        self.idle.set()
        self.last_used = time.monotonic()
        self._expires_ns = time.time_ns() + self.session_ns
        if self.session_ns <= 0:
            self._on_expired(self)
        elif self.session_ns < FOREVER:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.session_ns / 1e9, self._on_expired, self)

    def expire_soon(self) -> None:
        """Unload as soon as no request holds it, now if none does."""
        self.session_ns = 0
        if not self.refs:
            self._on_expired(self)

    def stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def row(self) -> LoadedRow:
        size = self.worker.log.memory or (self.model.gguf.size if self.model.gguf else 0)
        return LoadedRow(self.model, size, self._expires_ns or time.time_ns() + self.session_ns, self.num_ctx)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """One of the worker's slots; requests wait for it in the order they came."""
        async with self.slots:
            yield
