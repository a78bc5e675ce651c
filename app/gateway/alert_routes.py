"""Alerts over HTTP: what is open and what was, the rules and their changes, the webhook's trial, Prometheus's rules."""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.core.generation import Json
from app.gateway.bodies import json_object
from app.gateway.needs import GatewayServices
from app.gateway.ollama_routes import body_of, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import PRIVATE, private_json
from app.services.alerting.alerts import AlertsView, RuleState
from app.services.alerting.prometheus import as_rules
from app.services.alerting.words import condition


def alert_routes(services: GatewayServices) -> list[BaseRoute]:
    return [
        route("/loupe/alerts", _all(services), "GET"),
        route("/loupe/alerts/prometheus", _prometheus(services), "GET"),
        route("/loupe/alerts/test", _test(services), "POST"),
        route("/loupe/alerts/rules/{name}", _change(services), "PUT"),
        route("/loupe/alerts/rules/{name}", _remove(services), "DELETE"),
    ]


def _all(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json(told(services.alerts.view()))

    return respond


def _prometheus(services: GatewayServices) -> Handler:
    """The rules in force, for a Prometheus to load."""

    async def respond(request: Request) -> Response:
        return Response(as_rules(services.alerts.book.rules), media_type="application/yaml", headers=PRIVATE)

    return respond


def _test(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        delivery = await services.alerts.try_receiver()
        return private_json({"taken": delivery.taken, "why": delivery.why})

    return respond


def _change(services: GatewayServices) -> Handler:
    """A shipped rule's limits, or a rule of one's own: what is not named stays as it is."""

    async def respond(request: Request) -> Response:
        rule = await services.alerts.change(request.path_params["name"], json_object(await body_of(request, services)))
        return private_json({"rule": asdict(rule), "condition": condition(rule)})

    return respond


def _remove(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        rule = await services.alerts.remove(request.path_params["name"])
        return private_json({"rule": None if rule is None else asdict(rule)})

    return respond


def told(view: AlertsView) -> dict[str, Json]:
    return {
        "looked": view.looked,
        "alerts": [asdict(alert) for alert in view.alerts],
        "rules": [_rule(state) for state in view.rules],
        "series": list(view.series),
        "webhook": None if view.receiver is None else asdict(view.receiver),
    }


def _rule(state: RuleState) -> Json:
    return {
        **asdict(state.rule), "condition": condition(state.rule), "figures": dict(state.figures),
        "pending": dict(state.pending), "open": state.open, "changed": state.changed,
    }  # fmt: skip
