"""Starting a worker, waiting until its model is loaded, noticing its end, and ending it.

The spawn happens on the thread of the event loop, which lives as long as the supervisor: Linux ties the death
signal of a child to the thread that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.core.errors import ModelLoadFailed
from app.runtime.worker_client import WorkerClient
from app.runtime.worker_log import WorkerLog, advice_for

_PROGRAM = Path(__file__).with_name("worker.py")
_ENVIRONMENT = {
    # How often a thread of OpenMP looks for the others after each operation before it sleeps: some 15 µs. With none an
    # idle core falls asleep a thousand times a token (42 tokens a second instead of 150); with libgomp's own 300,000
    # contended cores spend their time so (2 instead of 50).
    "GOMP_SPINCOUNT": "500",
    "GGML_NO_BACKTRACE": "1",
    "LC_ALL": "C.UTF-8",
}
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
_NO_MMAP, _MMAP = 0, 1
_SPARE = 16 << 30  # address space beside the machine's memory, where nothing is known of the model
_STALL_CHECK = 1.0
_LAST_WORDS_SECONDS = 5.0  # from the end of standard output to the end of the process and of its log
_LOG_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """`num_ctx` is for each of `parallel` slots; `batch` is the logical and physical batch.

    `kv_type` is the type of both caches, `flash` None leaves flash attention to llama.cpp. `checkpoints` points of each
    conversation are remembered where the model cannot go back without. `address_space` in bytes is the process's limit
    (0: what the machine has). An `embedding` worker answers with vectors, pooled as the model file says. With
    `own_template` it renders and parses chats by the model file's own template.
    """

    model: Path
    num_ctx: int
    parallel: int
    batch: int
    threads: int
    shift: bool
    mmap: bool
    load_timeout_s: float
    embedding: bool = False
    own_template: bool = True
    kv_type: str = "f16"
    flash: bool | None = None
    checkpoints: int = 8
    address_space: int = 0


class Worker:
    """A process with a loaded model. `died` is set when it has ended, whoever ended it, `complained` when its log says
    that something went wrong."""

    def __init__(self, process: asyncio.subprocess.Process, log: WorkerLog) -> None:
        self._process, self.log = process, log
        self.died, self.complained = asyncio.Event(), asyncio.Event()
        self.client: WorkerClient | None = None
        self._hung = ""
        self._tasks = [asyncio.create_task(self._read_log()), asyncio.create_task(self._wait())]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self.died.is_set()

    @property
    def running(self) -> WorkerClient:
        assert self.client is not None, "the worker is not ready yet"  # noqa: S101
        return self.client

    async def _read_log(self) -> None:
        """In pieces, not by line: a request leaves some twenty lines behind, and each wait costs more than a line."""
        stream, held = self._process.stderr, b""
        while stream is not None and (data := await stream.read(_LOG_PIECE)):
            *lines, held = (held + data).split(b"\n")
            for line in lines:
                self.log.feed(line)
            if self.log.reason:
                self.complained.set()
            held = held[:_LOG_PIECE]
        if held:
            self.log.feed(held)

    async def _wait(self) -> None:
        await self._process.wait()
        self.died.set()

    async def answers(self, seconds: float) -> bool:
        """Whether its server says within `seconds` that it is well: it has other threads for that than to compute."""
        return self.alive and await self.running.is_well(seconds)

    def condemn(self, why: str) -> None:
        """It is about to be killed, and `why` is the reason to give."""
        self._hung = why

    async def ended(self) -> None:
        """Until it has ended and all that it said has been read."""
        await asyncio.gather(*map(asyncio.shield, self._tasks), return_exceptions=True)

    async def kill(self) -> None:
        """Ends the process at once: that gives its memory back in 30 ms, and there is nothing in it to save."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.died.wait()
        await self.ended()

    def kill_now(self) -> None:
        """The same without waiting, for a supervisor that is going down itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)

    @property
    def was_killed(self) -> bool:
        """Ended by a signal: llama.cpp aborted, or the system took its memory back."""
        return (self._process.returncode or 0) < 0

    def why_ended(self) -> str:
        """The reason a worker is gone: it hung, or what its log or its exit status says."""
        if self._hung:
            return self._hung
        code = self._process.returncode
        if code is not None and code < 0 and not self.log.reason:
            with contextlib.suppress(ValueError):
                return f"signal: {signal.Signals(-code).name}"
        return self.log.reason or f"exit status {code}"


async def start_worker(config: WorkerConfig, model: str) -> Worker:
    """Starts a worker and waits for its model. Cancelling ends the process.

    Raises `ModelLoadFailed` with the reason from the worker's log.
    """
    key = secrets.token_urlsafe(24)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(_PROGRAM), str(os.getpid()),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=_ENVIRONMENT | {name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        start_new_session=True,
    )  # fmt: skip
    worker = Worker(process, WorkerLog())
    try:
        if process.stdin is not None:
            process.stdin.write(json.dumps(_described(config, key)).encode() + b"\n")
        url = await _ready(worker, process, config, model)
        worker.client = WorkerClient(url, key)
        worker.log.loaded()
    except BaseException:
        await asyncio.shield(asyncio.ensure_future(worker.kill()))
        raise
    return worker


def _described(config: WorkerConfig, key: str) -> dict[str, object]:
    return {
        "model": str(config.model),
        "key": key,
        "parallel": config.parallel,
        "num_ctx": config.num_ctx,
        "batch": config.batch,
        "threads": config.threads,
        "shift": config.shift,
        "embedding": config.embedding,
        "own_template": config.own_template,
        "load_mode": _MMAP if config.mmap else _NO_MMAP,
        "kv_type": config.kv_type,
        "flash": config.flash,
        "checkpoints": config.checkpoints,
        "address_space": config.address_space or psutil.virtual_memory().total + psutil.swap_memory().total + _SPARE,
    }


async def _ready(worker: Worker, process: asyncio.subprocess.Process, config: WorkerConfig, model: str) -> str:
    """The worker's address. It may take as long as it wants, but not stay silent for the load timeout."""
    if process.stdout is None:
        raise ModelLoadFailed(model, "no pipe to the worker")
    reading = asyncio.ensure_future(process.stdout.readline())
    seen, silent = 0, 0.0
    try:
        while True:
            done, _ = await asyncio.wait({reading}, timeout=_STALL_CHECK)
            if done:
                return await _address(reading.result(), worker, model)
            silent = 0.0 if worker.log.lines_seen != seen else silent + _STALL_CHECK
            seen = worker.log.lines_seen
            if silent >= config.load_timeout_s:
                last = worker.log.reason or next(reversed(worker.log.tail), "it said nothing")
                stalled = f"timed out waiting for llama-server to start - {last}"
                worker.condemn(stalled)
                raise ModelLoadFailed(model, stalled, advice_for(stalled), ended=False, crashed=True)
    finally:
        reading.cancel()


async def _address(line: bytes, worker: Worker, model: str) -> str:
    """What the worker's only line says. Where that is no address, the log has the reason, and may come later."""
    try:
        told = json.loads(line)
        if told["ready"]:
            return str(told["url"])
        why = str(told["error"])
    except (ValueError, KeyError, TypeError):  # it ended without a line
        why = ""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(worker.complained.wait() if why else worker.ended(), _LAST_WORDS_SECONDS)
    why = worker.log.reason or why or worker.why_ended()
    raise ModelLoadFailed(model, why, advice_for(why), crashed=worker.was_killed)
