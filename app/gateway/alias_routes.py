"""Aliases over HTTP: which there are and where each leads now; made, changed, removed and tried while Loupe runs.

All of it is the owner's.
"""

from __future__ import annotations

from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.core.errors import BadRequest, LoupeError
from app.core.generation import CacheMode, GenerationRequest, Json
from app.gateway.bodies import json_object
from app.gateway.error_responses import public_message
from app.gateway.needs import GatewayServices
from app.gateway.ollama_routes import body_of, caller_of, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import private_json
from app.services.alias_targets import AliasView, Step
from app.services.alias_values import alias_json, read_alias
from app.services.chat import Caller


def alias_routes(services: GatewayServices) -> list[BaseRoute]:
    return [
        route("/loupe/aliases", _list(services), "GET"),
        route("/loupe/aliases/{name}", _one(services), "GET"),
        route("/loupe/aliases/{name}", _put(services), "PUT"),
        route("/loupe/aliases/{name}", _remove(services), "DELETE"),
        route("/loupe/aliases/{name}/test", _test(services), "POST"),
    ]


def view_json(view: AliasView) -> dict[str, Json]:
    """An alias with `model` and `host` that answer now ("" none, "" any), and for each target its `models`, with what
    hinders them ("" nothing) and why they were chosen. `shadowed`: a host has a model of that name too."""
    now: dict[str, Json] = {"model": view.model, "host": view.host, "shadowed": view.shadowed}
    return {**alias_json(view.alias), "now": now, "steps": [_step(step) for step in view.steps]}


def _step(step: Step) -> Json:
    models: list[Json] = [
        {"model": stop.model, "host": stop.host, "problem": problem, "why": stop.why} for stop, problem in step.stops
    ]
    target = step.target
    return {"target": target.text, "kind": str(target.kind), "models": models, "problem": step.problem}


def _list(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        rows: list[Json] = [view_json(view) for view in await services.aliases.views()]
        return private_json({"aliases": rows, "version": services.aliases.version})

    return respond


def _one(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        alias = services.aliases.get(request.path_params["name"])
        return private_json(view_json(await services.aliases.targets.view(alias)))

    return respond


def _put(services: GatewayServices) -> Handler:
    """`{"targets": […]}`, and `options`, `system`, `think`, `keep_alive`, `guard`, `note`, `anyway`. 201 if new."""

    async def respond(request: Request) -> Response:
        body = json_object(await body_of(request, services))
        anyway = body.pop("anyway", False)
        if not isinstance(anyway, bool):
            raise BadRequest("anyway is true or false", "anyway")
        name = request.path_params["name"]
        new = services.aliases.find(name) is None
        alias = await services.aliases.put(read_alias(name, body), anyway=anyway)
        return private_json(view_json(await services.aliases.targets.view(alias)), 201 if new else 200)

    return respond


def _remove(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        await services.aliases.remove(request.path_params["name"])
        return private_json({"removed": True})

    return respond


def _test(services: GatewayServices) -> Handler:
    """Load what it leads to, by the way that every request goes: which model it was, and how long that took. What fails
    is told in `error`, with status 200: the test is what was asked for."""

    async def respond(request: Request) -> Response:
        alias = services.aliases.get(request.path_params["name"])
        caller = caller_of(request, services)
        caller.cache_mode = CacheMode.BYPASS
        error = await _tried(services, alias.name, caller)
        trace = caller.trace
        route_ = trace.route
        return private_json({
            "alias": alias.name, "model": "" if error else trace.model, "host": trace.host, "error": error,
            "choice": route_.place if route_ else 0, "reason": route_.reason if route_ else "",
            "seconds": round(trace.elapsed, 3),
        })  # fmt: skip

    return respond


async def _tried(services: GatewayServices, name: str, caller: Caller) -> str:
    """The sentence of what went wrong, or ""."""
    try:
        async with aclosing(services.chat.ask(GenerationRequest("generate", {"model": name}), caller)) as chunks:
            async for _ in chunks:
                continue
    except LoupeError as error:
        return public_message(error)
    return ""
