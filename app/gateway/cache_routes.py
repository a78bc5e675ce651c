"""The response cache over HTTP: what it holds and saved, its entries, deleting them, and all of it as JSON lines.

Entries hold what was asked and answered: each one sees and deletes those of its own key, or the owner's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute

from app.core.errors import BadRequest, CacheEntryNotFound
from app.core.generation import Json
from app.gateway.needs import GatewayServices, visitor_of
from app.gateway.ollama_routes import route
from app.gateway.ops_routes import Handler
from app.gateway.streaming import NDJSON
from app.services.cache_views import CachedText
from app.wire.go_json import dumps

_PRIVATE = {"cache-control": "no-store"}


def cache_routes(services: GatewayServices) -> list[BaseRoute]:
    return [
        route("/loupe/cache", _stats(services), "GET"),
        route("/loupe/cache", _clear(services), "DELETE"),
        route("/loupe/cache/entries", _entries(services), "GET"),
        route("/loupe/cache/entries", _purge(services), "DELETE"),
        route("/loupe/cache/entries/{key}", _one(services), "GET"),
        route("/loupe/cache/entries/{key}", _delete(services), "DELETE"),
        route("/loupe/cache/export", _export(services), "GET"),
    ]


def cached_json(found: CachedText) -> dict[str, Json]:
    """An entry with its answer. Seconds; `stored_at` since the epoch; `size` in bytes."""
    return {
        **asdict(found.entry),
        "answer": found.text,
        "thinking": found.thinking,
        "done_reason": found.done_reason,
    }


def _stats(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        stats = await services.cache.stats()
        return JSONResponse({**asdict(stats), "hit_rate": stats.hit_rate}, headers=_PRIVATE)

    return respond


def _entries(services: GatewayServices) -> Handler:
    """`?model=`, `?q=` (a text in the question or the model's name), `?before=` (the `next` of a page), `?limit=`."""

    async def respond(request: Request) -> Response:
        asked = request.query_params
        page = await services.cache.entries(
            visitor_of(request.scope).principal, model=asked.get("model", ""), text=asked.get("q", ""),
            before=asked.get("before", ""), limit=_count(asked.get("limit", "50")),
        )  # fmt: skip
        return JSONResponse(asdict(page), headers=_PRIVATE)

    return respond


def _one(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        key = request.path_params["key"]
        found = await services.cache.open(key, visitor_of(request.scope).principal)
        if found is None:
            raise CacheEntryNotFound(key)
        return JSONResponse(cached_json(found), headers=_PRIVATE)

    return respond


def _delete(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        key = request.path_params["key"]
        if not await services.cache.delete(key, visitor_of(request.scope).principal):
            raise CacheEntryNotFound(key)
        return JSONResponse({"deleted": 1})

    return respond


def _purge(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        model = request.query_params.get("model", "")
        if not model:
            raise BadRequest("say of which model: ?model=NAME; DELETE /loupe/cache deletes everything", "model")
        return JSONResponse({"deleted": await services.cache.purge(visitor_of(request.scope).principal, model=model)})

    return respond


def _clear(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return JSONResponse({"deleted": await services.cache.clear()})

    return respond


def _export(services: GatewayServices) -> Handler:
    """One JSON object a line, newest first; `?model=`."""

    async def respond(request: Request) -> Response:
        owner = visitor_of(request.scope).principal
        await services.cache.entries(owner, limit=1)  # a cache that is off is told by the status

        async def lines() -> AsyncGenerator[bytes, None]:
            async with aclosing(services.cache.export(owner, model=request.query_params.get("model", ""))) as found:
                async for one in found:
                    yield dumps(cached_json(one)) + b"\n"

        named = {"content-disposition": 'attachment; filename="loupe-cache.jsonl"'}
        return StreamingResponse(lines(), media_type=NDJSON.decode(), headers=_PRIVATE | named)

    return respond


def _count(given: str) -> int:
    if not given.isdecimal() or not 1 <= int(given) <= 500:
        raise BadRequest(f"limit: {given[:20]!r} is not a number from 1 to 500", "limit")
    return int(given)
