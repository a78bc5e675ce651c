"""The feed of the Service screen: cache, queue, hosts and every request on its way, whenever something happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from starlette.requests import Request
from starlette.routing import BaseRoute

from app.core.generation import Json
from app.gateway.event_feed import EventFeed
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import route


def service_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    return [route("/loupe/service/events", _events(services, lifecycle), "GET")]


def _events(services: GatewayServices, lifecycle: Lifecycle) -> Callable[[Request], Awaitable[EventFeed]]:
    """`event: service` with the whole state (`app.services.overview`) as data: at once, on change, and every 5 s."""

    async def respond(request: Request) -> EventFeed:
        lifecycle.admit()
        return EventFeed("service", _batches(services), lifecycle, patience=services.settings.stall_seconds)

    return respond


async def _batches(services: GatewayServices) -> AsyncGenerator[list[Json], None]:
    async with aclosing(services.overview.watch()) as views:
        async for view in views:
            yield [view]
