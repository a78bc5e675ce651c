"""Loupe over HTTP: Ollama's dialect, health and metrics. Knows the services; knows nothing of Streamlit."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from app.core.errors import LoupeError
from app.gateway.alert_routes import alert_routes
from app.gateway.alias_routes import alias_routes
from app.gateway.batch_routes import batch_routes
from app.gateway.batching_routes import batching_routes
from app.gateway.cache_routes import cache_routes
from app.gateway.compare_routes import compare_routes
from app.gateway.cost_routes import cost_routes
from app.gateway.error_responses import BugBoundary, handle_http_error, handle_loupe_error
from app.gateway.hardware_routes import hardware_routes
from app.gateway.history_routes import history_routes
from app.gateway.host_routes import host_routes
from app.gateway.jobs_routes import jobs_routes
from app.gateway.keys_routes import keys_routes
from app.gateway.load_routes import load_routes
from app.gateway.management_routes import management_routes
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import ollama_routes
from app.gateway.openai_batch_routes import openai_batch_routes
from app.gateway.openapi import openapi_routes
from app.gateway.ops_routes import ops_routes
from app.gateway.picture_routes import picture_routes
from app.gateway.queue_routes import queue_routes
from app.gateway.repeated import RepeatedQuestions
from app.gateway.request_routes import request_routes
from app.gateway.service_routes import service_routes
from app.gateway.training_routes import training_routes
from app.gateway.v1_routes import v1_routes

__all__ = ["Lifecycle", "create_gateway", "create_routes"]


def create_routes(services: GatewayServices, lifecycle: Lifecycle | None = None) -> list[BaseRoute]:
    """Every route of the gateway. What is not in this list is a 404: nothing is proxied blindly."""
    lifecycle = lifecycle or Lifecycle()
    return [
        *ops_routes(services, lifecycle),
        *openapi_routes(),
        *request_routes(services),
        *queue_routes(services, lifecycle),
        *ollama_routes(services, lifecycle),
        *v1_routes(services, lifecycle),
        *management_routes(services, lifecycle),
        *jobs_routes(services, lifecycle),
        *compare_routes(services, lifecycle),
        *load_routes(services, lifecycle),
        *batching_routes(services, lifecycle),
        *service_routes(services, lifecycle),
        *hardware_routes(services, lifecycle),
        *cost_routes(services),
        *alert_routes(services),
        *host_routes(services),
        *alias_routes(services),
        *cache_routes(services),
        *history_routes(services),
        *keys_routes(services),
        *picture_routes(services),
        *training_routes(services, lifecycle),
        *batch_routes(services, lifecycle),
        *openai_batch_routes(services, lifecycle),
    ]


def create_gateway(
    services: GatewayServices, lifecycle: Lifecycle | None = None, more: Sequence[BaseRoute] = ()
) -> ASGIApp:
    """The routes as an application with our error answers, and in front of them the way for questions that come again.
    `more` are routes of others, such as the page's assets."""
    lifecycle = lifecycle or Lifecycle()
    app = Starlette(
        routes=[*create_routes(services, lifecycle), *more],
        middleware=[Middleware(BugBoundary)],
        exception_handlers={LoupeError: handle_loupe_error, HTTPException: handle_http_error},
    )
    app.router.redirect_slashes = False
    return RepeatedQuestions(app, services, lifecycle)
