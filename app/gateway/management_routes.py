"""Routes that change what a host has. Pull, copy and delete are the owner's; create, blobs and push are off unless
LOUPE_ALLOW_CREATE says otherwise. With several hosts the request names its host in X-Loupe-Host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from app.core.errors import BadRequest, NotAllowed
from app.core.ports import Backend
from app.gateway.alias_rows import check_free
from app.gateway.bodies import body_chunks
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import body_of, passed_on, route
from app.gateway.streaming import WhileConnected, progress
from app.services.registry_hosts import check_registry
from app.wire.go_json import dumps
from app.wire.requests import decode

_SWITCH = "is turned off on this server; set LOUPE_ALLOW_CREATE=on to allow it"
Respond = Callable[[Request], Awaitable[ASGIApp]]


def management_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    create = _if_allowed(services, "creating models", _long(services, lifecycle, "CreateRequest"))
    push = _if_allowed(services, "pushing models", _long(services, lifecycle, "PushRequest"))
    blobs = _if_allowed(services, "uploading model files", _blob(services))
    return [
        route("/api/pull", _long(services, lifecycle, "PullRequest"), "POST"),
        route("/api/copy", _short(services, "CopyRequest"), "POST"),
        route("/api/delete", _short(services, "DeleteRequest"), "DELETE"),
        route("/api/create", create, "POST"),
        route("/api/push", push, "POST"),
        route("/api/blobs/{digest}", blobs, "POST", "HEAD"),
    ]


def _if_allowed(services: GatewayServices, what: str, respond: Respond) -> Respond:
    async def guarded(request: Request) -> ASGIApp:
        if not services.settings.allow_create:
            raise NotAllowed(f"{what} {_SWITCH}")
        return await respond(request)

    return guarded


def _host(request: Request, services: GatewayServices) -> Backend:
    """The host the request names, or the only one there is."""
    statuses = services.pool.statuses()
    names = [status.address.name for status in statuses]
    wanted = request.headers.get("x-loupe-host")
    if wanted is None and len(names) == 1:
        wanted = names[0]
    if wanted is None:
        raise BadRequest(f"say which host in the header X-Loupe-Host: {', '.join(names)}", "X-Loupe-Host")
    if wanted not in names:
        raise BadRequest(f"there is no host {wanted[:64]!r}; there is {', '.join(names)}", "X-Loupe-Host")
    return services.pool.backend(wanted)


def _short(services: GatewayServices, kind: str) -> Respond:
    async def respond(request: Request) -> Response:
        raw = await body_of(request, services)
        body = decode(kind, raw)
        check_free(services, *(body.get(name) for name in ("model", "name", "source", "destination")))
        answer = await _host(request, services).forward(request.method, request.scope["path"], raw)
        services.pool.look_again()
        return passed_on(answer)

    return respond


def _long(services: GatewayServices, lifecycle: Lifecycle, kind: str) -> Respond:
    """Always streamed from the host, because a pull says nothing for minutes otherwise."""

    async def respond(request: Request) -> WhileConnected:
        raw = await body_of(request, services)
        body = decode(kind, raw)
        check_free(services, body.get("model"), body.get("name"))
        for field in ("model", "name", "from"):
            if isinstance(name := body.get(field), str):
                await check_registry(name)
        stream = body.get("stream") is not False
        asked = raw if stream else dumps({**body, "stream": True})
        records = _host(request, services).forward_stream("POST", request.scope["path"], asked)
        return progress(
            records, stream=stream, lifecycle=lifecycle,
            patience=services.settings.stall_seconds, after=services.pool.look_again,
        )  # fmt: skip

    return respond


def _blob(services: GatewayServices) -> Respond:
    """HEAD asks whether the host has the blob; POST sends it on as it arrives. One that is there is not sent again."""

    async def respond(request: Request) -> Response:
        host, path = _host(request, services), request.scope["path"]
        held = await host.forward("HEAD", path)
        if request.method == "HEAD" or held.status == 200:
            return passed_on(held)
        settings = services.settings
        chunks = body_chunks(request, settings.max_blob, settings.body_seconds)
        sending = host.forward_stream("POST", path, chunks)
        async with aclosing(sending) as records:
            async for _ in records:
                pass
        return Response(status_code=201)

    return respond
