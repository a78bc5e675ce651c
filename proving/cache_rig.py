"""What the rows of the cache stand on: the service layer in one process, over a host in memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from app.core.generation import GenerationRequest
from app.core.ports import Clock, SystemClock
from app.services.chat import Caller, ChatService
from app.services.host_pool import HostPool
from app.services.request_queue import RequestQueue
from app.services.response_cache import ResponseCache
from app.services.retry_policy import RetryBudget
from app.services.telemetry import Telemetry
from tests.fakes import FakeBackend


@dataclass(slots=True)
class Layer:
    host: FakeBackend
    pool: HostPool
    cache: ResponseCache
    chat: ChatService
    telemetry: Telemetry

    async def ask(self, request: GenerationRequest, principal: str = "local") -> tuple[str, str]:
        """(where the answer came from, its text)."""
        caller = Caller(principal=principal, trace=self.telemetry.trace())
        async with aclosing(self.chat.ask(request, caller)) as chunks:
            text = "".join([piece.text async for piece in chunks])
        return caller.trace.cache.outcome, text

    async def kept(self) -> None:
        """Until what was answered is written."""
        while tasks := list(self.chat._shared._tasks):
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> None:
        """Let the pool see what the host is and has now."""
        for host in self.pool._hosts:
            await host.check()
            await host.refresh()
            await host.refresh_loaded()


@contextlib.asynccontextmanager
async def layer(folder: Path, limit: int = 64 << 20, clock: Clock | None = None) -> AsyncIterator[Layer]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    clock = clock or SystemClock()
    host = FakeBackend()
    pool = HostPool([host], clock)
    queue = RequestQueue(pool, clock)
    pool.on_change(queue.poke)
    cache, telemetry = ResponseCache(folder, limit, clock), Telemetry(clock)
    chat = ChatService(cache, queue, pool, telemetry, RetryBudget(clock))
    await cache.start()
    await pool.start()
    try:
        yield Layer(host, pool, cache, chat, telemetry)
    finally:
        await chat.close()
        await pool.stop()
        await cache.close()


@contextlib.contextmanager
def replaced(place: Any, name: str, value: Any) -> Iterator[None]:
    """A defence switched off for as long as a control runs."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)
