"""The queue over HTTP: who waits and runs, a feed of it, and an operator's hand on it.

Times in seconds. A request is named by the id of its row, by our own (X-Loupe-Request-Id) or by its client's
(X-Request-Id). `?request=ID` tells of that one alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from app.core.errors import BadRequest
from app.core.generation import Json, Priority
from app.gateway.event_feed import EventFeed
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import body_of, route
from app.gateway.ops_routes import Handler
from app.services.queueing.views import Eta, RunningRow, WaitingRow
from app.services.telemetry import Trace
from app.wire.go_json import JsonError, loads

FEED_SECONDS = 0.5  # between two pictures of the feed, at least


def queue_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    queue = services.queue
    return [
        route("/loupe/queue", _look(services), "GET"),
        route("/loupe/queue/events", _events(services, lifecycle), "GET"),
        route("/loupe/queue/pause", _doing(services, queue.pause), "POST"),
        route("/loupe/queue/drain", _doing(services, queue.drain), "POST"),
        route("/loupe/queue/resume", _doing(services, queue.resume), "POST"),
        route("/loupe/queue/{id}", _cancel(services), "DELETE"),
        route("/loupe/queue/{id}", _move(services), "POST"),
    ]


def queue_json(services: GatewayServices, only: str = "") -> dict[str, Json]:
    """The queue as the routes and the feed tell it; of one request where it is named."""
    queue, askers = services.queue.snapshot(), services.telemetry.askers()
    wanted = services.telemetry.work_of(only) if only else ""
    waiting: list[Json] = [
        _waiting(row) | _asked_by(askers.get(row.id, ())) for row in queue.waiting if wanted in ("", row.id)
    ]
    running: list[Json] = [
        _running(row) | _asked_by(askers.get(row.id, ())) for row in queue.running if wanted in ("", row.id)
    ]
    return {
        "waiting": waiting, "running": running, "limits": asdict(queue.limits), "paused": queue.paused,
        "draining": queue.draining,
    }  # fmt: skip


def _waiting(row: WaitingRow) -> dict[str, Json]:
    return {
        "id": row.id, "position": row.position, "model": row.model, "priority": str(row.priority), "flow": row.flow,
        "principal": row.principal, "waited": round(row.waited, 3), "eta": _eta(row.eta), "why": row.why,
    }  # fmt: skip


def _asked_by(traces: Sequence[Trace]) -> dict[str, Json]:
    """Whose answer it is: several where they share one."""
    return {"requests": [{"id": trace.id, "client_id": trace.client_id or None} for trace in traces]}


def _eta(eta: Eta | None) -> Json:
    if eta is None:
        return None
    return {"likely": round(eta.likely, 3), "low": round(eta.low, 3), "high": round(eta.high, 3)}


def _running(row: RunningRow) -> dict[str, Json]:
    return {
        "id": row.id, "model": row.model, "priority": str(row.priority), "flow": row.flow, "principal": row.principal,
        "host": row.host, "phase": row.phase, "since": round(row.since, 3), "tokens": row.tokens,
    }  # fmt: skip


def _look(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return _picture(services, request.query_params.get("request", ""))

    return respond


def _picture(services: GatewayServices, only: str = "") -> Response:
    return JSONResponse(queue_json(services, only), headers={"cache-control": "no-store"})


def _events(services: GatewayServices, lifecycle: Lifecycle) -> Callable[[Request], Awaitable[EventFeed]]:
    """The whole queue, and again when it has changed, twice a second at most: `event: queue`."""

    async def respond(request: Request) -> EventFeed:
        lifecycle.admit()
        pictures = _pictures(services, request.query_params.get("request", ""))
        return EventFeed("queue", pictures, lifecycle, patience=services.settings.stall_seconds)

    return respond


async def _pictures(services: GatewayServices, only: str) -> AsyncGenerator[list[Json], None]:
    """While somebody waits the queue changes by itself (estimates are made anew); else the feed sleeps."""
    told: dict[str, Json] = {}
    while True:
        news = asyncio.ensure_future(services.queue.changes())
        try:
            now = queue_json(services, only)
            if now != told:
                told = now
                yield [now]
            await asyncio.wait({news})
        finally:
            news.cancel()
        await asyncio.sleep(FEED_SECONDS)


def _doing(services: GatewayServices, act: Callable[[], None]) -> Handler:
    """Do it, and answer with the queue as it is then."""

    async def respond(request: Request) -> Response:
        act()
        return _picture(services)

    return respond


def _cancel(services: GatewayServices) -> Handler:
    """End one request, be it waiting or running: its client gets an error."""

    async def respond(request: Request) -> Response:
        services.queue.cancel(services.telemetry.work_of(request.path_params["id"]))
        return _picture(services)

    return respond


def _move(services: GatewayServices) -> Handler:
    """`{"priority": "batch"}` or `"interactive"`: put a waiting request at the end of the other class."""

    async def respond(request: Request) -> Response:
        try:
            body = loads(await body_of(request, services))
        except JsonError as error:
            raise BadRequest(f"the body is not JSON: {error}") from error
        word = body.get("priority") if isinstance(body, dict) else None
        if word not in list(Priority):
            raise BadRequest(f"priority must be one of: {', '.join(Priority)}", "priority")
        services.queue.move(services.telemetry.work_of(request.path_params["id"]), Priority(str(word)))
        return _picture(services)

    return respond
