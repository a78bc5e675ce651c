"""The process that writes model files (`gguf_rewrite`), seen from the supervisor: one at a time, ended by leaving.

Nothing of a job survives a cancelled caller: the process is killed and its files are the caller's to remove. The
process ends with the supervisor, however that ends. The spawn happens on the thread of the event loop, which lives:
Linux ties the death signal of a child to the thread that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from app.core.errors import DiskFull, LoupeError, StoreError
from app.models.gguf_copy import Written
from app.runtime.create_request import CannotCreate
from app.runtime.gguf_rewrite import Job
from app.runtime.registry.threads import ended

_ROOT = Path(__file__).parents[2]
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
_PATIENCE = 2.0  # seconds for the process to end by itself
_LAST_WORDS = 2000  # bytes of its standard error that are kept

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of tensors written, of all."""

    completed: int
    total: int


async def rewriting(job: Job) -> AsyncGenerator[Progress | Written, None]:
    """Progress, and at the end what was `Written`. Waits while another job is at work.

    Raises `CannotCreate`, `DiskFull`, `StoreError`. Closing the generator ends the process.
    """
    turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with turn:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.runtime.gguf_rewrite",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=_ROOT, env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            start_new_session=True,
        )  # fmt: skip
        words = asyncio.ensure_future(_last_words(process))
        try:
            assert process.stdin is not None and process.stdout is not None  # noqa: S101
            process.stdin.write(job.encoded())
            written = None
            async for line in process.stdout:
                told = json.loads(line)
                if "error" in told:
                    raise _error(told)
                if "sha256" in told:
                    written = Written(told["sha256"], told["size"])
                    break
                yield Progress(told["completed"], told["total"])
            if written is None:
                raise StoreError(f"the process that writes model files ended: {await _why(process, words)}")
            yield written
        finally:
            await _end(process, words)


async def _last_words(process: asyncio.subprocess.Process) -> bytes:
    kept = b""
    assert process.stderr is not None  # noqa: S101
    while piece := await process.stderr.read(4096):
        kept = (kept + piece)[-_LAST_WORDS:]
    return kept


async def _why(process: asyncio.subprocess.Process, words: asyncio.Future[bytes]) -> str:
    code = await process.wait()
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    lines = (await words).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {code}"


async def _end(process: asyncio.subprocess.Process, words: asyncio.Future[bytes]) -> None:
    """Ends the process, if it has not ended, and waits for it.

    It ends itself as soon as its input does (`guarded`). To kill it outright is left for one that does not: that would
    reap a child which is just ending, and asyncio's own watcher would then not learn how it ended.
    """
    assert process.stdin is not None and process.stdout is not None  # noqa: S101
    process.stdin.close()

    async def gone(output: asyncio.StreamReader) -> None:
        waiting = asyncio.gather(_read_to_end(output), process.wait(), words, return_exceptions=True)
        done, _ = await asyncio.wait({waiting}, timeout=_PATIENCE)
        if not done:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await waiting

    await ended(asyncio.ensure_future(gone(process.stdout)))


async def _read_to_end(stream: asyncio.StreamReader) -> None:
    """A process whose pipes nobody empties does not count as over."""
    while await stream.read(1 << 16):
        pass


def _error(told: dict[str, Any]) -> LoupeError:
    kinds: dict[str, type[LoupeError]] = {CannotCreate.code: CannotCreate, DiskFull.code: DiskFull}
    return kinds.get(told["code"], StoreError)(str(told["error"]))
