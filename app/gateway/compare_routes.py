"""Comparisons over HTTP: begin, list, look at, pause, go on, cancel, delete; rows and reports. All of it the owner's.

POST   /loupe/comparisons                {"models": […], "reference", "depth", "context", …}: 202, the report
GET    /loupe/comparisons[/ID]           a list of short rows; one report in JSON, with its job while there is one
POST   /loupe/comparisons/ID/pause, /resume, /cancel
DELETE /loupe/comparisons/ID
GET    /loupe/comparisons/ID/rows        ?variant=NAME: every compared position
GET    /loupe/comparisons/ID/report      ?format=json, html, csv, md; POST with {"first": report} for both
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from app.comparison.plan import Asked
from app.comparison.report import csv_table, document, html_report, markdown_card, read_document
from app.comparison.result_json import to_json
from app.comparison.results import Scorecard
from app.core.errors import BadRequest
from app.core.generation import Json
from app.gateway.bodies import json_object, text_of
from app.gateway.job_results import pausing_routes, result_routes
from app.gateway.jobs_routes import job_json
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import body_of, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import asked_as, check_known, private_json

FORMATS = {"json": "application/json", "html": "text/html", "csv": "text/csv", "md": "text/markdown"}
_KNOWN = (
    "models", "reference", "depth", "context", "question_set", "questions", "host", "budget", "floor", "use", "seed",
)  # fmt: skip


def compare_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    base = "/loupe/comparisons"
    return [
        route(base, _list(services), "GET"),
        route(base, _begin(services, lifecycle), "POST"),
        *result_routes(base, services, services.comparisons, _told),
        *pausing_routes(base, services.comparisons, lifecycle),
        route(f"{base}/{{id}}/rows", _rows(services), "GET"),
        route(f"{base}/{{id}}/report", _report(services), "GET", "POST"),
    ]


def asked_of(body: dict[str, Json]) -> Asked:
    """What a request asks for. Raises `BadRequest` naming the key that is wrong."""
    check_known(body, _KNOWN)
    if not isinstance(body.get("models"), list):
        raise BadRequest('models must be a list of names, for example ["llama3.2:3b"]', "models")
    return asked_as(Asked, body).checked()


def _told(services: GatewayServices, card: Scorecard) -> dict[str, Json]:
    """The report's JSON and how far it is."""
    job = services.comparisons.job(card.id)
    return {**document(card), "job": job_json(job) if job is not None else None}


def _list(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json({"comparisons": [_short(card) for card in services.comparisons.list()]})

    return respond


def _short(card: Scorecard) -> dict[str, Json]:
    told = card.recommendation
    return {
        "id": card.id, "family": card.family, "depth": card.depth, "state": card.state, "started_at": card.started_at,
        "ended_at": card.ended_at, "seconds": card.seconds, "reference": card.reference, "host": card.environment.host,
        "variants": [variant.name for variant in card.variants], "recommendation": told.sentence if told else None,
    }  # fmt: skip


def _begin(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        asked = asked_of(json_object(await body_of(request, services)))
        return private_json(_told(services, await services.comparisons.begin(asked)), 202)

    return respond


def _rows(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        comparison_id, variant = request.path_params["id"], request.query_params.get("variant", "")
        rows = await services.comparisons.rows(comparison_id, variant)
        texts = await services.comparisons.texts(comparison_id)
        return private_json({"texts": to_json(texts), "rows": to_json(rows)})

    return respond


def _report(services: GatewayServices) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        kind = request.query_params.get("format", "json")
        if kind not in FORMATS:
            raise BadRequest(f"format is one of {', '.join(FORMATS)}", "format")
        card = services.comparisons.get(request.path_params["id"])
        first = None
        if request.method == "POST":
            first = read_document(text_of(json_object(await body_of(request, services)), "first"))
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", card.family)[:60]
        headers = {
            "content-disposition": f'attachment; filename="loupe-{name}-{card.id}.{kind}"',
            "cache-control": "no-store",
            "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        }
        content = await _content(services, card, kind, first)
        return Response(content, 200, headers, f"{FORMATS[kind]}; charset=utf-8")

    return respond


async def _content(services: GatewayServices, card: Scorecard, kind: str, first: Scorecard | None) -> str:
    if kind == "csv":
        return csv_table(card)
    if kind == "md":
        return markdown_card(card)
    rows = await services.comparisons.raw_rows(card.id)
    if kind == "html":
        asked = await services.comparisons.asked(card.id)
        return await html_report(card, services.pictures, rows=rows, first=first, budget=asked.budget)
    return bytes(JSONResponse(document(card, rows)).body).decode()
