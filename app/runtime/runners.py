"""Loaded models: one runner per model file, with its worker, its slots, and the time until it is unloaded.

Source: protocol 7.3 (keep_alive is sticky, its time starts when the last request has ended) and 3.3 (ps).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from app.core.ports import Clock
from app.runtime.library import LocalModel
from app.runtime.options import Launch
from app.runtime.worker_process import Worker, WorkerConfig
from app.wire.go_duration import FOREVER


class Handle(Protocol):
    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Handle]
"""Calls a function so many seconds from now, unless it is cancelled before."""


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """One row of /api/ps. `size` in bytes; `expires_ns` nanoseconds since the epoch."""

    model: LocalModel
    size: int
    expires_ns: int
    num_ctx: int


def file_key(model: LocalModel) -> str:
    """Two names of one model file share a runner, unless only one of them uses the file's own template."""
    return f"{model.path} {model.native}"


class Runner:
    """A worker in service. `refs` counts the requests that hold it; `idle` is set while there is none.

    `session_ns` is how long it stays after its last request, in nanoseconds. `dismissed` once it takes no more
    requests, `retired` once it is out of service, `check` while its worker is being asked how it is.
    """

    def __init__(
        self,
        model: LocalModel,
        launch: Launch,
        config: WorkerConfig,
        worker: Worker,
        *,
        session_ns: int,
        clock: Clock,
        later: Later,
        on_expired: Callable[[Runner], None],
    ) -> None:
        self.model, self.launch, self.worker, self.num_ctx = model, launch, worker, config.num_ctx
        self.key = file_key(model)
        self.slots = asyncio.Semaphore(config.parallel)
        self.schema_turn = asyncio.Lock()
        self.refs = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.retired = self.dismissed = False
        self.check: asyncio.Task[bool] | None = None
        self.session_ns = session_ns
        self.last_used = self.last_seen_well = clock.monotonic()
        self._clock, self._later, self._on_expired = clock, later, on_expired
        self._expires_ns = 0
        self._timer: Handle | None = None

    def serves(self, model: LocalModel, launch: Launch) -> bool:
        in_service = self.worker.alive and not (self.retired or self.dismissed)
        return in_service and launch.served_by(self.launch, model.trained_context)

    def hold(self, session_ns: int | None) -> None:
        """One more request; `session_ns` is its keep_alive, None leaves what was said before."""
        self.refs += 1
        self.idle.clear()
        if session_ns is not None:
            self.session_ns = session_ns
        self.stop_timer()

    def release(self) -> None:
        """A request has ended; after the last one the time until unloading begins."""
        self.refs -= 1
        if self.refs:
            return
        self.idle.set()
        self.last_used = self._clock.monotonic()
        self._expires_ns = self._end_of_session()
        if self.retired:
            return
        if self.session_ns <= 0:
            self._on_expired(self)
        elif self.session_ns < FOREVER:
            self._timer = self._later(self.session_ns / 1e9, lambda: self._on_expired(self))

    def checked(self) -> None:
        self.check = None

    def expire_soon(self) -> None:
        """Unload as soon as no request holds it, now if none does."""
        self.session_ns = 0
        if not self.refs:
            self._on_expired(self)

    def stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def size(self) -> int:
        """Bytes, as the worker's log has them; before that, of the file."""
        return self.worker.log.memory or (self.model.gguf.size if self.model.gguf else 0)

    @property
    def row(self) -> LoadedRow:
        return LoadedRow(self.model, self.size, self._expires_ns or self._end_of_session(), self.num_ctx)

    def _end_of_session(self) -> int:
        return int(self._clock.now() * 1e9) + self.session_ns

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """One of the worker's slots; requests wait for it in the order they came."""
        async with self.slots:
            yield
