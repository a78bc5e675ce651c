"""The supervisor as an ASGI application: guards, the route table (what is not in it does not exist), life cycle."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from app import __version__
from app.core.errors import LoupeError
from app.runtime import guards
from app.runtime.dialects import MODELS, Dialects, presented
from app.runtime.embedding import Embedding
from app.runtime.inference import Inference
from app.runtime.inspection import Inspection
from app.runtime.library import Library
from app.runtime.management import Management
from app.runtime.model_store import ModelStore
from app.runtime.pull import Puller
from app.runtime.scheduler import Scheduler
from app.runtime.settings import RuntimeSettings
from app.runtime.web import (
    Answer,
    Bodies,
    Call,
    Handler,
    Receive,
    Responder,
    Scope,
    Send,
    Stream,
    error_answer,
    unless_client_leaves,
)
from app.wire.dialects import Endpoint

_log = logging.getLogger(__name__)
_TEXT = "text/plain"
UPLOADS = "/api/blobs/"  # bodies of any size, never held in memory


def server_header() -> str:
    """Kind and build, for whoever must tell this runtime from a real Ollama (DESIGN 3)."""
    try:
        return f"loupe-runtime/{__version__} (llama.cpp; xllamacpp {installed_version('xllamacpp')})"
    except PackageNotFoundError:
        return f"loupe-runtime/{__version__} (no llama.cpp)"


class Supervisor:
    """Made inside the event loop it runs in; `close` ends its workers."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self._settings = settings
        self.scheduler = Scheduler(settings)
        library = Library(ModelStore(settings.store))
        self._puller = Puller(library.store, prune=not settings.no_prune)
        self._inference = Inference(library, self.scheduler, settings)
        self._embedding = Embedding(library, self.scheduler, settings)
        self._inspection = Inspection(library, self.scheduler)
        self._management = Management(library, self._puller, prune=not settings.no_prune)
        self._bodies = Bodies()
        run = self._inference
        native: dict[Endpoint, Handler] = {"chat": run.chat, "generate": run.generate, "embed": self._embedding.embed}
        self._dialects = Dialects(native, self._inspection.tags, self._inspection.show)
        self._server = (b"server", server_header().encode())
        self._routes, self._prefixes = self._table()

    async def close(self) -> None:
        await self._puller.close()
        await self.scheduler.close()

    def _table(self) -> tuple[dict[str, dict[str, Handler]], dict[str, dict[str, Handler]]]:
        look, run, change = self._inspection, self._inference, self._management
        routes: dict[str, dict[str, Handler]] = {
            "/": _with_head(_running),
            "/api/version": _with_head(look.version),
            "/api/status": {"GET": look.status},
            "/api/tags": _with_head(look.tags),
            "/api/ps": {"GET": look.ps},
            "/api/show": {"POST": look.show},
            "/api/generate": {"POST": run.generate},
            "/api/chat": {"POST": run.chat},
            "/api/embed": {"POST": self._embedding.embed},
            "/api/embeddings": {"POST": self._embedding.embeddings},
            "/api/copy": {"POST": change.copy},
            "/api/delete": {"DELETE": change.delete},
            "/api/pull": {"POST": change.pull},
            "/api/push": {"POST": change.push},
            "/api/create": {"POST": change.create},
        }
        routes |= self._dialects.routes()
        return routes, {
            UPLOADS: {"HEAD": change.has_blob, "POST": change.put_blob},
            MODELS: {"GET": self._dialects.model},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this server speaks HTTP only, not {scope['type']}")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method, path = scope["method"], scope["path"]
        methods, tail = self._methods(path)
        origin = headers.get("origin", "")
        common = (self._server, *_cors(origin, headers))
        responder = Responder(send, common, head=method == "HEAD")
        refusal = self._refused(method, headers, methods)
        if refusal is not None:
            await responder.answer(refusal)
        elif not (path == "/" or guards.key_is_right(self._settings.key, headers)):
            await responder.answer(Answer(401, b'{"error":"unauthorized"}', "application/json; charset=utf-8"))
        elif methods is None:
            await responder.answer(Answer(404, b"404 page not found", _TEXT))
        elif method not in methods:
            await responder.answer(Answer(405, b"405 method not allowed", _TEXT, (("allow", _allow(methods)),)))
        else:
            await self._handle(methods[method], Call(method, path, headers, b"", tail), receive, responder)

    def _methods(self, path: str) -> tuple[dict[str, Handler] | None, str]:
        if (exact := self._routes.get(path)) is not None:
            return exact, ""
        for prefix, methods in self._prefixes.items():
            tail = path.removeprefix(prefix)
            if tail not in ("", path) and "/" not in tail:
                return methods, tail
        return None, ""

    def _refused(self, method: str, headers: dict[str, str], methods: dict[str, Handler] | None) -> Answer | None:
        """Origin first, then Host, as Ollama's middleware stands; 204 for a preflight."""
        origin, host = headers.get("origin", ""), headers.get("host", "")
        if origin and not guards.origin_is_allowed(origin, host, self._settings.origins):
            return Answer(403)
        allow = (("allow", _allow(methods)),) if methods else ()
        if method == "OPTIONS" and origin:
            return Answer(204, headers=(*guards.PREFLIGHT_HEADERS, *allow))
        if not guards.host_is_allowed(host):
            return Answer(403)
        return Answer(204, headers=allow) if method == "OPTIONS" else None

    async def _handle(self, handler: Handler, call: Call, receive: Receive, responder: Responder) -> None:
        async def work() -> None:
            try:
                answer = await handler(call)
            except LoupeError as error:
                answer = error_answer(error)
            if isinstance(answer, Stream):
                await responder.stream(answer)
            else:
                await responder.answer(answer)

        try:
            if call.method == "POST" and call.path.startswith(UPLOADS):
                call = replace(call, receive=receive)
                await work()
            elif call.method in ("POST", "DELETE"):
                async with self._bodies.read(receive) as body:
                    call = replace(call, body=body)
                    await unless_client_leaves(receive, work())
            else:
                await work()
        except LoupeError as error:
            told = presented(call.path, error) if call.path.startswith("/v1/") else error_answer(error)
            await responder.answer(told)
        except Exception:
            _log.exception("%s %s failed", call.method, call.path)
            if not responder.started:  # as Ollama's recovery: a status and no body
                await responder.answer(Answer(500))
                return
            raise  # the connection is cut: the client must not take a torn stream for a whole one


def _with_head(handler: Handler) -> dict[str, Handler]:
    return {"GET": handler, "HEAD": handler}


def _allow(methods: dict[str, Handler]) -> str:
    return ", ".join(methods)


def _cors(origin: str, headers: dict[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    """Told to the browser only where the origin is another one than this server's own."""
    host = headers.get("host", "")
    if not origin or origin in (f"http://{host}", f"https://{host}"):
        return ()
    return ((b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin"))


async def _running(_call: Call) -> Answer:
    return Answer(200, b"Ollama is running", "text/plain; charset=utf-8")
