"""Backups of the conversations over HTTP: list, make one, fetch one, bring one back. All of it is the owner's."""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute

from app.gateway.bodies import json_object, text_of
from app.gateway.needs import GatewayServices
from app.gateway.ollama_routes import body_of, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import PRIVATE, private_json


def history_routes(services: GatewayServices) -> list[BaseRoute]:
    return [
        route("/loupe/history/backups", _list(services), "GET"),
        route("/loupe/history/backups", _make(services), "POST"),
        route("/loupe/history/backups/{name}", _fetch(services), "GET"),
        route("/loupe/history/restore", _bring_back(services), "POST"),
    ]


def _list(services: GatewayServices) -> Handler:
    """The newest first; `folder` is where they are on the server; `damage` what a start has set aside, or null."""

    async def respond(request: Request) -> Response:
        backups, damage = await services.backups.list(), services.backups.damage
        told = {
            "folder": str(services.backups.folder),
            "backups": [asdict(backup) for backup in backups],
            "damage": damage and {"found": damage.found, "kept_as": damage.kept_as.name},
        }
        return private_json(told)

    return respond


def _make(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json(asdict(await services.backups.make()), 201)

    return respond


def _fetch(services: GatewayServices) -> Handler:
    """The file itself: SQLite, as `python -m app restore FILE` takes it."""

    async def respond(request: Request) -> Response:
        name = request.path_params["name"]
        path = await services.backups.path(name)
        return FileResponse(path, 200, PRIVATE, "application/vnd.sqlite3", filename=name)

    return respond


def _bring_back(services: GatewayServices) -> Handler:
    """`{"name"}` of a backup: adds what is not here any more, changes nothing that is."""

    async def respond(request: Request) -> Response:
        body = json_object(await body_of(request, services))
        came = await services.backups.bring_back(text_of(body, "name"))
        return private_json({"conversations": came})

    return respond
