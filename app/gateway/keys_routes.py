"""The keys over HTTP: list, make, revoke. The administrators' alone, but for who one is oneself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.core.errors import BadRequest
from app.core.generation import Json
from app.gateway.bodies import json_object, text_of
from app.gateway.needs import GatewayServices, visitor_of
from app.gateway.ollama_routes import body_of, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import check_known, private_json
from app.services.access_keys import LIMITS, LOCAL, KeyLimits, KeyScope, KeyWish


def keys_routes(services: GatewayServices) -> list[BaseRoute]:
    return [
        route("/loupe/keys", _list(services), "GET"),
        route("/loupe/keys", _create(services), "POST"),
        route("/loupe/keys", _forget_all(services), "DELETE"),
        route("/loupe/keys/{which}", _revoke(services), "DELETE"),
        route("/loupe/whoami", _whoami(services), "GET"),
    ]


def wish_of(body: Mapping[str, Json]) -> KeyWish:
    """`{"name", "scope", "models", "per_minute", "at_once", "tokens_a_day"}`, all but the name as wanted."""
    check_known(body, ("name", "scope", "models", *LIMITS))
    scope, models = body.get("scope") or str(KeyScope.INFER), body.get("models") or []
    if scope not in tuple(KeyScope):
        raise BadRequest(f"scope must be one of: {', '.join(KeyScope)}", "scope")
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise BadRequest('models must be a list of names, like ["llama3.2:3b", "qwen2.5:*"]', "models")
    limits = KeyLimits(**{name: _whole(body, name) for name in LIMITS})
    return KeyWish(text_of(dict(body), "name"), KeyScope(str(scope)), tuple(str(model) for model in models), limits)


def _whole(body: Mapping[str, Json], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise BadRequest(f"{name} must be a whole number", name)
    return value


def _list(services: GatewayServices) -> Handler:
    """The newest first, the revoked ones too. `token`: LOUPE_TOKEN is set; `needed`: nobody comes in without."""

    async def respond(request: Request) -> Response:
        settings, token = services.settings, services.settings.token is not None
        needed = token or services.keys.made or not settings.loopback
        views: list[Json] = [view.told() for view in services.key_usage.views()]
        return private_json({"keys": views, "needed": needed, "token": token})

    return respond


def _create(services: GatewayServices) -> Handler:
    """201, the key, and `secret`: what clients send. It is not told a second time."""

    async def respond(request: Request) -> Response:
        wish = wish_of(json_object(await body_of(request, services)))
        key, secret = await asyncio.to_thread(services.keys.create, wish)
        return private_json({"key": services.key_usage.view(key).told(), "secret": secret}, 201)

    return respond


def _revoke(services: GatewayServices) -> Handler:
    """By id or name. What it has begun goes on to its end; nothing new begins."""

    async def respond(request: Request) -> Response:
        gone = await asyncio.to_thread(services.keys.revoke, request.path_params["which"])
        return private_json({"key": services.key_usage.view(gone).told()})

    return respond


def _forget_all(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json({"forgotten": await asyncio.to_thread(services.keys.forget_all)})

    return respond


def _whoami(services: GatewayServices) -> Handler:
    """Who asks, what they may do, and of a key what it has used."""

    async def respond(request: Request) -> Response:
        visitor = visitor_of(request.scope)
        key = services.keys.key_of(visitor.principal)
        told: dict[str, Json] = {
            "name": visitor.name, "scope": str(visitor.scope), "owner": visitor.principal == LOCAL,
            "key": services.key_usage.view(key).told() if key is not None else None,
        }  # fmt: skip
        return private_json(told)

    return respond
