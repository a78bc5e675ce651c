"""`/openapi.json`: all that is served, described from one table (OpenAPI 3.1)."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app import __version__
from app.gateway.ollama_routes import route
from app.gateway.openapi.answers import ANSWERS
from app.gateway.openapi.operations import JSON, OPERATIONS, PLAIN, Operation
from app.gateway.openapi.schemas import TEXT, Schema, ref
from app.wire.go_json import dumps

_PARAMETER = re.compile(r"\{(\w+)\}")
_NAMED = {
    name: {"schema": TEXT, "description": about}
    for name, about in {
        "X-Request-Id": "the client's own name for the request, or ours",
        "X-Loupe-Request-Id": "our name for it: /loupe/requests/ID",
        "X-Loupe-Cache": "what the cache did, and why",
        "X-Loupe-Model": "the model that answered",
        "X-Loupe-Host": "the host that answered",
    }.items()
}


def openapi_routes() -> list[BaseRoute]:
    return [route("/openapi.json", _respond, "GET")]


async def _respond(request: Request) -> Response:
    return Response(_written(), media_type="application/json")


@cache
def _written() -> bytes:
    return dumps(document())


def document() -> dict[str, Any]:
    """The description as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Loupe", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Local language models behind one queue and one cache: Ollama's routes, OpenAI's and "
            "Anthropic's, and Loupe's own.",
        },
        "paths": paths,
        "components": {
            "schemas": ANSWERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"bearer": []}, {"key": []}],
    }  # fmt: skip


def _operation(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": _name(operation), "summary": operation.summary, "tags": [operation.tag],
        "parameters": _parameters(operation), "responses": _responses(operation),
    }  # fmt: skip
    if operation.body is not None:
        told["requestBody"] = {"required": True, "content": {operation.body_type: {"schema": operation.body}}}
    return told


def _name(operation: Operation) -> str:
    words = re.findall(r"\w+", operation.path) or ["root"]
    return "_".join([operation.method.lower(), *words])


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(operation.path)
    ]
    others = [
        {"name": name, "in": place, "schema": schema}
        for place, named in (("query", operation.query), ("header", operation.headers))
        for name, schema in named.items()
    ]
    return [*in_path, *others]


def _responses(operation: Operation) -> dict[str, Any]:
    content = {kind: {"schema": schema} if schema else {} for kind, schema in operation.answers.items()}
    success: dict[str, Any] = {"description": "as asked", "headers": _NAMED}
    if content and operation.method != "HEAD":
        success["content"] = content
    failure = {"description": "what went wrong, and what to do", "content": _error(operation.path)}
    if operation.method == "HEAD":
        failure = {"description": "not so"}
    told = {str(status): success for status in operation.status}
    if operation.path == "/readyz" and operation.method == "GET":
        told["503"] = {**success, "description": "no model can answer"}
    return {**told, "default": failure}


def _error(path: str) -> dict[str, Schema]:
    kind = "AnthropicError" if path == "/v1/messages" else "OpenAIError" if path.startswith("/v1/") else "Error"
    return {JSON: {"schema": ref(kind)}, PLAIN: {}}
