"""`python -m app runtime`: reads the settings, locks the store, binds, says that it is ready, and drains at the end.

Standard output carries exactly one line, when it is ready: {"ready": true, "url": …, "pid": …}. Standard error is the
log. With LOUPE_PARENT_PIPE=1 it ends with the process that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes.util
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Generator, Sequence
from importlib.util import find_spec

import uvicorn

from app.core.errors import LoupeError, SettingsError, StoreError
from app.runtime.guarded import die_with_parent
from app.runtime.model_store import ModelStore
from app.runtime.settings import RuntimeSettings, read_settings
from app.runtime.store_lock import StoreLock
from app.runtime.store_sweep import sweep
from app.runtime.supervisor import Supervisor

HOST = "127.0.0.1"
_BACKLOG = 512


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit status: 0, or 1 with one line that says what is wrong."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = read_settings(options.store, os.environ)
        _check_machine()
        store = ModelStore(settings.store)
        _prepare(store)
        lock = StoreLock(settings.store)
        sweep(store, prune=not settings.no_prune)
        listening = _bind(options.port)
    except SettingsError as error:
        return _fail(*error.problems)
    except LoupeError as error:
        return _fail(error.message)
    if os.environ.get("LOUPE_PARENT_PIPE") == "1":
        die_with_parent()
    try:
        with contextlib.closing(listening):
            _run(settings, listening)
    finally:
        lock.release()
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m app runtime", description="Loupe's embedded runtime: speaks Ollama's protocol on 127.0.0.1"
    )
    parser.add_argument("--port", type=int, default=11434, help="port to listen on; 0 takes a free one")
    parser.add_argument("--store", help="model store in Ollama's layout (wins over OLLAMA_MODELS)")
    return parser.parse_args(arguments)


def _fail(*problems: str) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1


def _check_machine() -> None:
    if find_spec("xllamacpp") is None:
        raise StoreError("the embedded runtime is not installed here (the package xllamacpp); use an Ollama instead")
    if sys.platform == "linux" and ctypes.util.find_library("gomp") is None and not _has_gomp():
        raise StoreError("libgomp.so.1 is missing: install it first (Debian, Ubuntu: apt-get install libgomp1)")


def _has_gomp() -> bool:
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return False
    return True


def _prepare(store: ModelStore) -> None:
    """Makes a new store; one that exists may be read-only (somebody else's Ollama)."""
    if not (store.manifests.is_dir() and store.blobs.is_dir()):
        store.prepare()


def _bind(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listening.close()
        said = getattr(error, "strerror", None) or str(error)
        raise StoreError(f"port {port} on {HOST} cannot be used: {said}") from error
    listening.setblocking(False)
    return listening


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: SIGTERM drains and the exit status is 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def _run(settings: RuntimeSettings, listening: socket.socket) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, listening))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # platforms without it
        return None
    return uvloop.Loop


async def _serve(settings: RuntimeSettings, listening: socket.socket) -> None:
    supervisor = Supervisor(settings)
    config = uvicorn.Config(
        supervisor, lifespan="off", log_config=None, access_log=False, server_header=False, ws="none",
        proxy_headers=False, timeout_graceful_shutdown=int(settings.drain_s) or 1, backlog=_BACKLOG,
    )  # fmt: skip
    server = _Server(config)
    url = f"http://{HOST}:{listening.getsockname()[1]}"
    announcing = asyncio.create_task(_announce(server, url))
    try:
        await server.serve(sockets=[listening])
    finally:
        announcing.cancel()
        await supervisor.close()


async def _announce(server: uvicorn.Server, url: str) -> None:
    while not server.started:
        await asyncio.sleep(0.005)
    print(json.dumps({"ready": True, "url": url, "pid": os.getpid()}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
