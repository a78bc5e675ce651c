"""Jobs over HTTP: list, begin, cancel, try again, and a feed of changes; what can be made, what a delete frees.

All of it is the owner's, as pull and delete are. A quantization may be made without LOUPE_ALLOW_CREATE: it brings
nothing onto the host that was not there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.core.errors import BadRequest
from app.core.generation import Json
from app.gateway.bodies import json_object, text_of
from app.gateway.event_feed import EventFeed
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import body_of, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import private_json
from app.services.jobs import JobView


def jobs_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    return [
        route("/loupe/jobs", _list(services), "GET"),
        route("/loupe/jobs", _begin(services, lifecycle), "POST"),
        route("/loupe/jobs/events", _events(services, lifecycle), "GET"),
        route("/loupe/jobs/{id}", _one(services), "GET"),
        route("/loupe/jobs/{id}", _cancel(services), "DELETE"),
        route("/loupe/jobs/{id}/retry", _retry(services, lifecycle), "POST"),
        route("/loupe/models/offers", _offers(services), "GET"),
        route("/loupe/models/removal", _removal(services), "GET"),
        route("/loupe/models", _remove(services), "DELETE"),
    ]


def job_json(job: JobView) -> dict[str, Json]:
    """A job as the routes and the feed tell it. Bytes, bytes a second, seconds; times in seconds since the epoch."""
    told: dict[str, Json] = {
        "id": job.id, "kind": job.kind, "title": job.title, "state": str(job.state), "host": job.host,
        "model": job.model, "completed": job.completed, "total": job.total, "detail": job.detail, "error": job.error,
        "pausable": job.pausable,
        "rate": job.rate, "eta": job.eta, "started_at": job.started_at, "ended_at": job.ended_at,
    }  # fmt: skip
    return told


def _list(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json({"jobs": [job_json(job) for job in services.jobs.list()]})

    return respond


def _one(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json(job_json(services.jobs.get(request.path_params["id"])))

    return respond


def _begin(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    """`{"kind": "pull", "model", "insecure"}` or `{"kind": "make", "source", "level"}`, each with "host" where there
    are several. 202 and the job; the one that runs already where it is the same."""

    async def respond(request: Request) -> Response:
        lifecycle.admit()
        body = json_object(await body_of(request, services))
        kind, host = text_of(body, "kind"), text_of(body, "host")
        if kind == "pull":
            insecure = body.get("insecure") is True
            job = services.model_jobs.pull(text_of(body, "model"), host, insecure=insecure)
        elif kind == "make":
            job = services.model_jobs.make(text_of(body, "source"), text_of(body, "level"), host)
        else:
            raise BadRequest('kind must be "pull" or "make"', "kind")
        return private_json(job_json(job), 202)

    return respond


def _cancel(services: GatewayServices) -> Handler:
    """The job as it is when its work has stopped."""

    async def respond(request: Request) -> Response:
        job_id = request.path_params["id"]
        await services.jobs.cancel(job_id)
        return private_json(job_json(services.jobs.get(job_id)))

    return respond


def _retry(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        return private_json(job_json(services.jobs.retry(request.path_params["id"])), 202)

    return respond


def _events(services: GatewayServices, lifecycle: Lifecycle) -> Callable[[Request], Awaitable[EventFeed]]:
    """Every job once, then each that changed: `event: job`, its JSON as data."""

    async def respond(request: Request) -> EventFeed:
        lifecycle.admit()
        return EventFeed("job", _batches(services), lifecycle, patience=services.settings.stall_seconds)

    return respond


async def _batches(services: GatewayServices) -> AsyncGenerator[list[Json], None]:
    async with aclosing(services.jobs.watch()) as changes:
        async for views in changes:
            yield [job_json(view) for view in views]


def _offers(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        offers = await services.model_jobs.offers(*_asked(request, "source"))
        return private_json({"offers": [asdict(offer) for offer in offers]})

    return respond


def _removal(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json(asdict(await services.model_jobs.removal(*_asked(request, "model"))))

    return respond


def _remove(services: GatewayServices) -> Handler:
    """Deletes `?model=`; answers what was freed."""

    async def respond(request: Request) -> Response:
        return private_json(asdict(await services.model_jobs.remove(*_asked(request, "model"))))

    return respond


def _asked(request: Request, name: str) -> tuple[str, str]:
    return request.query_params.get(name, ""), request.query_params.get("host", "")
