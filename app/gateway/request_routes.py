"""The last requests, and each one with its spans: one's own, and for an admin everybody's.

GET /loupe/requests       the newest first, without their spans. ?model= ?principal= ?status= (a code, or "failed")
                          ?cache= ?host= ?since= (seconds since the epoch) ?q= (words, where they are kept)
                          ?order=slow ?limit= (1 to 1000)
GET /loupe/requests/ID    one of them, running ones included, as a tree of spans. ID is ours or the client's own
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Scope

from app.core.errors import BadRequest, RequestNotFound
from app.core.generation import Json
from app.gateway.needs import GatewayServices, visitor_of
from app.gateway.ollama_routes import route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import private_json
from app.services.access_keys import KeyScope
from app.services.request_log import MOST, RequestFilter
from app.services.request_trace import FinishedRequest
from app.services.span_tree import SpanNode, tree_of

_ASKED = ("model", "principal", "status", "cache", "host", "since", "q", "order", "limit")
_ORDERS = ("new", "slow")


def request_routes(services: GatewayServices) -> list[BaseRoute]:
    return [
        route("/loupe/requests", _list(services), "GET"),
        route("/loupe/requests/{id}", _one(services), "GET"),
    ]


def seen_by(scope: Scope) -> str:
    """Whose requests one may see: "" for everybody's, else the principal."""
    visitor = visitor_of(scope)
    return "" if visitor.scope is KeyScope.ADMIN else visitor.principal


def request_json(record: FinishedRequest) -> dict[str, Json]:
    """One line. `started_at` in seconds since the epoch, durations in nanoseconds, `age` in seconds."""
    usage, cache = record.usage, record.cache
    return {
        "id": record.id, "client_id": record.client_id or None,
        "trace_id": record.context.trace_id if record.context else None,
        "principal": record.principal, "flow": record.flow, "model": record.model, "digest": record.digest or None,
        "host": record.host or None, "endpoint": record.endpoint, "status": record.status,
        "error": record.error or None, "finish_reason": record.finish_reason or None,
        "cache": {"outcome": cache.outcome, "reason": cache.reason or None, "age": cache.age},
        "started_at": record.started_at, "duration_ns": _ns(record.seconds), "ttft_ns": _ns(record.ttft),
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "tokens_per_second": usage.decode_tps if usage else None,
        "alias": record.route.alias if record.route else None, "question": record.question or None,
    }  # fmt: skip


def full_json(record: FinishedRequest) -> dict[str, Json]:
    """All of it. `pace`: [ns, pieces so far] at some moments; a piece is a token, as hosts send them one by one."""
    pace: list[Json] = [[_ns(at), pieces] for at, pieces in record.pace]
    return {
        **request_json(record), "answer": record.answer or None, "options": dict(record.options), "pace": pace,
        "spans": _node(tree_of(record)),
    }  # fmt: skip


def _node(node: SpanNode) -> Json:
    attributes: dict[str, Json] = dict(node.attributes)
    return {
        "name": node.name, "start_ns": node.start_ns, "duration_ns": node.duration_ns, "attributes": attributes,
        "children": [_node(child) for child in node.children],
    }  # fmt: skip


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e9)


def _list(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        wanted = asked_of(request.query_params, seen_by(request.scope))
        log = services.telemetry.log
        rows: list[Json] = [request_json(record) for record in log.select(wanted)]
        size = log.size
        kept: Json = {"requests": size.requests, "bytes": size.bytes, "limit": size.limit}
        return private_json(
            {"requests": rows, "running": services.telemetry.running_of(wanted.principal), "kept": kept}
        )

    return respond


def _one(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        wanted = request.path_params["id"]
        found = services.telemetry.find(wanted, seen_by(request.scope))
        if found is None:
            raise RequestNotFound(wanted)
        return private_json(full_json(found))

    return respond


def asked_of(asked: Mapping[str, str], principal: str) -> RequestFilter:
    """What is wanted, kept to `principal` where one is given. Raises `BadRequest` naming what is wrong."""
    if unknown := sorted(set(asked) - set(_ASKED)):
        raise BadRequest(f"unknown: {', '.join(unknown)[:200]}; known are {', '.join(_ASKED)}", unknown[0])
    order, limit = asked.get("order", "new"), asked.get("limit", "100")
    if order not in _ORDERS:
        raise BadRequest(f"order is one of {', '.join(_ORDERS)}", "order")
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 5 and 1 <= int(limit) <= MOST):
        raise BadRequest(f"limit is a number from 1 to {MOST}", "limit")
    return RequestFilter(
        model=asked.get("model", ""), principal=principal or asked.get("principal", ""),
        status=asked.get("status", ""), cache=asked.get("cache", ""), host=asked.get("host", ""),
        text=asked.get("q", ""), since=_moment(asked.get("since", "")), slow_first=order == "slow", limit=int(limit),
    )  # fmt: skip


def _moment(given: str) -> float | None:
    if not given:
        return None
    try:
        moment = float(given)
    except ValueError:
        moment = math.nan
    if not math.isfinite(moment):
        raise BadRequest("since is a moment in seconds since the epoch, like 1767225600", "since")
    return moment
