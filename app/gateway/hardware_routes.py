"""What this machine and the service do: now, as feeds, and over time; and whether the machine is right for models."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import fields, is_dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from app import __version__
from app.core.errors import BadRequest
from app.core.generation import Json
from app.gateway.event_feed import EventFeed
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import route
from app.gateway.ops_routes import Handler
from app.services.live_series import told
from app.services.series_store import SeriesStore

DEFAULT_SECONDS = 900.0
_FRESH = {"cache-control": "no-store"}


def hardware_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    return [
        route("/loupe/hardware", _look(services), "GET"),
        route("/loupe/hardware/events", _events(services, lifecycle), "GET"),
        route("/loupe/hardware/history", _history(services), "GET"),
        route("/loupe/series/events", _series(services, lifecycle), "GET"),
        route("/loupe/check", _check(services), "GET"),
    ]


def _look(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return JSONResponse(plain(services.hardware.state), headers=_FRESH)

    return respond


def _events(services: GatewayServices, lifecycle: Lifecycle) -> Callable[[Request], Awaitable[EventFeed]]:
    """Each look as a server-sent event named `hardware`."""

    async def looks() -> AsyncGenerator[Sequence[Json], None]:
        async for state in services.hardware.watch():
            yield [plain(state)]

    async def respond(request: Request) -> EventFeed:
        lifecycle.admit()
        return EventFeed("hardware", looks(), lifecycle, patience=services.settings.stall_seconds)

    return respond


def _series(services: GatewayServices, lifecycle: Lifecycle) -> Callable[[Request], Awaitable[EventFeed]]:
    """All series once a second as server-sent events named `series`: first the whole (`now`, `limits`, `names`,
    `unknown`), then what is different (`set`, `gone`), and what `happened`. After a gap the whole again."""

    async def samples() -> AsyncGenerator[Sequence[Json], None]:
        async with aclosing(services.live.watch()) as told:
            async for sample in told:
                yield [sample]

    async def respond(request: Request) -> EventFeed:
        lifecycle.admit()
        return EventFeed("series", samples(), lifecycle, patience=services.settings.stall_seconds)

    return respond


def _history(services: GatewayServices) -> Handler:
    """`?seconds=900` back from now: series by name, each as [mean, largest] or null at each of `at`; what happened in
    that time. `points`: about so many intervals at most, `series`: these alone."""

    async def respond(request: Request) -> Response:
        until = services.clock.now() + 1
        back, points = _seconds(request.query_params.get("seconds")), _points(request.query_params.get("points"))
        asked = set(filter(None, request.query_params.get("series", "").split(",")))
        return JSONResponse(
            await asyncio.to_thread(_looked_up, services.figures, until - back, until, points, asked), headers=_FRESH
        )

    return respond


def _looked_up(store: SeriesStore, since: float, until: float, points: int, asked: set[str]) -> Json:
    step, intervals = store.read(since, until, points)
    names = sorted({name for interval in intervals for name in interval.figures if not asked or name in asked})
    return {
        "step": step, "at": [interval.at for interval in intervals],
        "series": {name: [plain(interval.figures.get(name)) for interval in intervals] for name in names},
        "happened": [told(happening) for happening in store.marks(since, until)],
    }  # fmt: skip


def _check(services: GatewayServices) -> Handler:
    """Whether this machine is right, looked at anew: takes some seconds."""

    async def respond(request: Request) -> Response:
        checks = await services.check.run()
        return JSONResponse({"loupe": __version__, "checks": [plain(check) for check in checks]}, headers=_FRESH)

    return respond


def _seconds(given: str | None) -> float:
    try:
        seconds = DEFAULT_SECONDS if given is None else float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 366 * 86_400:
        raise BadRequest("seconds: give how far back to look, such as 900")
    return seconds


def _points(given: str | None) -> int:
    points = given if given is not None else "0"
    if not (points.isascii() and points.isdecimal() and len(points) < 6):
        raise BadRequest("points: give a whole number, such as 600")
    return int(points)


def plain(value: Any) -> Json:
    """A value of `core` in JSON's types."""
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return value  # type: ignore[no-any-return]
