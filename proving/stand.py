"""What rows stand on: Loupe as it is served, in front of hosts on real sockets, and a client that can hang up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
import uvicorn
from starlette.types import ASGIApp

from app.asgi import Dispatcher
from app.bootstrap import Services, build
from app.config import Settings
from app.core.ports import Clock
from app.gateway import Lifecycle, create_gateway
from app.gateway.guards import Guards, access_rules
from app.serving import listening_socket, local_url, uvicorn_config
from tests.faultproxy import reset
from tests.stub_ollama import MODEL

Wrap = Callable[[ASGIApp], ASGIApp]
QUESTION = "Name the capital of France."


@dataclass(frozen=True, slots=True)
class Loupe:
    """The product under trial: its address, and its parts for counting what they hold."""

    url: str
    services: Services

    @property
    def busy(self) -> int:
        """Slots that are taken, over all hosts."""
        return sum(status.busy_slots for status in self.services.pool.statuses())

    @property
    def waiting(self) -> int:
        return self.services.queue.waiting


def quiet() -> None:
    """The log of what is under trial says nothing that the trial does not."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Signals belong to whoever runs the trials."""
        yield


@contextlib.asynccontextmanager
async def loupe(
    folder: Path, hosts: Sequence[str], *, wrap: Wrap | None = None, clock: Clock | None = None,
    prepare: Callable[[Services], None] | None = None, tune: Callable[[uvicorn.Config], None] | None = None,
    pages: ASGIApp | None = None, **settings: Any,
) -> AsyncIterator[Loupe]:  # fmt: skip
    """Loupe's services, gateway and guards on a free port, as `python -m app serve` puts them together, less the pages.

    `hosts` are addresses, or whole words of LOUPE_HOSTS. `wrap` puts a control's middleware around everything,
    `prepare` may change parts before they start, `tune` the server, `pages` stands for Streamlit's; further words are
    settings.
    """
    quiet()
    words = [word if "=" in word else f"host{number}={word}" for number, word in enumerate(hosts)]
    chosen = Settings(data=folder / "data", port=0, hosts=",".join(words), starter=False, **settings)
    chosen.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    services = build(chosen, clock)
    if prepare is not None:
        prepare(services)
    gateway = create_gateway(services, Lifecycle())
    inside = Dispatcher(gateway, pages) if pages else gateway
    app: ASGIApp = Guards(inside, access_rules(chosen, services.keys), services.clock)
    await services.start()
    try:
        async with _listening(chosen, wrap(app) if wrap else app, tune) as url:
            yield Loupe(url, services)
    finally:
        await services.stop()


@contextlib.asynccontextmanager
async def _listening(
    settings: Settings, app: ASGIApp, tune: Callable[[uvicorn.Config], None] | None
) -> AsyncIterator[str]:
    config = uvicorn_config(settings, app)
    config.lifespan, config.timeout_graceful_shutdown = "off", 1
    if tune is not None:
        tune(config)
    with listening_socket(settings) as listener:
        server = _Server(config)
        running = asyncio.create_task(server.serve([listener]))
        try:
            await until(lambda: server.started or running.done(), 10, "the server to start")
            yield local_url(settings, listener.getsockname()[1])
        finally:
            server.should_exit = True
            await running


def descriptors() -> int:
    """Open files of this process, less those of databases: these are opened when they are first written, and stay."""
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found += not one.readlink().name.endswith((".db", "-wal", "-shm"))
    return found


async def until(check: Callable[[], Any], seconds: float, what: str = "") -> float:
    """Wait until `check` gives something true; the seconds it took. Raises `TimeoutError`."""
    began = time.monotonic()
    while not check():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what or 'a condition'}")
        await asyncio.sleep(0.002)
    return time.monotonic() - began


async def takes(check: Callable[[], Any], seconds: float) -> float:
    """As `until`, but a condition that does not come true in time takes forever (infinity)."""
    try:
        return await until(check, seconds)
    except TimeoutError:
        return float("inf")


