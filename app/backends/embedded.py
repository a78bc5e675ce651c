"""The embedded runtime as a host: our own child process, started, watched, started again, and ended.

It is a `Backend` whose address changes with every start of the child (random port and key). While the child starts,
calls raise `HostWarming`; after three crashes in five minutes it is given up, with the last words of its log.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from app.backends.ollama_http import HostTimeouts, OllamaHttp
from app.core.errors import HostUnreachable, HostWarming
from app.core.generation import Chunk, GenerationRequest
from app.core.hosts import HostAddress, LoadedModel, ModelDetail, ModelInfo, RawAnswer
from app.core.runtime_setup import PLAIN_KV, VARIABLES

log = structlog.get_logger("loupe.runtime")

CRASHES, CRASH_WINDOW = 3, 300.0  # seconds
READY_SECONDS = 60.0
STOP_SECONDS = 5.0
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """`limits` are Ollama's own settings for the child (OLLAMA_KEEP_ALIVE, OLLAMA_MAX_LOADED_MODELS, …).

    `environment` is this process's; the child gets only the few variables of it that any program needs.
    """

    store: Path
    name: str = "embedded"
    slots: int = 1
    limits: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = (sys.executable, "-m", "app", "runtime")
    ready_seconds: float = READY_SECONDS
    stop_seconds: float = STOP_SECONDS
    timeouts: HostTimeouts = HostTimeouts()

    def address(self, url: str = "", key: str | None = None) -> HostAddress:
        kv_type = self.limits.get(VARIABLES["kv_type"], "").lower() or PLAIN_KV
        return HostAddress(self.name, url, self.slots, key, embedded=True, kv_type=kv_type)


class EmbeddedRuntime:
    """`start` returns at once; the child gets ready in the background. `stop` ends it for good."""

    def __init__(self, settings: EmbeddedSettings) -> None:
        self._settings = settings
        self._keeper = _Keeper(settings)
        self._client: OllamaHttp | None = None
        self._retired: list[OllamaHttp] = []

    async def start(self) -> None:
        self._keeper.start()

    async def set_up(self, slots: int, limits: Mapping[str, str]) -> None:
        """From now on with these; a child that runs is started anew. Returns when the old one has ended."""
        running = self._keeper.started
        if running:
            await asyncio.to_thread(self._keeper.stop)
        self._settings = replace(self._settings, slots=slots, limits=limits)
        self._keeper = _Keeper(self._settings)
        if running:
            self._keeper.start()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after `stop_seconds`; returns when the child is gone."""
        await self.close()

    @property
    def address(self) -> HostAddress:
        running = self._keeper.running
        return running or self._settings.address()

    @property
    def pid(self) -> int | None:
        return self._keeper.pid

    @property
    def log_tail(self) -> tuple[str, ...]:
        """The last lines that the child wrote to its standard error."""
        return tuple(self._keeper.tail)

    async def wait_ready(self) -> HostAddress:
        """Wait until the child answers. Raises `HostUnreachable` when it was given up."""
        while self._keeper.running is None:
            if self._keeper.given_up:
                raise HostUnreachable(self._settings.name, self._keeper.given_up)
            await asyncio.sleep(0.02)
        return self._keeper.running

    # Backend

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk, None]:
        async with aclosing(self._now().stream(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def version(self) -> tuple[str, str]:
        return await self._now().version()

    async def models(self) -> Sequence[ModelInfo]:
        return await self._now().models()

    async def loaded(self) -> Sequence[LoadedModel]:
        return await self._now().loaded()

    async def show(self, model: str) -> ModelDetail:
        return await self._now().show(model)

    async def forward(self, method: str, path: str, body: bytes = b"") -> RawAnswer:
        return await self._now().forward(method, path, body)

    async def forward_stream(
        self, method: str, path: str, body: bytes | AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._now().forward_stream(method, path, body)) as lines:
            async for line in lines:
                yield line

    async def close(self) -> None:
        await asyncio.to_thread(self._keeper.stop)
        for client in (*self._retired, *([self._client] if self._client else [])):
            await client.close()

    def _now(self) -> OllamaHttp:
        address = self._keeper.running
        if address is None:
            if self._keeper.given_up:
                raise HostUnreachable(self._settings.name, self._keeper.given_up)
            raise HostWarming(self._settings.name, "it is starting")
        if self._client is None or self._client.address != address:
            if self._client is not None:
                self._retired.append(self._client)  # its streams end by themselves: their child is gone
            self._client = OllamaHttp(address, timeouts=self._settings.timeouts)
        return self._client


class _Keeper:
    """The thread that starts the child and outlives it: Linux ties PDEATHSIG to the thread that started it."""

    def __init__(self, settings: EmbeddedSettings) -> None:
        self._settings = settings
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._crashes: deque[float] = deque(maxlen=CRASHES)
        self.running: HostAddress | None = None
        self.given_up = ""
        self.tail: deque[str] = deque(maxlen=400)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def started(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="loupe-runtime-keeper", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(self._settings.stop_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread is not None:
            self._thread.join(self._settings.stop_seconds)

    def _keep(self) -> None:
        while not self._stopping.is_set():
            why = self._run_once()
            self.running = None
            if self._stopping.is_set():
                return
            self._crashes.append(time.monotonic())
            log.warning("runtime ended", reason=why, tail=list(self.tail)[-3:])
            if len(self._crashes) == CRASHES and self._crashes[-1] - self._crashes[0] < CRASH_WINDOW:
                last = next((line for line in reversed(self.tail) if line.strip()), "")
                self.given_up = f"it ended {CRASHES} times in five minutes and is not started again ({why}). {last}"
                return

    def _run_once(self) -> str:
        """Start the child and stay with it to its end; the reason it ended."""
        key = secrets.token_urlsafe(32)
        try:
            process = subprocess.Popen(
                [*self._settings.command, "--port", "0", "--store", str(self._settings.store)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(key),
                cwd=Path(__file__).parents[2],
                start_new_session=True,  # Ctrl-C in the terminal is ours to pass on
            )
        except OSError as error:
            return f"it could not be started: {error.strerror}"
        self._process = process
        if self._stopping.is_set():
            process.terminate()
        watcher = threading.Thread(target=self._read_log, args=(process,), name="loupe-runtime-log", daemon=True)
        watcher.start()
        timer = threading.Timer(self._settings.ready_seconds, self._kill_unready, (process,))
        timer.daemon = True
        timer.start()
        self._read_ready(process, key)
        timer.cancel()
        status = process.wait()
        watcher.join(1.0)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    def _environment(self, key: str) -> dict[str, str]:
        """Nothing of ours but what the child needs: no tokens, no keys of other services, no Python settings."""
        passed = {name: value for name, value in self._settings.environment.items() if name in PASSED_ON}
        return passed | dict(self._settings.limits) | {"LOUPE_RUNTIME_KEY": key, "LOUPE_PARENT_PIPE": "1"}

    def _read_ready(self, process: subprocess.Popen[bytes], key: str) -> None:
        """Wait for the one JSON line, then keep reading so that the child never blocks on a full pipe."""
        for line in process.stdout or ():
            url = _ready_url(line)
            if url and self.running is None:
                self.running = self._settings.address(url, key)
                log.info("runtime ready", pid=process.pid)

    def _kill_unready(self, process: subprocess.Popen[bytes]) -> None:
        if self.running is None:
            self.tail.append(f"not ready within {self._settings.ready_seconds:g} s")
            process.kill()

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        for raw in process.stderr or ():
            line = raw.decode("utf-8", "replace").rstrip()
            self.tail.append(line)
            log.debug("runtime", line=line)


def _ready_url(line: bytes) -> str:
    try:
        told = json.loads(line)
    except ValueError:
        return ""
    url = told.get("url") if isinstance(told, dict) and told.get("ready") is True else ""
    return url if isinstance(url, str) else ""
