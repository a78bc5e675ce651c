"""Runs `python -m app.runtime.starter` and reads its progress lines.

The process lowers its own priority and ends with us (pipe EOF, PDEATHSIG), so nothing survives a kill -9 here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import structlog

from app.core.errors import StoreError
from app.core.making import MakingProgress

log = structlog.get_logger(__name__)
STOP_SECONDS = 3.0


class StarterProcess:
    """A `FamilyMaker`. `store` is the embedded runtime's model store, `data` where the download is kept."""

    def __init__(self, store: Path, data: Path, environment: Mapping[str, str]) -> None:
        self._store, self._data = store, data
        self._environment = {**environment, "PYTHONUNBUFFERED": "1"}

    async def run(self) -> AsyncIterator[MakingProgress]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.runtime.starter", "--store", str(self._store), "--data", str(self._data),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2], env=self._environment,
        )  # fmt: skip
        tail: deque[str] = deque(maxlen=20)
        reader = asyncio.create_task(_keep_tail(process, tail))
        try:
            problem = ""
            async for line in _lines(process.stdout):
                step = json.loads(line)
                if step["phase"] == "error":
                    problem = step.get("message", "")
                    continue
                yield MakingProgress(
                    step["phase"], step.get("variant") or "", int(step.get("completed") or 0),
                    int(step.get("total") or 0), step.get("message") or "",
                )  # fmt: skip
            status = await process.wait()
            await reader
            if status or problem:
                log.warning("starter process failed", status=status, stderr=list(tail))
                raise StoreError(problem or f"making the starter models stopped unexpectedly (status {status})")
        finally:
            reader.cancel()
            await _end(process)


def _lines(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    """The pipe that was asked for when the process was started."""
    if stream is None:
        raise StoreError("the process that makes the starter models has no output to read")
    return stream


async def _keep_tail(process: asyncio.subprocess.Process, tail: deque[str]) -> None:
    async for line in _lines(process.stderr):
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