@dataclass(slots=True)
class Lag:
    """How long this process was not given the CPU when it was due, at worst: no timer can fire in that time."""

    worst: float = 0.0


@contextlib.asynccontextmanager
async def watching_lag() -> AsyncIterator[Lag]:
    lag = Lag()

    async def watch() -> None:
        while True:
            due = time.monotonic() + 0.02
            await asyncio.sleep(0.02)
            lag.worst = max(lag.worst, time.monotonic() - due)

    watching = asyncio.create_task(watch())
    try:
        yield lag
    finally:
        watching.cancel()


def chat(text: str = QUESTION, *, model: str = MODEL, stream: bool = True, **options: Any) -> dict[str, Any]:
    """The body of a chat request."""
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "stream": stream, "options": options}


class Client:
    """One HTTP/1.1 request on a socket of its own, so that the caller decides when and how it goes away."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self._chunked = False

    async def head(self) -> int:
        """Read status and headers; the status."""
        first = await self._reader.readuntil(b"\r\n\r\n")
        start, *fields = first.decode("latin-1").strip().split("\r\n")
        self.status = int(start.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        self._chunked = self.headers.get("transfer-encoding") == "chunked"
        return self.status

    async def piece(self) -> bytes:
        """The next piece of the body as it was sent; b"" at its end. `IncompleteReadError` where it breaks off."""
        if not self._chunked:
            body = await self._reader.readexactly(int(self.headers.get("content-length", 0)))
            self.headers["content-length"] = "0"
            return body
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        data = await self._reader.readexactly(size + 2)
        return data[:-2]

    async def records(self, number: int) -> bytes:
        """As many lines of a streamed answer, at least: those that the host sends together come in one piece."""
        found = b""
        while found.count(b"\n") < number and (piece := await self.piece()):
            found += piece
        return found

    async def body(self) -> bytes:
        """Everything that is still to come."""
        found = b""
        while piece := await self.piece():
            found += piece
        return found

    def leave(self, *, hard: bool = False) -> None:
        """Hang up: with FIN, or (`hard`) with RST."""
        reset(self._writer) if hard else self._writer.close()


@contextlib.asynccontextmanager
async def asking(
    url: str, body: Mapping[str, Any], path: str = "/api/chat", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Client]:
    """A request that was sent; nothing of the answer is read yet. Hung up at the end."""
    where, data = urlsplit(url), json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    fields = {"Host": where.netloc, "Content-Type": "application/json", "Content-Length": len(data), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + data)
    await writer.drain()
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended. `broken` is set where the connection broke before the answer's end."""

    status: int
    lines: tuple[bytes, ...]
    broken: bool
    seconds: float
    headers: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """A whole answer: its last record is `done` and no error."""
        return self.status == 200 and not self.broken and bool(self.last.get("done")) and "error" not in self.last

    @property
    def last(self) -> dict[str, Any]:
        return json.loads(self.lines[-1]) if self.lines else {}

    @property
    def text(self) -> str:
        records = [json.loads(line) for line in self.lines]
        return "".join(record.get("message", {}).get("content", "") for record in records)


async def ask(
    url: str, body: Mapping[str, Any], path: str = "/api/chat", headers: Mapping[str, str] | None = None,
    on_first: Callable[[], None] | None = None,
) -> Outcome:  # fmt: skip
    """Ask and read to the end, whatever it is. `on_first` is called when the first piece of the answer is there."""
    began, found, broken = time.monotonic(), b"", False
    async with asking(url, body, path, headers) as client:
        try:
            await client.head()
            while piece := await client.piece():
                if on_first is not None and not found:
                    on_first()
                found += piece
        except (asyncio.IncompleteReadError, ConnectionError):
            broken = True
        lines = tuple(line for line in found.split(b"\n") if line)
        return Outcome(client.status, lines, broken, time.monotonic() - began, client.headers)
