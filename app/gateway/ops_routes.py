"""Health, readiness, metrics and the hosts: what operators and their machines ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from app.core.errors import LoupeError
from app.core.generation import Json
from app.core.hosts import ANSWERING, HostState
from app.gateway.error_responses import public_message
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import route

Handler = Callable[[Request], Awaitable[Response]]


def ops_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    return [
        route("/healthz", _alive, "GET", "HEAD"),
        route("/readyz", _ready(services, lifecycle), "GET", "HEAD"),
        route("/metrics", _metrics(services), "GET"),
    ]


async def _alive(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _ready(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    """200 only when a model can answer. Who has not shown the token learns yes or no, not why."""

    async def respond(request: Request) -> Response:
        reason = "the server is shutting down" if lifecycle.draining else await why_not_ready(services)
        content: dict[str, Json] = {"ready": not reason}
        if reason and getattr(request.state, "known", True):
            content["reason"] = reason
        return JSONResponse(content, 503 if reason else 200, {"cache-control": "no-store"})

    return respond


async def why_not_ready(services: GatewayServices) -> str:
    """The sentence that says why no model can answer; "" when one can."""
    states = {status.state for status in services.pool.statuses()}
    if not states & set(ANSWERING) and HostState.WARMING in states:
        return "the model runtime is starting"
    try:
        models = await services.pool.tags()
    except LoupeError as error:
        return public_message(error)
    return "" if models else "no model is installed yet"


def _metrics(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return Response(services.telemetry.render_metrics(), headers={"content-type": content_type})

    return respond
