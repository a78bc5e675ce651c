"""The pictures of a comparison as files, by the specifications that the page draws and the report shows.

GET /loupe/comparisons/ID/pictures         the names of those that its figures allow
GET /loupe/comparisons/ID/pictures/NAME    ?format=svg, png or json (the Vega-Lite specification), &dark=1, &width=640
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from app.comparison.charts import Look, Picture, pictures_of
from app.core.errors import BadRequest
from app.gateway.needs import GatewayServices
from app.gateway.ollama_routes import route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import private_json

_FORMATS = {"svg": "image/svg+xml", "png": "image/png", "json": "application/json"}
_NARROWEST, _USUAL, _WIDEST = 280, 640, 2000  # pixels
_DRAWN = {
    "cache-control": "no-store",
    "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
}


def picture_routes(services: GatewayServices) -> list[BaseRoute]:
    base = "/loupe/comparisons/{id}/pictures"
    return [route(base, _names(services), "GET"), route(f"{base}/{{name}}", _picture(services), "GET")]


def _names(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        found = await _drawn(services, request, Look())
        return private_json({"pictures": list(found)})

    return respond


def _picture(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        kind = request.query_params.get("format", "svg")
        if kind not in _FORMATS:
            raise BadRequest(f"format is one of {', '.join(_FORMATS)}", "format")
        found = await _drawn(services, request, _look(request))
        name = request.path_params["name"]
        if name not in found:
            raise BadRequest(f"there is no picture {name[:32]!r}; there is {', '.join(found) or 'none yet'}", "name")
        return await _file(services, found[name], name, kind)

    return respond


async def _drawn(services: GatewayServices, request: Request, look: Look) -> dict[str, Picture]:
    card = services.comparisons.get(request.path_params["id"])
    asked = await services.comparisons.asked(card.id)
    return pictures_of(card, look, budget=asked.budget)


async def _file(services: GatewayServices, spec: Picture, name: str, kind: str) -> Response:
    if kind == "json":
        return JSONResponse(spec, headers=_DRAWN)
    content = await (services.pictures.svg(spec) if kind == "svg" else services.pictures.png(spec))
    named = {"content-disposition": f'attachment; filename="loupe-{name}.{kind}"'}
    return Response(content, 200, _DRAWN | named, _FORMATS[kind])


def _look(request: Request) -> Look:
    """Raises `BadRequest`."""
    told = request.query_params.get("width", str(_USUAL))
    if not told.isdecimal() or not _NARROWEST <= int(told) <= _WIDEST:
        raise BadRequest(f"width is between {_NARROWEST} and {_WIDEST} pixels", "width")
    return Look(dark=request.query_params.get("dark", "") not in ("", "0", "false"), width=int(told), ground=True)
