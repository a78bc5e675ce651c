"""A scripted Ollama on a real socket: replays recordings, waits for events, cuts, refuses, talks nonsense.

`served` runs any ASGI app on a free port of the loop it is used in. No delays here: what takes time waits for an
event that the test sets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from tests.recordings import recording

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
MODEL = "smollm2:135m-instruct-fp16"


class Cut(Exception):  # noqa: N818  # it is a step of a script, not an error of the test
    """The connection breaks here, in the middle of the body."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer. `parts` are sent one by one; an event is waited for, `Cut` breaks the connection."""

    parts: Sequence[bytes | asyncio.Event | Cut] = ()
    status: int = 200
    content_type: str = "application/x-ndjson"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def lines(name: str) -> Reply:
    """The recording of that name, line by line, or whole if it was no stream."""
    told = recording(name)
    if told.lines:
        return Reply([line.encode() + b"\n" for line in told.lines], told.status)
    kind = told.headers.get("content-type", "application/json; charset=utf-8")
    return Reply([(told.text if told.text is not None else json.dumps(told.body)).encode()], told.status, kind)


def error(status: int, text: str) -> Reply:
    return Reply([json.dumps({"error": text}).encode()], status, "application/json; charset=utf-8")


class StubOllama:
    """An ASGI app. `on(path, reply, …)` scripts the next answers of a path; the last stays for all that follow."""

    def __init__(self, *, models: dict[str, str] | None = None, version: str = "0.33.0") -> None:
        self.models = models if models is not None else {MODEL: "d" * 64}
        self.version = version
        self.asked: list[Asked] = []
        self.hung_up = asyncio.Event()
        """Set when a client leaves before its answer is complete."""
        self._replies: dict[str, deque[Reply]] = {}

    def on(self, path: str, *replies: Reply) -> None:
        self._replies[path] = deque(replies)

    def asked_for(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked = Asked(scope["method"], scope["path"], headers, body)
        self.asked.append(asked)
        leaving = asyncio.create_task(self._watch(receive))
        sending = asyncio.create_task(self._send(self._reply(asked), send))
        try:
            await asyncio.wait({leaving, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                self.hung_up.set()
                sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
        finally:
            leaving.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _send(self, reply: Reply, send: Send) -> None:
        headers = {"content-type": reply.content_type, **reply.headers}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        started = False
        for part in (*reply.parts, b""):
            if isinstance(part, asyncio.Event):
                await part.wait()
                continue
            if not started:
                started = True
                await send({"type": "http.response.start", "status": reply.status, "headers": raw})
            if isinstance(part, Cut):
                raise part
            if part:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _reply(self, asked: Asked) -> Reply:
        scripted = self._replies.get(asked.path)
        if scripted:
            return scripted.popleft() if len(scripted) > 1 else scripted[0]
        return self._usual(asked)

    def _usual(self, asked: Asked) -> Reply:
        match asked.path:
            case "/api/version":
                return _json({"version": self.version})
            case "/api/tags":
                return _json({"models": list(self._rows())})
            case "/api/ps":
                return lines("ps")
            case "/api/show":
                return lines("show")
            case "/api/chat":
                return lines("chat_stream" if asked.json.get("messages") else "chat_load")
            case "/api/generate":
                return lines("generate_stream" if asked.json.get("prompt") else "generate_load")
            case _:
                return Reply([b"404 page not found"], 404, "text/plain")

    def _rows(self) -> Iterator[dict[str, Any]]:
        row = recording("tags_after").body["models"][0]
        for name, digest in self.models.items():
            yield {**row, "name": name, "model": name, "digest": digest}


def _json(value: Any) -> Reply:
    return Reply([json.dumps(value, separators=(",", ":")).encode()], content_type="application/json; charset=utf-8")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the test runner."""
        yield


@contextlib.asynccontextmanager
async def served(app: Any, *, port: int = 0, lifespan: str = "off") -> AsyncIterator[str]:
    """The address of `app` on a real socket of loopback; stopped, with its connections, at the end."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        server = _Server(
            uvicorn.Config(app, log_level="critical", lifespan=lifespan, timeout_graceful_shutdown=1)  # type: ignore[arg-type]
        )
        running = asyncio.create_task(server.serve([listener]))
        try:
            while not server.started:
                if running.done():
                    await running
                await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
