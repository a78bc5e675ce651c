"""The routes under /v1: OpenAI's and Anthropic's clients, by the same way as Ollama's.

A request becomes a native one before cache and queue, and the native records of its answer are turned back, so both
kinds of clients share one queue and one cache entry. Beyond what Ollama takes there, a request may carry `num_ctx`,
`keep_alive`, `think` and `cache` (use, refresh, bypass): what an OpenAI client puts into `extra_body`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import BadRequest, HostRefused, LoupeError
from app.core.generation import CacheMode, Chunk, GenerationRequest, Json
from app.core.hosts import RawAnswer
from app.gateway.alias_rows import route_headers, shown_as, with_marks
from app.gateway.error_responses import JSON, PLAIN_JSON, error_body
from app.gateway.needs import GatewayServices, Lifecycle
from app.gateway.ollama_routes import (
    Handler,
    answer_headers,
    body_of,
    caller_of,
    check_key,
    check_model,
    for_key,
    read,
    route,
)
from app.gateway.streaming import Form, WhileConnected, generation
from app.services.chat import Caller
from app.wire import openai_answers
from app.wire.answers import error_text, gather, parse_object
from app.wire.dialects import EVENTS, BuiltinToolFailed, Content, Exchange
from app.wire.go_json import dumps
from app.wire.model_names import names_cloud, parse_reference
from app.wire.v1 import DIALECTS, Dialect, add_extras, assumed, check_encoding, model_of, top_of


def v1_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    return [
        *(route(path, _asked(services, lifecycle, dialect), "POST") for path, dialect in DIALECTS.items()),
        route("/v1/models", _models(services), "GET"),
        route("/v1/models/{name:path}", _model(services), "GET"),
    ]


def _asked(
    services: GatewayServices, lifecycle: Lifecycle, dialect: Dialect
) -> Callable[[Request], Awaitable[ASGIApp]]:
    async def respond(request: Request) -> ASGIApp:
        check_encoding(request.headers.get("content-encoding", ""))
        body = await body_of(request, services)
        top = top_of(body) if dialect.is_json else {}
        if not services.settings.remote_models:
            _refuse_cloud(model_of(top))
        try:
            exchange = dialect.read(body, request.headers.get("content-type", ""))
        except LoupeError as error:  # said before Ollama's converters come into it
            return Response(
                error_body(request.scope["path"], error.status, error.message), error.status, media_type=JSON
            )
        native = dict(exchange.native)
        caller = _with_cache(caller_of(request, services), top)
        add_extras(native, top)
        caller.assumed = assumed(native, top)
        if exchange.endpoint == "embed":
            return _embedding(services, lifecycle, exchange, native, caller)
        if exchange.relaxes_thinking and native.get("think") and not await _thinks(services, native):
            del native["think"]
        asked = GenerationRequest(exchange.endpoint, native)
        check_model(asked, remote=services.settings.remote_models)
        return generation(
            services.chat.ask(asked, caller), _form(exchange, request.scope["path"], dialect), stream=asked.stream,
            headers=lambda: answer_headers(caller.trace) | (dict(dialect.stream_headers) if exchange.streamed else {}),
            patience=services.settings.stall_seconds, lifecycle=lifecycle,
        )  # fmt: skip

    return respond


def _refuse_cloud(name: str) -> None:
    """Models of Ollama's cloud are refused before the dialect is looked at; other bad names are the dialect's."""
    if names_cloud(name):
        parse_reference(name, feature="remote inference is unavailable")


def _with_cache(caller: Caller, given: Mapping[str, Json]) -> Caller:
    """The caller with what the body wants of the cache. Raises `BadRequest`."""
    if (cache := given.get("cache")) is None:
        return caller
    if cache not in tuple(CacheMode):
        raise BadRequest(f"cache must be one of {', '.join(CacheMode)}", "cache")
    mode = CacheMode(str(cache))
    return replace(caller, cache_mode=mode, cache_sampled=mode is CacheMode.USE)


def _form(exchange: Exchange, path: str, dialect: Dialect) -> Form:
    def whole(chunks: Sequence[Chunk]) -> Response:
        record = parse_object(gather(exchange.endpoint, chunks))
        if exchange.streamed:  # one record that is the whole answer (load, render)
            return Response(exchange.events(record), headers=dict(dialect.stream_headers), media_type=EVENTS)
        try:
            return _response(exchange.whole(record))
        except BuiltinToolFailed as error:
            return Response(error_body(path, error.status, error.message) + b"\n", error.status, media_type=PLAIN_JSON)

    return Form(EVENTS.encode(), lambda chunk: exchange.events(parse_object(chunk.line)), exchange.broken, whole)


def _embedding(
    services: GatewayServices, lifecycle: Lifecycle, exchange: Exchange, native: Mapping[str, Json], caller: Caller
) -> WhileConnected:
    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        model = str(native.get("model") or "")
        answer = await services.chat.forward(model, caller, "/api/embed", dumps(dict(native)))
        if answer.status != 200:
            raise _refusal(caller.trace.host, answer)
        told = _response(exchange.whole(parse_object(answer.body)))
        told.headers.update(route_headers(caller.trace))
        await told(scope, receive, send)

    return WhileConnected(work, lifecycle)


async def _thinks(services: GatewayServices, native: Mapping[str, Json]) -> bool:
    """Whether the model can think; also true where there is no such model: the host says so in its own words."""
    try:
        model, _ = await shown_as(services, str(native.get("model") or ""))
        async with services.pool.lease(model) as backend:
            return "thinking" in (await backend.show(model)).capabilities
    except LoupeError:
        return True


def _models(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        answer = for_key(request, await read(services, "/api/tags"))
        if answer.status != 200:
            raise _refusal("", answer)
        return _response(openai_answers.models(parse_object(answer.body)))

    return respond


def _model(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        name = str(request.path_params["name"])
        check_key(request, name)
        if names_cloud(name) and not services.settings.remote_models:
            parse_reference(name, feature="remote model details are unavailable")
        model, view = await shown_as(services, name)
        async with services.pool.lease(model, view.host if view else "") as backend:
            answer = with_marks(await backend.forward("POST", "/api/show", dumps({"model": model})), view)
        if answer.status != 200:
            raise _refusal(backend.address.name, answer)
        return _response(openai_answers.one_model(parse_object(answer.body), name))

    return respond


def _response(content: Content) -> Response:
    return Response(content.body, media_type=content.type)


def _refusal(host: str, answer: RawAnswer) -> HostRefused:
    return HostRefused(host, answer.status, error_text(answer.body) or f"it answered {answer.status}", answer.body)
