"""OpenAI's batch API (/v1/files, /v1/batches) over our own batches, for clients that know no other.

A file is sent, a batch of it begun, looked at until it is `completed`, and its output file fetched. A paused batch is
`in_progress`. `completion_window` is taken and means nothing: a batch takes as long as people leave it. Shapes:
OpenAI's API reference and its Python client, whose own types read them in the tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.core.errors import BadRequest
from app.core.generation import Json
from app.gateway.bodies import json_object, text_of
from app.gateway.needs import GatewayServices, Lifecycle, visitor_of
from app.gateway.ollama_routes import body_of, check_key, route
from app.gateway.own_bodies import PRIVATE, private_json
from app.gateway.request_routes import seen_by
from app.services.batches.batches import Batches
from app.services.batches.reading import OPENAI_URLS, read_prompts
from app.services.batches.values import Batch, BatchState, FileNotFound, Form, Prompt, StoredFile
from app.services.batches.writing import TYPES, line_of
from app.wire.multipart import read_form

Handler = Callable[[Request], Awaitable[Response]]
BATCH, FILE, OUTPUT, ERRORS = "batch_", "file-", "-output", "-errors"
_SOURCE = ("input_file_id", "endpoint", "completion_window", "metadata")  # of what was asked, told again
_STATUS = {
    BatchState.RUNNING: "in_progress", BatchState.PAUSED: "in_progress", BatchState.DONE: "completed",
    BatchState.CANCELLED: "cancelled", BatchState.FAILED: "failed",
}  # fmt: skip


def openai_batch_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    return [
        route("/v1/files", _upload(services, lifecycle), "POST"),
        route("/v1/files", _files(services), "GET"),
        route("/v1/files/{id}", _file(services), "GET"),
        route("/v1/files/{id}", _delete(services), "DELETE"),
        route("/v1/files/{id}/content", _content(services), "GET"),
        route("/v1/batches", _begin(services, lifecycle), "POST"),
        route("/v1/batches", _batches(services), "GET"),
        route("/v1/batches/{id}", _batch(services), "GET"),
        route("/v1/batches/{id}/cancel", _cancel(services, lifecycle), "POST"),
    ]


def _file_json(file: StoredFile) -> dict[str, Json]:
    return {
        "id": file.id, "object": "file", "bytes": file.size, "created_at": int(file.created_at),
        "filename": file.name, "purpose": file.purpose, "status": "processed",
    }  # fmt: skip


def _batch_json(batch: Batch) -> dict[str, Json]:
    ended = None if batch.ended_at is None else int(batch.ended_at)
    status = _STATUS[batch.state]
    errors: Json = {"object": "list", "data": [{"code": "failed", "message": batch.error}]} if batch.error else None
    return {
        "id": f"{BATCH}{batch.id}", "object": "batch", "status": status, "errors": errors,
        "endpoint": batch.source.get("endpoint", ""), "input_file_id": batch.source.get("input_file_id", ""),
        "completion_window": batch.source.get("completion_window", "24h"),
        "output_file_id": f"{FILE}{batch.id}{OUTPUT}" if ended and batch.answered else None,
        "error_file_id": f"{FILE}{batch.id}{ERRORS}" if ended and batch.failed else None,
        "created_at": int(batch.created_at), "in_progress_at": int(batch.created_at),
        **{f"{word}_at": ended if status == word else None for word in ("completed", "cancelled", "failed")},
        "request_counts": {"total": batch.total, "completed": batch.answered, "failed": batch.failed},
        "metadata": batch.source.get("metadata"), "model": batch.models[0] if len(batch.models) == 1 else None,
    }  # fmt: skip


def _upload(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        fields, files = read_form(await body_of(request, services), request.headers.get("content-type", ""))
        file = files.get("file")
        if file is None:
            raise BadRequest("file is required", "file")
        if (purpose := fields.get("purpose", "")) != "batch":
            raise BadRequest('purpose has to be "batch": files serve for nothing else here', "purpose")
        try:
            content = file.content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadRequest("the file is no text in UTF-8", "file") from None
        owner = visitor_of(request.scope).principal
        return private_json(_file_json(await services.batch_files.keep(file.name, purpose, content, owner)))

    return respond


def _files(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        files = [_file_json(file) for file in await services.batch_files.list(seen_by(request.scope))]
        return private_json(_list(files))

    return respond


def _list(rows: list[dict[str, Json]]) -> dict[str, Json]:
    ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {}
    return {"object": "list", "data": list(rows), "has_more": False, **ends}


def _made_by(services: GatewayServices, file_id: str, owner: str) -> tuple[Batch, str] | None:
    """The batch whose output or error file that is; None for one that was sent. Raises `BatchNotFound`."""
    kind = next((ending for ending in (OUTPUT, ERRORS) if file_id.endswith(ending)), None)
    if kind is None:
        return None
    return services.batches.get(file_id.removeprefix(FILE).removesuffix(kind), owner), kind


async def _lines(batches: Batches, batch: Batch, kind: str) -> bytes:
    rows = [
        line_of(Form.OPENAI, (), prompt, outcome)
        async for _, prompt, outcome in batches.results(batch.id)
        if outcome.failed == (kind == ERRORS)
    ]
    return b"".join(rows)


def _file(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        file_id, owner = request.path_params["id"], seen_by(request.scope)
        made = _made_by(services, file_id, owner)
        if made is None:
            return private_json(_file_json(await services.batch_files.get(file_id, owner)))
        batch, kind = made
        size, name = len(await _lines(services.batches, batch, kind)), f"{batch.name}{kind}.jsonl"
        at = batch.ended_at or batch.created_at
        return private_json(_file_json(StoredFile(file_id, name, batch.owner, "batch_output", at, size)))

    return respond


def _content(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        file_id, owner = request.path_params["id"], seen_by(request.scope)
        made = _made_by(services, file_id, owner)
        if made is None:
            content = (await services.batch_files.content(file_id, owner)).encode()
        else:
            content = await _lines(services.batches, *made)
        return Response(content, 200, PRIVATE, TYPES[Form.OPENAI])

    return respond


def _delete(services: GatewayServices) -> Handler:
    """One that was sent; an output goes with its batch."""

    async def respond(request: Request) -> Response:
        file_id, owner = request.path_params["id"], seen_by(request.scope)
        if _made_by(services, file_id, owner) is not None:
            raise BadRequest("an output file goes with its batch: DELETE /loupe/batches/ID", "file")
        await services.batch_files.delete(file_id, owner)
        return private_json({"id": file_id, "object": "file", "deleted": True})

    return respond


def _begin(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        body = json_object(await body_of(request, services))
        file_id, endpoint = text_of(body, "input_file_id"), text_of(body, "endpoint")
        if endpoint not in OPENAI_URLS:
            raise BadRequest(f"endpoint has to be one of {', '.join(OPENAI_URLS)}", "endpoint")
        if not file_id or file_id.endswith((OUTPUT, ERRORS)):
            raise FileNotFound(file_id)
        owner = seen_by(request.scope)
        file = await services.batch_files.get(file_id, owner)
        content = await services.batch_files.content(file_id, owner)
        prompts = await asyncio.to_thread(read_prompts, file.name, content, Form.OPENAI)
        _check(request, prompts, endpoint)
        source: dict[str, Json] = {key: body[key] for key in _SOURCE if key in body}
        mine = visitor_of(request.scope).principal
        return private_json(_batch_json(await services.batches.begin(file.name, Form.OPENAI, prompts, mine, source)))

    return respond


def _check(request: Request, prompts: list[Prompt], endpoint: str) -> None:
    """Raises `BadRequest`, `ModelNotForKey`."""
    other = next((prompt for prompt in prompts if prompt.url != endpoint), None)
    if other is not None:
        raise BadRequest(f"{other.name} asks {other.url}, and the batch is one of {endpoint}", "endpoint")
    for model in dict.fromkeys(prompt.model for prompt in prompts):
        check_key(request, model)


def _batches(services: GatewayServices) -> Handler:
    """Those that came this way, the newest first."""

    async def respond(request: Request) -> Response:
        found = services.batches.list(seen_by(request.scope))
        return private_json(_list([_batch_json(batch) for batch in found if batch.source]))

    return respond


def _id(request: Request) -> str:
    return str(request.path_params["id"]).removeprefix(BATCH)


def _batch(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return private_json(_batch_json(services.batches.get(_id(request), seen_by(request.scope))))

    return respond


def _cancel(services: GatewayServices, lifecycle: Lifecycle) -> Handler:
    async def respond(request: Request) -> Response:
        lifecycle.admit()
        return private_json(_batch_json(await services.batches.cancel(_id(request), seen_by(request.scope))))

    return respond
