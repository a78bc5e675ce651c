"""A model host as a process of its own, on a loopback address of its own: to be killed, stopped and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from benchmarks.harness import ROOT


class HostProcess:
    """`proving.raw_host` with these words; after `kill` it comes back on the same address and port.

    `prefix`: words before the command, such as those of a network namespace.
    """

    def __init__(self, address: str, *words: str, prefix: tuple[str, ...] = ()) -> None:
        self._address, self._words, self._prefix = address, words, prefix
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def start(self) -> None:
        port = urlsplit(self.url).port or 0
        start = [*self._prefix, sys.executable, "-m", "proving.raw_host"]
        words = ["--address", self._address, "--port", str(port), *self._words]
        self._process = await asyncio.create_subprocess_exec(
            *start, *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE, env={"PATH": os.environ.get("PATH", "")}
        )
        told = await self._process.stdout.readline() if self._process.stdout else b""
        self.url = told.decode().strip()
        if not self.url:
            raise RuntimeError(f"the host on {self._address} did not start")

    async def kill(self) -> None:
        """kill -9, and wait until it is dead."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    def stop(self) -> None:
        """SIGSTOP: it keeps its connections and says nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


@asynccontextmanager
async def host_process(address: str, *words: str, prefix: tuple[str, ...] = ()) -> AsyncIterator[HostProcess]:
    host = HostProcess(address, *words, prefix=prefix)
    await host.start()
    try:
        yield host
    finally:
        await host.kill()
