"""What answers cost, and the assumptions of it. The administrators' alone: it tells of everybody."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.core.errors import BadRequest
from app.core.generation import Json
from app.gateway.bodies import json_object
from app.gateway.needs import GatewayServices
from app.gateway.ollama_routes import body_of, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import private_json
from app.services.costing.report import Beside, CostRow
from app.services.costing.service import BY, DAYS, CostView


def cost_routes(services: GatewayServices) -> list[BaseRoute]:
    return [
        route("/loupe/cost", _report(services), "GET"),
        route("/loupe/cost/assumptions", _assumptions(services), "GET"),
        route("/loupe/cost/assumptions", _change(services), "PUT"),
    ]


def _report(services: GatewayServices) -> Handler:
    """`?by=variant&days=30`: rows, their sum, what stands whether anything is asked or not, and the cloud beside it."""

    async def respond(request: Request) -> Response:
        given = request.query_params
        view = await services.cost.view(given.get("by") or BY, _days(given.get("days")))
        return private_json(cost_json(view))

    return respond


def _assumptions(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json(services.cost.assumed.told())

    return respond


def _change(services: GatewayServices) -> Handler:
    """What is in the body is stated from now on, null takes a statement back; the answer is what holds."""

    async def respond(request: Request) -> Response:
        body = json_object(await body_of(request, services))
        return private_json((await services.cost.change(body)).told())

    return respond


def _days(given: str | None) -> int:
    try:
        return DAYS if given is None else int(given)
    except ValueError:
        raise BadRequest("days is a whole number, such as 30", "days") from None


def cost_json(view: CostView) -> dict[str, Json]:
    """Money in the currency of `assumptions`, energy in J; null is unknown. `measured` are shares of the time."""
    told = view.report
    standing: dict[str, Json] = {
        "machine_a_day": told.standing.machine, "rest_a_day": told.standing.rest,
        "rest_watts": told.standing.rest_watts, "rest_basis": str(told.standing.rest_basis),
    }  # fmt: skip
    return {
        "by": told.by, "days": told.days, "rows": [_row(row) for row in told.rows], "total": _row(told.total),
        "standing": standing, "cloud": [_beside(one) for one in told.beside],
        "tokens_a_day": told.tokens_a_day, "most_tokens_a_day": told.most_a_day, "left_out": list(told.left_out),
        "counters": list(view.counters), "why_no_counter": view.why, "machines": list(view.machines),
        "assumptions": view.assumed.told(),
    }  # fmt: skip


def _row(row: CostRow) -> Json:
    used, energy = row.used, row.energy
    return {
        "name": str(row.name), "requests": used.requests, "prompt_tokens": used.prompt_tokens,
        "output_tokens": used.output_tokens, "seconds": used.seconds, "cached_requests": used.cached,
        "cached_prompt_tokens": used.cached_prompt_tokens, "cached_output_tokens": used.cached_output_tokens,
        "joules": energy.joules, "basis": str(energy.basis), "measured": energy.measured,
        "joules_per_1000_tokens": row.joules_per_1000, "electricity": row.electricity, "standing": row.standing,
        "money": row.money, "money_per_million_tokens": row.per_million,
    }  # fmt: skip


def _beside(one: Beside) -> Json:
    return {
        "name": one.price.name, "read": one.price.read, "written": one.price.written, "money": one.money,
        "break_even_tokens_a_day": one.break_even, "why": one.why, "possible": one.possible,
    }  # fmt: skip
