"""A child of ours that tells how far it is: lines of JSON on its standard output.

It ends with us: it watches its standard input, and on Linux PDEATHSIG is set from the loop's thread, which lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from app.core.errors import StoreError

log = structlog.get_logger(__name__)
STOP_SECONDS = 3.0


async def told_by_child(
    module: str, arguments: Sequence[str] = (), *, environment: Mapping[str, str], given: bytes = b"", what: str
) -> AsyncGenerator[dict[str, Any], None]:
    """The records of `python -m module`, which gets `given` on its standard input. Closing the generator ends it.

    Raises `StoreError` when it ends with another status than 0; `what` says in that sentence what it was doing.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2], env={**environment, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    tail: deque[str] = deque(maxlen=20)
    reader = asyncio.create_task(_keep_tail(_pipe(process.stderr), tail))
    try:
        if process.stdin is not None:
            process.stdin.write(given)
        async for line in _pipe(process.stdout):
            yield json.loads(line)
        status = await process.wait()
        await reader
        if status:
            log.warning("child failed", module=module, status=status, stderr=list(tail))
            raise StoreError(f"{what} stopped unexpectedly (status {status})")
    finally:
        reader.cancel()
        await _end(process)


def _pipe(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    """The pipe that was asked for when the process was started."""
    if stream is None:
        raise StoreError("a child process has no output to read")
    return stream


async def _keep_tail(stream: asyncio.StreamReader, tail: deque[str]) -> None:
    async for line in stream:
        tail.append(line.decode(errors="replace").rstrip())


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
