"""The product as a process: started on a free port with a data folder of its own, ended by its own pid."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import uvicorn

ROOT = Path(__file__).parents[1]
READY_SECONDS = 60.0


def wait_for(what: str, check: Callable[[], Any], seconds: float = 60.0, every: float = 0.05) -> Any:
    """Ask `check` until it gives something true; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(every)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def http(
    url: str, body: Any = None, *, method: str | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """One plain request; error statuses are answers, a refused connection is (0, b"")."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers=dict(headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0, b""


def family_of(pid: int) -> list[psutil.Process]:
    """A process and all that it started; nothing where it is gone."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Served:
    """A `python -m app …` process and what it leaves behind."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path, url: str) -> None:
        self.url, self.log = url, log
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LOUPE_", "OLLAMA_", "OTEL_"))}
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", *arguments],
                env={**clean, **environment}, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_ready(self, path: str = "/readyz", seconds: float = READY_SECONDS) -> None:
        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}:\n{self.output[-4000:]}")
            return http(self.url + path)[0] == 200

        try:
            wait_for(f"{self.url}{path}", ready, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{http(self.url + path)}\n{self.output[-4000:]}") from None

    def family(self) -> list[psutil.Process]:
        """This process and all that it started."""
        return family_of(self.process.pid)

    def kill(self) -> list[psutil.Process]:
        """kill -9; returns the processes that were its own, for `gone`."""
        family = self.family()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        return family

    def terminate(self, seconds: float = 45.0) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


@contextmanager
def served_app(data: Path, port: int | None = None, **environment: str) -> Iterator[Served]:
    """`python -m app serve`; not waited for. Ended hard at the end if the test did not."""
    port = port or free_port()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    app = Served(
        ["serve"], {"LOUPE_PORT": str(port), "LOUPE_DATA": str(data), **environment}, data.parent / "serve.log",
        f"http://127.0.0.1:{port}",
    )  # fmt: skip
    with _ended(app):
        yield app


@contextmanager
def served_runtime(store: Path, log: Path, port: int | None = None, **environment: str) -> Iterator[Served]:
    """`python -m app runtime`: an Ollama that is not the app's own."""
    port = port or free_port()
    runtime = Served(
        ["runtime", "--port", str(port), "--store", str(store)], environment, log, f"http://127.0.0.1:{port}"
    )
    with _ended(runtime):
        yield runtime


@contextmanager
def _ended(process: Served) -> Iterator[None]:
    try:
        yield
    finally:
        family = process.family()
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait(10)
        wait_for("every process to end", lambda: gone(family), 10)


@contextmanager
def serving(application: Any, port: int) -> Iterator[None]:
    """An application of the tests on a port of its own, in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, name=f"serving on {port}", daemon=True)
    thread.start()
    try:
        wait_for("the server", lambda: server.started)
        yield
    finally:
        server.should_exit = True
        thread.join(20)
