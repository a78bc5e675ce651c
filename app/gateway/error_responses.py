"""Errors as HTTP answers, in the words of the dialect that the path belongs to.

An error is presented by its class, the most specific one first. What is not a `LoupeError` is a bug: it gets an id, the
log gets the trace, and the client gets the id only. No traceback, and no path of this machine, leaves the process.
"""

from __future__ import annotations

import math
import secrets
from typing import cast

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import (
    Cancelled,
    HostRefused,
    IntegrityError,
    LoupeError,
    ModelFileDamaged,
    QueueFull,
    StoreError,
)
from app.wire.go_json import dumps
from app.wire.v1 import error_of

JSON = "application/json; charset=utf-8"
PLAIN_JSON = "application/json"
log = structlog.get_logger(__name__)

_PRIVATE: tuple[tuple[type[LoupeError], str], ...] = (
    (ModelFileDamaged, "the model's file is damaged and cannot be used; the log says which one"),
    (StoreError, "the model store or the data folder cannot be used; the log says why"),
    (IntegrityError, "a file's content is not what was promised; the log says which one"),
)


def public_message(error: LoupeError) -> str:
    """The sentence for a client: the error's own, unless it names files of this machine."""
    return next((sentence for kind, sentence in _PRIVATE if isinstance(error, kind)), error.message)


def error_body(path: str, status: int, message: str) -> bytes:
    """`{"error": …}` as Ollama writes it, or the object of the dialect under /v1."""
    return error_of(path)(status, message) if path.startswith("/v1") else dumps({"error": message})


def plain_error(status: int, message: str, *, retry_after: float | None = None) -> Response:
    """An error that has no class of its own, in Ollama's shape."""
    return error_at("", status, message, retry_after=retry_after)


def error_at(path: str, status: int, message: str, *, retry_after: float | None = None) -> Response:
    """The same in the dialect of the path."""
    response = Response(error_body(path, status, message), status, media_type=JSON)
    if retry_after is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(retry_after)))
    return response


def respond_to(error: LoupeError, path: str) -> Response:
    """The answer for an error that came before the first byte."""
    if isinstance(error, Cancelled) and error.by != "client":
        status = 503  # somebody still listens: we ended it, not the client
    else:
        status = error.status
    if error.status >= 500:
        log.warning("request failed", path=path, code=error.code, error=error.message)
    body, kind = error_body(path, status, public_message(error)), JSON
    if path.startswith("/v1"):
        body, kind = body + b"\n", PLAIN_JSON  # as Ollama's converters write it
    elif isinstance(error, HostRefused) and error.body:
        body, kind = error.body, error.content_type or JSON
    response = Response(body, status, {"content-type": kind})
    if error.retry_after is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, QueueFull) and error.reason:  # the text is Ollama's, and tells none of it
        wait = f"; wait={error.wait:.0f}" if error.reason == "wait" else ""
        response.headers["x-loupe-queue"] = f'refused; reason="{error.reason}"{wait}; most={error.most:.0f}'
    if status in (408, 413):
        response.headers["connection"] = "close"  # the rest of the body is on its way and nobody will read it
    return response


def report_bug(path: str) -> str:
    """Log the exception being handled and give the sentence for the client."""
    bug = secrets.token_hex(4)
    log.exception("internal error", id=bug, path=path)
    return f"internal error ({bug})"


def handle_loupe_error(request: Request, error: Exception) -> Response:
    return respond_to(cast("LoupeError", error), request.scope["path"])


def handle_http_error(request: Request, error: Exception) -> Response:
    """Unknown path and wrong method: plain text in Ollama's words (unknown_path, wrong_method), JSON under /v1."""
    refused, path = cast("HTTPException", error), request.scope["path"]
    text = {404: "404 page not found", 405: "405 method not allowed"}.get(refused.status_code, refused.detail)
    if path.startswith("/v1"):
        return Response(error_body(path, refused.status_code, text), refused.status_code, refused.headers, JSON)
    response = PlainTextResponse(text, refused.status_code, refused.headers)
    response.headers["content-type"] = "text/plain"
    return response


class BugBoundary:
    """Middleware: an exception that nobody expected becomes a 500 with an id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watching(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watching)
        except Exception:
            sentence = report_bug(scope["path"])
            if not started:
                body = error_body(scope["path"], 500, sentence)
                await Response(body, 500, media_type=JSON)(scope, receive, send)
