"""`serve`: from settings to a running server and back down, with one clear line for whatever goes wrong.

We run uvicorn ourselves, because its defaults wait for streams for ever, have no deadlines for requests and readers
(`connection_limits`), and die by the signal instead of exiting. On SIGTERM: not ready any more at once, nothing new is
taken, answers that run may finish within LOUPE_DRAIN_SECONDS, then the stores close and the exit status is 0. A second
signal ends it on the spot.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from app import __version__, instance
from app.config import Settings
from app.config_report import LoadedSettings
from app.core.errors import LoupeError
from app.gateway import Lifecycle
from app.instance import Instance
from app.log_setup import set_up_logging

if TYPE_CHECKING:
    from app.bootstrap import Services

CLOSE_SECONDS = 2  # after the drain: what is still connected then is idle, or has had its time
MESSAGE_BYTES = 16 << 20  # largest websocket message from a page; pages send widget values
PING_SECONDS = 30.0  # Streamlit's own default
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class CannotListen(LoupeError):
    code = "cannot_listen"


def serve(loaded: LoadedSettings, *, open_browser: bool = False) -> int:
    """Run until told to stop; returns the exit status. Raises LoupeError for what the operator has to mend."""
    settings = loaded.settings
    set_up_logging(settings.log_level, settings.log_format)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    with Instance.acquire(settings.data) as held, listening_socket(settings) as listener:
        return _run(loaded, held, listener, open_browser)


def _run(loaded: LoadedSettings, held: Instance, listener: socket.socket, open_browser: bool) -> int:
    from app.asgi import create_app
    from app.bootstrap import build

    settings, port = loaded.settings, int(listener.getsockname()[1])
    services, lifecycle = build(settings, loaded=loaded), Lifecycle()
    failures: list[Exception] = []
    app = create_app(services, lifecycle, private=held.token, on_failure=failures.append)
    instance.install(services)

    def ready() -> None:
        held.announce(local_url(settings, port))
        address = public_url(settings, port)
        print(f"Loupe {__version__} is ready at {address} ({services.why})", flush=True)
        gc.collect()
        gc.freeze()  # what is loaded now stays: the collector need not look at it again
        if open_browser:
            webbrowser.open(address)

    server = LoupeServer(uvicorn_config(settings, app), ready, lambda: _drain(services, lifecycle))
    try:
        with asyncio.Runner(loop_factory=_new_loop()) as runner:
            runner.run(server.serve([listener]))
    except SystemExit:
        if not failures:
            raise
    finally:
        instance.install(None)
    if failures:
        raise _start_failure(failures[0]) from failures[0]
    return 0


def _start_failure(error: Exception) -> LoupeError:
    return error if isinstance(error, LoupeError) else LoupeError(f"Loupe could not start: {error!r}")


async def _drain(services: Services, lifecycle: Lifecycle) -> None:
    """Readiness off, the queue closed, then as long as LOUPE_DRAIN_SECONDS for pages' answers and clients' alike."""
    seconds = services.settings.drain_seconds
    lifecycle.draining = services.draining = True
    services.queue.close()
    await asyncio.gather(lifecycle.drain(seconds), services.generations.stop(seconds))


def uvicorn_config(settings: Settings, app: object) -> uvicorn.Config:
    from app.connection_limits import BoundedHttpProtocol, Connections, Limits

    keeper = Connections(Limits(connections=settings.max_connections, body=settings.body_seconds))
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=partial(BoundedHttpProtocol, keeper),  # type: ignore[arg-type]
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # anyone could write them
        server_header=False,
        headers=[("server", f"loupe/{__version__}")],
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform
        return None
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return new_loop


class LoupeServer(uvicorn.Server):
    """uvicorn with our signals: the first one drains, the second one ends the process."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], drain: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready, self._drain = ready, drain
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own would raise the signal again at the end, and the process would die by it instead of exiting."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        if self._draining is not None:
            print("Loupe ends at once", file=sys.stderr, flush=True)
            os._exit(128 + number)  # the child runtime ends with us, the stores are crash-safe
        self._draining = asyncio.get_running_loop().create_task(self._go_down(), name="drain")

    async def _go_down(self) -> None:
        try:
            if self.started:
                await self._drain()  # type: ignore[misc]
        finally:
            self.should_exit = True


@contextlib.contextmanager
def listening_socket(settings: Settings) -> Iterator[socket.socket]:
    """A bound socket, so that a taken port is found before anything is started."""
    host = "127.0.0.1" if settings.bind == "localhost" else settings.bind
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, settings.port))
            listener.listen(2048)
        except OSError as problem:
            raise CannotListen(_why_not(settings, problem)) from problem
        listener.setblocking(False)
        yield listener


def _why_not(settings: Settings, problem: OSError) -> str:
    import errno

    if problem.errno != errno.EADDRINUSE:
        return f"Loupe cannot listen on {settings.bind} port {settings.port}: {problem.strerror}"
    return (
        f"port {settings.port} is taken by {_holder(settings.port)}; stop it, or give Loupe another one "
        f"(LOUPE_PORT={settings.port + 1 if settings.port < 65535 else 8501})"
    )


def _holder(port: int) -> str:
    """Who listens there, as far as this user may know."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", 0) == port
            if listens and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return "another program"


def local_url(settings: Settings, port: int) -> str:
    """How a process on this machine reaches us."""
    if settings.bind == "localhost":
        return f"http://127.0.0.1:{port}"
    address = ipaddress.ip_address(settings.bind)
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{address}:{port}" if address.version == 4 else f"http://[{address}]:{port}"


def public_url(settings: Settings, port: int) -> str:
    """What a person types: the first allowed name where others can reach us."""
    if settings.loopback:
        return local_url(settings, port)
    name = settings.allowed_hosts[0]
    return f"http://{name}" if name.rpartition(":")[2].isdigit() else f"http://{name}:{port}"
