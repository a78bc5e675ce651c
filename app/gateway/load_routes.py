"""The load lab over HTTP: runs begun, listed, looked at, ended, deleted, put beside each other. All of it the owner's.

POST   /loupe/load                  {"models": {NAME: share}, "arrivals", "rate", "seconds", …}: 202, the run
GET    /loupe/load[/ID]             a list without the figures' details; one run with its job while there is one
GET    /loupe/load/ID/rows          every request of a run that has ended
GET    /loupe/load/ID/beside/OTHER  every figure of both, and what was not the same load
POST   /loupe/load/ID/cancel
DELETE /loupe/load/ID
"""

from __future__ import annotations

from dataclasses import asdict, fields

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.comparison.load_lab.beside import beside
from app.comparison.load_lab.lab import Asker
from app.comparison.load_lab.plan import LoadPlan
from app.comparison.load_lab.runs import LoadRun
from app.comparison.result_json import to_json
from app.core.errors import BadRequest
from app.core.generation import Json
from app.gateway.bodies import json_object
from app.gateway.job_results import result_routes
from app.gateway.jobs_routes import job_json
from app.gateway.needs import GatewayServices, Lifecycle, flow_of, visitor_of
from app.gateway.ollama_routes import body_of, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import asked_as, check_known, private_json

_KNOWN = tuple(field.name for field in fields(LoadPlan))


def load_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    base = "/loupe/load"
    return [
        route(base, _list(services), "GET"),
        route(base, _begin(services, lifecycle), "POST"),
        *result_routes(base, services, services.load_lab, _told),
        route(f"{base}/{{id}}/rows", _rows(services), "GET"),
        route(f"{base}/{{id}}/beside/{{other}}", _beside(services), "GET"),
    ]


def _told(services: GatewayServices, run: LoadRun) -> dict[str, Json]:
    job = services.load_lab.job(run.id)
    told = to_json(run)
    return {**(told if isinstance(told, dict) else {}), "job": None if job is None else job_json(job)}


def _short(run: LoadRun) -> dict[str, Json]:
    figures = run.figures
    return {
        "id": run.id, "state": run.state, "models": dict(run.plan.models), "started_at": run.started_at,
        "ended_at": run.ended_at, "host": run.environment.host, "arrivals": str(run.plan.arrivals),
        "requests": run.requests, "answered": figures.answered, "offered": figures.offered,
        "throughput": figures.throughput, "goodput": figures.goodput, "ttft_p95": figures.ttft.at("p95"),
    }  # fmt: skip


def _list(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json({"runs": [_short(run) for run in services.load_lab.list()]})

    return respond


def _begin(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        body = json_object(await body_of(request, services))
        check_known(body, _KNOWN)
        if not isinstance(body.get("models"), dict):
            raise BadRequest('models must say the share of each, for example {"llama3.2:3b": 1}', "models")
        asker = Asker(visitor_of(request.scope).principal, flow_of(request.scope))
        run = await services.load_lab.begin(asked_as(LoadPlan, body), asker)
        return private_json(_told(services, run), 202)

    return respond


def _rows(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json({"rows": await services.load_lab.rows(request.path_params["id"])})

    return respond


def _beside(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        first, second = (services.load_lab.get(request.path_params[name]) for name in ("id", "other"))
        return private_json(asdict(beside(first, second)))

    return respond
