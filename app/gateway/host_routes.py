"""The model hosts: what is known of each, and hosts added, drained and removed while Loupe runs.

Changes are the owner's, as pull and delete are. Addresses come from the owner alone, never from a chat request.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.core.errors import BadRequest
from app.core.generation import Json
from app.core.hosts import HostStatus
from app.gateway.bodies import json_object, text_of
from app.gateway.needs import GatewayServices
from app.gateway.ollama_routes import body_of, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import private_json


def host_routes(services: GatewayServices) -> list[BaseRoute]:
    return [
        route("/loupe/hosts", _list(services), "GET"),
        route("/loupe/hosts", _add(services), "POST"),
        route("/loupe/hosts/{name}", _remove(services), "DELETE"),
        route("/loupe/hosts/{name}/drain", _drain(services, draining=True), "POST"),
        route("/loupe/hosts/{name}/resume", _drain(services, draining=False), "POST"),
    ]


def host_json(host: HostStatus, now: float) -> dict[str, Json]:
    """One host, without its key. `now` is the monotonic clock; `round_trip` and `rests` (how long nothing or only a
    probe is sent) in seconds. `added`: at run time, so it may be removed."""
    address, until = host.address, host.rests_until
    told: dict[str, Json] = {
        "name": address.name, "url": address.url, "embedded": address.embedded, "state": str(host.state),
        "version": host.version, "server": host.server, "error": host.error, "slots": address.slots,
        "busy": host.busy_slots, "loaded": list(host.loaded), "round_trip": host.round_trip, "breaker": host.breaker,
        "rests": round(until - now, 3) if until is not None and until > now else None, "draining": host.draining,
        "added": host.added, "warnings": [{"text": one.text, "severe": one.severe} for one in host.warnings],
    }  # fmt: skip
    return told


def _list(services: GatewayServices) -> Handler:
    """`outage`: set while no host can be used and those who wait are held for `seconds` more."""

    async def respond(request: Request) -> Response:
        now, outage = services.clock.monotonic(), services.pool.outage
        hosts: list[Json] = [host_json(host, now) for host in services.pool.statuses()]
        held: Json = {"seconds": round(outage.until - now, 3), "reasons": dict(outage.reasons)} if outage else None
        return private_json({"hosts": hosts, "outage": held})

    return respond


def _add(services: GatewayServices) -> Handler:
    """`{"name", "url", "slots", "key"}`, the last two as wanted. 201 and the host, whether it answers yet or not."""

    async def respond(request: Request) -> Response:
        body = json_object(await body_of(request, services))
        slots, key = body.get("slots", services.settings.slots), body.get("key")
        if not isinstance(slots, int) or isinstance(slots, bool):
            raise BadRequest("slots must be a whole number", "slots")
        if key is not None and not isinstance(key, str):
            raise BadRequest("key must be a string", "key")
        host = await services.hosts.add(text_of(body, "name"), text_of(body, "url"), slots, key)
        return private_json(host_json(host, services.clock.monotonic()), 201)

    return respond


def _drain(services: GatewayServices, *, draining: bool) -> Handler:
    async def respond(request: Request) -> Response:
        host = await services.hosts.drain(request.path_params["name"], draining=draining)
        return private_json(host_json(host, services.clock.monotonic()))

    return respond


def _remove(services: GatewayServices) -> Handler:
    """200 where it is gone, 202 where an answer or a job still runs there: it goes when that has ended."""

    async def respond(request: Request) -> Response:
        gone = await services.hosts.remove(request.path_params["name"])
        return private_json({"removed": gone}, 200 if gone else 202)

    return respond
