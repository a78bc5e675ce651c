"""One prompt of a batch by the way that every request takes: aliases, cache, queue, host. And its answer, gathered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

from app.core.errors import HostRefused
from app.core.generation import CacheMode, GenerationRequest, Json, Priority
from app.services.batches.values import Outcome, Prompt
from app.services.chat import Caller, ChatService
from app.services.host_pool import HostPool
from app.services.request_queue import RequestQueue
from app.services.telemetry import Telemetry
from app.wire.answers import error_text, gather, parse_object
from app.wire.dialects import Exchange
from app.wire.go_json import dumps
from app.wire.v1 import DIALECTS, add_extras, assumed

_CONTEXT = "context"  # of /api/generate: the tokens once more, which nobody goes on from here


@dataclass(frozen=True, slots=True)
class Way:
    """What a batch is answered with."""

    chat: ChatService
    queue: RequestQueue
    pool: HostPool
    telemetry: Telemetry
    cache_mode: CacheMode = CacheMode.USE


def exchange_of(prompt: Prompt) -> Exchange | None:
    """How its dialect reads it and writes the answer; None where it is Ollama's own. Raises `BadRequest`."""
    dialect = DIALECTS.get(prompt.url)
    return None if dialect is None else dialect.read(json.dumps(dict(prompt.body)).encode(), "application/json")


def caller_of(way: Way, batch_id: str, owner: str) -> Caller:
    """Its flow is the batch: among each other batches share as people do."""
    flow = f"batch {batch_id}"
    return Caller(
        principal=owner, flow=flow, priority=Priority.BATCH, cache_mode=way.cache_mode,
        trace=way.telemetry.trace(principal=owner, flow=flow),
    )  # fmt: skip


async def ask(way: Way, prompt: Prompt, caller: Caller) -> Outcome:
    """Raises `LoupeError`s."""
    exchange, native = exchange_of(prompt), dict(prompt.body)
    if exchange is not None:
        native = dict(exchange.native)
        add_extras(native, prompt.body)
        caller.assumed = assumed(native, prompt.body)
    if exchange is not None and exchange.endpoint == "embed":
        record = await _embedded(way, native, caller)
    else:
        request = GenerationRequest("generate" if exchange and exchange.endpoint == "generate" else "chat", native)
        async with aclosing(way.chat.ask(request, caller)) as pieces:
            chunks = [piece async for piece in pieces]
        record = parse_object(gather(request.endpoint, chunks))
        record.pop(_CONTEXT, None)
    trace = caller.trace
    return Outcome(
        record, host=trace.host, seconds=trace.elapsed, cached=trace.cache.outcome == "hit", request_id=trace.id
    )


async def _embedded(way: Way, native: Mapping[str, Json], caller: Caller) -> dict[str, Json]:
    answer = await way.chat.forward(str(native.get("model") or ""), caller, "/api/embed", dumps(dict(native)))
    if answer.status != 200:
        words = error_text(answer.body) or f"it answered {answer.status}"
        raise HostRefused(caller.trace.host, answer.status, words, answer.body)
    return parse_object(answer.body)
