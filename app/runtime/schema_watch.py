"""Whether the engine in the worker took a schema. It answers one that it cannot hold to with unconstrained text and
status 200; only its log says so, before the first token."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from app.core.generation import Json
from app.runtime.output_formats import refused_schema
from app.runtime.runners import Runner
from app.runtime.worker_client import Final, Piece
from app.runtime.worker_log import WorkerLog

_LATEST_SECONDS = 2.0
Events = AsyncGenerator[Piece | Final, None]


async def held_to(runner: Runner, request: Mapping[str, Json], events: Events) -> Events:
    """`events` of `request`. Raises `HostRefused` (400) in place of the first where its schema was not taken.

    One such request at a time begins: the log does not say whose schema it means.
    """
    async with aclosing(events):
        if "json_schema" in request or "response_format" in request:
            log = runner.worker.log
            async with runner.schema_turn:
                begun, before = log.begun, log.refusals
                first = await anext(events, None)
                await _until_told(log, begun)
                if log.refusals > before:
                    raise refused_schema(log.refusal)
            if first is not None:
                yield first
        async for event in events:
            yield event


async def _until_told(log: WorkerLog, begun: int) -> None:
    """Until the log says of a request that it has begun: it comes on a way of its own, and may be late."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LATEST_SECONDS):
            while log.begun == begun:
                await asyncio.sleep(0.001)
