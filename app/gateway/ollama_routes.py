"""Ollama's inference and read-only routes. Inference takes the same way as the pages; the rest is passed on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import BadRequest, ModelNotFound
from app.core.generation import CacheMode, Endpoint, GenerationRequest, Json, Priority
from app.core.hosts import RawAnswer
from app.gateway.alias_rows import route_headers, shown_as, with_aliases, with_marks
from app.gateway.bodies import read_body
from app.gateway.error_responses import JSON
from app.gateway.needs import GatewayServices, Lifecycle, flow_of, visitor_of
from app.gateway.repeated import remember
from app.gateway.request_names import name_of
from app.gateway.streaming import WhileConnected, generation, native
from app.gateway.unions import union
from app.services.chat import Caller
from app.services.key_errors import ModelNotForKey
from app.services.telemetry import Trace
from app.wire.answers import parse_object
from app.wire.go_json import dumps
from app.wire.model_names import names_cloud, parse_reference
from app.wire.requests import decode

Word = TypeVar("Word", CacheMode, Priority)
MOST_PATIENCE = 86_400.0
Handler = Callable[[Request], Awaitable[Response]]
_TYPES: dict[Endpoint, str] = {"chat": "ChatRequest", "generate": "GenerateRequest"}


def ollama_routes(services: GatewayServices, lifecycle: Lifecycle) -> list[BaseRoute]:
    """Chat, generate, embeddings, tags, ps, show, version, status and the greeting at `/`."""
    reads = [("/api/tags", True), ("/api/ps", False), ("/api/version", True), ("/api/status", False)]
    return [
        route("/", _greeting, "GET", "HEAD"),
        route("/api/chat", _generation(services, lifecycle, "chat"), "POST"),
        route("/api/generate", _generation(services, lifecycle, "generate"), "POST"),
        route("/api/embed", _embedding(services, lifecycle, "EmbedRequest"), "POST"),
        route("/api/embeddings", _embedding(services, lifecycle, "EmbeddingRequest"), "POST"),
        route("/api/show", _show(services), "POST"),
        *(route(path, _read(services), "GET", *(["HEAD"] if head else [])) for path, head in reads),
    ]


def route(path: str, handler: Callable[[Request], Awaitable[ASGIApp]], *methods: str) -> Route:
    """A route with exactly these methods; Starlette would add HEAD to GET, which Ollama has only in places."""
    made = Route(path, handler, methods=list(methods))
    made.methods = set(methods)
    return made


def passed_on(answer: RawAnswer) -> Response:
    """A host's answer as it came."""
    headers = {"content-type": answer.content_type} if answer.content_type else None
    return Response(answer.body, answer.status, headers)


async def body_of(request: Request, services: GatewayServices) -> bytes:
    settings = services.settings
    return await read_body(request, settings.max_body, settings.body_seconds)


async def _greeting(request: Request) -> Response:
    return PlainTextResponse("Ollama is running")


def _generation(
    services: GatewayServices, lifecycle: Lifecycle, endpoint: Endpoint
) -> Callable[[Request], Awaitable[WhileConnected]]:
    async def respond(request: Request) -> WhileConnected:
        body = decode(_TYPES[endpoint], await body_of(request, services))
        asked = GenerationRequest(endpoint, body)
        check_model(asked, remote=services.settings.remote_models)
        caller = caller_of(request, services)

        def headers() -> dict[str, str]:
            if caller.trace.cache.outcome == "hit":
                remember(request.scope, asked)
            return answer_headers(caller.trace)

        return generation(
            services.chat.ask(asked, caller), native(endpoint), stream=asked.stream, headers=headers,
            patience=services.settings.stall_seconds, lifecycle=lifecycle,
        )  # fmt: skip

    return respond


def check_model(asked: GenerationRequest, *, remote: bool) -> None:
    """No model at all is a 400 for chat and a 404 for generate (no_model_*); a bad name is a 400 (bad_name_*).

    `remote`: names of Ollama's cloud are allowed.
    """
    if not asked.model:
        raise BadRequest("model is required", "model") if asked.endpoint == "chat" else ModelNotFound("")
    if not (remote and names_cloud(asked.model)):
        parse_reference(asked.model)


