"""Embedded runtimes as hosts to be killed and stopped, each a process with a store of its own (hard links)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from tests.runtime_process import RuntimeProcess, runtime
from tests.served import family_of
from tests.starter_cache import linked_store


class Runtime:
    """A runtime and its workers."""

    def __init__(self, process: RuntimeProcess) -> None:
        self._process, self.url = process, process.url

    async def kill(self) -> None:
        """kill -9 of the supervisor: its workers go by themselves."""
        self._process.process.kill()
        self._process.process.wait(10)

    def stop(self) -> None:
        """SIGSTOP of all of it."""
        for one in family_of(self._process.pid):
            one.suspend()

    def resume(self) -> None:
        for one in family_of(self._process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()


@asynccontextmanager
async def runtimes(folder: Path, tag: str, names: Sequence[str]) -> AsyncIterator[list[Runtime]]:
    """One for each name, with the starter's variant `tag` and two answers at once."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in names:
            store = linked_store(folder / name, (tag,))
            process = runtime(store, folder / f"{name}.log", OLLAMA_NUM_PARALLEL="2")
            found.append(Runtime(stack.enter_context(process)))
        yield found
