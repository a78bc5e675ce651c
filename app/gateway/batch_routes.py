"""Batch jobs over HTTP. A key of scope `infer` has its own; an administrator sees everybody's.

POST   /loupe/batches               {"name", "content", "model", "system", "options", "form"}: 202, the batch
GET    /loupe/batches[/ID]          the newest first; one with its job while there is one
GET    /loupe/batches/ID/results    what is answered so far, as a file; ?format=jsonl, csv or openai, ?after=N for what
                                    has ended since then, in the order in which it ended (header X-Loupe-Last: N)
POST   /loupe/batches/ID/pause | resume | cancel | retry
DELETE /loupe/batches/ID
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from app.core.errors import BadRequest
from app.core.generation import Json
from app.gateway.bodies import json_object, text_of
from app.gateway.jobs_routes import job_json
from app.gateway.needs import GatewayServices, Lifecycle, visitor_of
from app.gateway.ollama_routes import body_of, check_key, route
from app.gateway.ops_routes import Handler
from app.gateway.own_bodies import PRIVATE, check_known, private_json
from app.gateway.request_routes import seen_by
from app.services.batches.batches import Batches
from app.services.batches.reading import form_of, read_prompts
from app.services.batches.values import Batch, Defaults, Form, Outcome, Prompt
from app.services.batches.writing import TYPES, columns_of, file_name, head_of, line_of, written_form

_KNOWN = ("name", "content", "model", "system", "options", "form")
Operation = Callable[[str, str], Awaitable[Batch]]


def batch_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    base, batches = "/loupe/batches", services.batches
    return [
        route(base, _list(services), "GET"),
        route(base, _begin(services, lifecycle), "POST"),
        route(f"{base}/{{id}}", _one(services), "GET"),
        route(f"{base}/{{id}}", _delete(services), "DELETE"),
        route(f"{base}/{{id}}/results", _results(services), "GET"),
        route(f"{base}/{{id}}/pause", _operate(services, lifecycle, batches.pause), "POST"),
        route(f"{base}/{{id}}/resume", _operate(services, lifecycle, batches.resume), "POST"),
        route(f"{base}/{{id}}/cancel", _operate(services, lifecycle, batches.cancel), "POST"),
        route(f"{base}/{{id}}/retry", _operate(services, lifecycle, batches.retry), "POST"),
    ]


def _told(services: GatewayServices, batch: Batch) -> dict[str, Json]:
    job = services.batches.job(batch.id)
    return {
        "id": batch.id, "name": batch.name, "owner": batch.owner, "form": batch.form, "state": batch.state,
        "total": batch.total, "answered": batch.answered, "failed": batch.failed, "models": list(batch.models),
        "prompt_tokens": batch.prompt_tokens, "output_tokens": batch.output_tokens, "created_at": batch.created_at,
        "ended_at": batch.ended_at, "error": batch.error, "job": None if job is None else job_json(job),
    }  # fmt: skip


def _list(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        batches = services.batches.list(seen_by(request.scope))
        return private_json({"batches": [_told(services, batch) for batch in batches]})

    return respond


def _begin(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        body = json_object(await body_of(request, services))
        check_known(body, _KNOWN)
        name, content = text_of(body, "name") or "prompts", text_of(body, "content")
        form = _form(text_of(body, "form")) or form_of(name, content)
        prompts = await asyncio.to_thread(read_prompts, name, content, form, _defaults(body))
        for model in dict.fromkeys(prompt.model for prompt in prompts):
            check_key(request, model)
        owner = visitor_of(request.scope).principal
        batch = await services.batches.begin(name, form, prompts, owner)
        return private_json(_told(services, batch), 202)

    return respond


def _form(asked: str) -> Form | None:
    if asked and asked not in tuple(Form):
        raise BadRequest(f"form is one of {', '.join(Form)}", "form")
    return Form(asked) if asked else None


def _defaults(body: dict[str, Json]) -> Defaults:
    options = body.get("options")
    if options is not None and not isinstance(options, dict):
        raise BadRequest("options must be an object", "options")
    return replace(Defaults(text_of(body, "model"), text_of(body, "system")), options=options or {})


def _one(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        batch = services.batches.get(request.path_params["id"], seen_by(request.scope))
        return private_json(_told(services, batch))

    return respond


def _operate(services: GatewayServices, lifecycle: Lifecycle, operation: Operation) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        return private_json(_told(services, await operation(request.path_params["id"], seen_by(request.scope))))

    return respond


def _delete(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        batch_id = request.path_params["id"]
        await services.batches.delete(batch_id, seen_by(request.scope))
        return private_json({"deleted": batch_id})

    return respond


def _results(services: GatewayServices) -> Handler:
    """A file that grows from one asking to the next while the batch runs."""

    async def respond(request: Request) -> Response:
        batch = services.batches.get(request.path_params["id"], seen_by(request.scope))
        form, after = written_form(batch, request.query_params.get("format", "")), request.query_params.get("after")
        if after is not None:
            return await _since(services.batches, batch, form, after)
        headers = {**PRIVATE, "content-disposition": f'attachment; filename="{file_name(batch, form)}"'}
        return StreamingResponse(_lines(services.batches, batch, form), 200, headers, TYPES[form])

    return respond


async def _lines(batches: Batches, batch: Batch, form: Form) -> AsyncIterator[bytes]:
    columns = await _columns(batches, batch, form)
    if columns:
        yield head_of(columns)
    async for _, prompt, outcome in batches.results(batch.id):
        yield line_of(form, columns, prompt, outcome)


async def _columns(batches: Batches, batch: Batch, form: Form) -> tuple[str, ...]:
    """Of the whole file, so that a row with more than the first one loses nothing. Of CSV alone."""
    return columns_of(await batches.columns(batch.id)) if form is Form.CSV else ()


async def _since(batches: Batches, batch: Batch, form: Form, after: str) -> Response:
    """The next thousand, without a head."""
    if not (after.isascii() and after.isdecimal() and len(after) < 10):
        raise BadRequest("after is the number that X-Loupe-Last named, 0 at first", "after")
    rows: list[tuple[int, Prompt, Outcome]] = [
        row async for row in batches.results(batch.id, after=int(after), most=1000)
    ]
    write = partial(line_of, form, await _columns(batches, batch, form))
    content = b"".join(write(prompt, outcome) for _, prompt, outcome in rows)
    return Response(content, 200, {**PRIVATE, "x-loupe-last": str(rows[-1][0] if rows else after)}, TYPES[form])