def caller_of(request: Request, services: GatewayServices) -> Caller:
    """Who asks, and what they want of cache and queue (X-Loupe-Cache, X-Loupe-Priority and X-Loupe-Patience)."""
    principal, flow = visitor_of(request.scope).principal, flow_of(request.scope)
    return Caller(
        principal=principal, flow=flow,
        priority=_choice(request, "x-loupe-priority", Priority, Priority.INTERACTIVE), patience=_patience(request),
        cache_mode=_choice(request, "x-loupe-cache", CacheMode, services.settings.cache_mode),
        cache_sampled=_asked_for(request, CacheMode.USE),
        trace=services.telemetry.trace(principal=principal, flow=flow, name=name_of(request.scope)),
    )  # fmt: skip


def _choice(request: Request, header: str, kind: type[Word], default: Word) -> Word:
    given = request.headers.get(header)
    if given is None:
        return default
    try:
        return kind(given.strip().lower())
    except ValueError:
        allowed = ", ".join(kind)
        raise BadRequest(f"{header}: {given[:40]!r} is not one of {allowed}", header) from None


def _patience(request: Request) -> float | None:
    """Seconds that the client waits for a slot at most; without the header it waits as long as it is connected."""
    given = request.headers.get("x-loupe-patience")
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= MOST_PATIENCE:
        raise BadRequest("x-loupe-patience must be a number of seconds, at most a day", "x-loupe-patience")
    return seconds


def _asked_for(request: Request, mode: CacheMode) -> bool:
    return request.headers.get("x-loupe-cache", "").strip().lower() == mode


def answer_headers(trace: Trace) -> dict[str, str]:
    cache = trace.cache
    told = f"; age={cache.age:.0f}" if cache.age is not None else f'; reason="{cache.reason}"' if cache.reason else ""
    headers = {"x-loupe-request-id": trace.id, "x-loupe-cache": cache.outcome + told}
    return headers | route_headers(trace) | ({"x-loupe-host": trace.host} if trace.host else {})


def _embedding(
    services: GatewayServices, lifecycle: Lifecycle, kind: str
) -> Callable[[Request], Awaitable[WhileConnected]]:
    """Embeddings take a slot by the queue like a generation, and pass the host's answer on."""

    async def respond(request: Request) -> WhileConnected:
        raw = await body_of(request, services)
        body = decode(kind, raw)
        model = _text(body.get("model"))
        raw = raw if services.aliases.find(model) is None else dumps(body)
        caller = caller_of(request, services)

        async def work(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                answer = await services.chat.forward(model, caller, scope["path"], raw)
            except ModelNotFound:
                async with services.pool.lease() as backend:  # the host says it in its own words
                    answer = await backend.forward("POST", scope["path"], raw)
            told = passed_on(answer)
            told.headers.update(route_headers(caller.trace))
            await told(scope, receive, send)

        return WhileConnected(work, lifecycle)

    return respond


def _show(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        raw = await body_of(request, services)
        body = decode("ShowRequest", raw)
        name = _text(body.get("model")) or _text(body.get("name"))
        check_key(request, name)
        model, view = await shown_as(services, name)
        raw = raw if view is None else dumps({**body, "model": model, "name": model})
        async with services.pool.lease(model, view.host if view else "") as backend:
            answer = await backend.forward("POST", request.scope["path"], raw)
        return passed_on(with_marks(answer, view))

    return respond


def _read(services: GatewayServices) -> Handler:
    async def respond(request: Request) -> Response:
        return passed_on(for_key(request, await read(services, request.scope["path"])))

    return respond


async def read(services: GatewayServices, path: str) -> RawAnswer:
    """What a GET of `path` gives, of all hosts where there are several."""
    if path in ("/api/tags", "/api/ps") and len(services.pool.statuses()) > 1:
        answer = RawAnswer(200, JSON, await union(services.pool, path))
    else:
        async with services.pool.lease() as backend:
            answer = await backend.forward("GET", path)
    return await with_aliases(answer, services) if path == "/api/tags" else answer


def check_key(request: Request, model: str) -> None:
    """Raises `ModelNotForKey` where the key may use other models only."""
    if not visitor_of(request.scope).may_use(model):
        raise ModelNotForKey(model)


def for_key(request: Request, answer: RawAnswer) -> RawAnswer:
    """The rows of the models that the key may use. Others are passed on byte for byte."""
    visitor = visitor_of(request.scope)
    rows = parse_object(answer.body).get("models") if visitor.models and answer.status == 200 else None
    if not isinstance(rows, list):
        return answer
    seen: list[Json] = [row for row in rows if isinstance(row, dict) and visitor.may_use(_text(row.get("name")))]
    return RawAnswer(answer.status, answer.content_type, dumps({"models": seen}))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
