"""The batching lab over HTTP, and the setup of our own runtime. All of it the owner's.

POST   /loupe/batching            {"model", "kind": "slots" or "options", …}: 202, the study
GET    /loupe/batching[/ID]       a list of short rows; one study with its job while there is one
POST   /loupe/batching/ID/pause, /resume, /cancel
POST   /loupe/batching/ID/apply   what it recommends, on the embedded runtime: 202, the job
DELETE /loupe/batching/ID
GET    /loupe/runtime             how the embedded runtime is set up
POST   /loupe/runtime             {"slots", "threads", "batch", "flash", "kv_type"}: 202, the job that applies them
DELETE /loupe/runtime             takes back all that was changed so: 202, the job
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.comparison.batching.study import AskedStudy, Study
from app.comparison.result_json import to_json
from app.core.errors import BadRequest
from app.core.generation import Json
from app.core.runtime_setup import RuntimeSetup
from app.gateway.bodies import json_object
from app.gateway.job_results import pausing_routes, result_routes
from app.gateway.jobs_routes import job_json
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import body_of, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import asked_as, check_known, private_json
from app.services.runtime_tuning import setup_of

_KNOWN = ("model", "kind", "host", "most", "shapes", "rounds", "batches", "arms", "at_once")


def batching_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    base = "/loupe/batching"
    return [
        route(base, _list(services), "GET"),
        route(base, _begin(services, lifecycle), "POST"),
        *result_routes(base, services, services.batching, _told),
        *pausing_routes(base, services.batching, lifecycle),
        route(f"{base}/{{id}}/apply", _apply(services, lifecycle), "POST"),
        route("/loupe/runtime", _runtime(services), "GET"),
        route("/loupe/runtime", _set_up(services, lifecycle), "POST"),
        route("/loupe/runtime", _reset(services, lifecycle), "DELETE"),
    ]


def _told(services: GatewayServices, study: Study) -> dict[str, Json]:
    job = services.batching.job(study.id)
    told = to_json(study)
    return {**(told if isinstance(told, dict) else {}), "job": job_json(job) if job is not None else None}


def _list(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json({"studies": [_short(study) for study in services.batching.list()]})

    return respond


def _short(study: Study) -> dict[str, Json]:
    return {
        "id": study.id, "model": study.asked.model, "kind": study.asked.kind, "host": study.asked.host,
        "state": study.state, "started_at": study.started_at, "ended_at": study.ended_at,
        "advice": study.advice.sentence if study.advice else None,
    }  # fmt: skip


def _begin(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        body = json_object(await body_of(request, services))
        check_known(body, _KNOWN)
        if not isinstance(body.get("model"), str):
            raise BadRequest("say which model to measure with, for example llama3.2:3b", "model")
        return private_json(_told(services, await services.batching.begin(asked_as(AskedStudy, body))), 202)

    return respond


def _apply(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        study = services.batching.get(request.path_params["id"])
        return private_json(job_json(services.tuning.apply(study.applicable())), 202)

    return respond


# -- the runtime ------------------------------------------------------------------------------------------------------


def _runtime(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        tuning = services.tuning
        return private_json({
            "in_force": tuning.in_force.changes, "changed": tuning.kept.changes,
            "refusal": tuning.refusal(RuntimeSetup()),
        })  # fmt: skip

    return respond


def _set_up(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        setup = setup_of(json_object(await body_of(request, services)))
        if not setup.changes:
            raise BadRequest("name one or more of slots, threads, batch, flash, kv_type", "body")
        return private_json(job_json(services.tuning.apply(setup)), 202)

    return respond


def _reset(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        return private_json(job_json(services.tuning.apply(RuntimeSetup())), 202)

    return respond
