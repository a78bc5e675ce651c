"""Training data over HTTP: a teacher's answers begun, looked at, fetched, stopped, deleted. All of it the owner's.

POST   /loupe/training                {"model", "questions" or "question_set", "system", "tokens", "host"}: 202, the set
GET    /loupe/training[/ID]           the list; one set with its job while there is one
GET    /loupe/training/ID/data        ?form=messages or sharegpt: the file for a trainer, of what is answered so far
GET    /loupe/training/ID/manifest    ?form=…: teacher, digest, licence, what was left out
POST   /loupe/training/ID/cancel
DELETE /loupe/training/ID
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.comparison.result_json import to_json
from app.comparison.teacher import Form
from app.comparison.training_store import Teach, TrainingSet
from app.core.errors import BadRequest
from app.core.generation import Json
from app.gateway.bodies import json_object
from app.gateway.job_results import result_routes
from app.gateway.jobs_routes import job_json
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import body_of, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import asked_as, check_known, private_json

_KNOWN = ("model", "questions", "question_set", "system", "tokens", "host")
_TYPES = {Form.MESSAGES: "application/jsonl", Form.SHAREGPT: "application/json"}


def training_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    base = "/loupe/training"
    return [
        route(base, _list(services), "GET"),
        route(base, _begin(services, lifecycle), "POST"),
        *result_routes(base, services, services.teaching, _told),
        route(f"{base}/{{id}}/data", _data(services), "GET"),
        route(f"{base}/{{id}}/manifest", _manifest(services), "GET"),
    ]


def _told(services: GatewayServices, made: TrainingSet) -> dict[str, Json]:
    job = services.teaching.job(made.id)
    return {
        "id": made.id, "state": made.state, "total": made.total, "answered": made.answered, "whole": made.whole,
        "teacher": to_json(made.teacher), "job": None if job is None else job_json(job),
    }  # fmt: skip


def _list(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json({"sets": [_told(services, made) for made in services.teaching.sets()]})

    return respond


def _begin(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        body = json_object(await body_of(request, services))
        check_known(body, _KNOWN)
        if not isinstance(body.get("model"), str):
            raise BadRequest("say which model is the teacher", "model")
        return private_json(_told(services, await services.teaching.begin(asked_as(Teach, body))), 202)

    return respond


def _data(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        form, set_id = _form(request), request.path_params["id"]
        content = await services.teaching.data(set_id, form)
        ending = "jsonl" if form is Form.MESSAGES else "json"
        headers = {
            "content-disposition": f'attachment; filename="loupe-training-{set_id}-{form.value}.{ending}"',
            "cache-control": "no-store",
        }
        return Response(content, 200, headers, _TYPES[form])

    return respond


def _manifest(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json(await services.teaching.manifest(request.path_params["id"], _form(request)))

    return respond


def _form(request: Request) -> Form:
    try:
        return Form(request.query_params.get("form", Form.MESSAGES))
    except ValueError:
        raise BadRequest(f"form is one of {', '.join(Form)}", "form") from None
