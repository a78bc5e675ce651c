"""The routes of what a job makes and keeps (scorecards, training sets, load runs, studies): one of them, deleting it,
and its work paused, resumed and cancelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.core.generation import Json
from app.gateway.jobs_routes import job_json
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import route
from app.gateway.own_bodies import private_json
from app.services.jobs import JobView


class Named(Protocol):
    @property
    def id(self) -> str: ...


Made = TypeVar("Made", bound=Named)
Kept = TypeVar("Kept", bound=Named, covariant=True)
Told = Callable[[GatewayServices, Made], Mapping[str, Json]]


class Keeper(Protocol[Kept]):
    """Raises of all: the error that says there is none of that id."""

    def get(self, made_id: str, /) -> Kept: ...

    async def delete(self, made_id: str, /) -> None: ...

    async def cancel(self, made_id: str, /) -> Kept: ...


class Pausing(Protocol):
    def pause(self, made_id: str, /) -> JobView: ...

    def resume(self, made_id: str, /) -> JobView: ...


def result_routes(base: str, services: GatewayServices, keeper: Keeper[Made], told: Told[Made]) -> list[BaseRoute]:
    """`told` is the body of one of them."""

    async def one(request: Request) -> Response:
        return private_json(told(services, keeper.get(request.path_params["id"])))

    async def delete(request: Request) -> Response:
        made = keeper.get(request.path_params["id"])
        await keeper.delete(made.id)
        return private_json({"deleted": made.id})

    async def cancel(request: Request) -> Response:
        """As it is when the work has stopped."""
        return private_json(told(services, await keeper.cancel(request.path_params["id"])))

    return [
        route(f"{base}/{{id}}", one, "GET"),
        route(f"{base}/{{id}}", delete, "DELETE"),
        route(f"{base}/{{id}}/cancel", cancel, "POST"),
    ]


def pausing_routes(base: str, work: Pausing, lifecycle: Lifecycle) -> list[BaseRoute]:
    async def pause(request: Request) -> Response:
        return private_json(job_json(work.pause(request.path_params["id"])))

    async def resume(request: Request) -> Response:
        lifecycle.admit()
        return private_json(job_json(work.resume(request.path_params["id"])))

    return [route(f"{base}/{{id}}/pause", pause, "POST"), route(f"{base}/{{id}}/resume", resume, "POST")]
