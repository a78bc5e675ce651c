"""Layers on their way from a registry into the store: in parts, tried again, shared, verified.

A download belongs to no caller. Whoever needs the layer joins it; when the last one leaves, it is cancelled, and what
is on disk waits for the next pull.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.core.errors import Cancelled, IntegrityError, LoupeError
from app.runtime.manifests import Layer
from app.runtime.registry.errors import RegistryError, RegistryUnavailable
from app.runtime.registry.failures import Stalled
from app.runtime.registry.pace import Pace
from app.runtime.registry.partial_blob import Part, PartialBlob, Place, open_partial
from app.runtime.registry.registry_client import RegistryClient
from app.runtime.registry.threads import ended, in_thread

_log = logging.getLogger(__name__)

Connect = Callable[[], RegistryClient]


class Download:
    """One layer under way. `source` says which registry and name it comes from."""

    def __init__(self, layer: Layer, place: Place, source: str, connect: Connect, pace: Pace) -> None:
        self.layer, self.source = layer, source
        self.followers = 0
        self._place, self._connect, self._pace = place, connect, pace
        self._partial: PartialBlob | None = None
        self._opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._fetched: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._stopped = threading.Event()  # heard by the thread that hashes
        self._task: asyncio.Task[None] | None = None

    @property
    def completed(self) -> int:
        """Bytes of the layer on disk, those of earlier pulls included."""
        if self._fetched.done():
            return self.layer.size
        return self._partial.completed if self._partial else 0

    def start(self, after: asyncio.Future[None] | None) -> asyncio.Task[None]:
        """Begins; but not before `after`, which holds the same files, is over."""
        self._task = asyncio.create_task(self._run(after), name=f"pull {self.layer.digest[7:19]}")
        return self._task

    async def opened(self) -> None:
        """Waits until it is known how much of the layer is here already. Raises what went wrong."""
        await self._first(self._opened)

    async def fetched(self, seconds: float) -> bool:
        """Whether all bytes are there, waited for at most so long. Raises what went wrong."""
        return await self._first(self._fetched, seconds)

    async def installed(self) -> None:
        """Waits until the verified blob has its name. Raises what went wrong: `IntegrityError`, `DiskFull`, …"""
        if self._task is None:
            raise RuntimeError("the download was not started")
        await asyncio.wait({self._task})
        if self._task.cancelled():
            raise Cancelled("shutdown")
        if error := self._task.exception():
            raise error

    async def _first(self, news: asyncio.Future[bool], seconds: float | None = None) -> bool:
        """Whether `news` came before the end of the task and of the time."""
        if self._task is None:
            raise RuntimeError("the download was not started")
        both: set[asyncio.Future[Any]] = {news, self._task}
        await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not news.done() and self._task.done():
            await self.installed()
        return news.done()

    async def over(self, seconds: float) -> None:
        """Waits until nothing is under way any more, for good or bad, but at most so long."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=seconds)

    async def cancel(self) -> None:
        """Stops, and returns when all files are closed."""
        self._stopped.set()
        if self._task is not None:
            self._task.cancel()
            await ended(self._task)

    async def _run(self, after: asyncio.Future[None] | None) -> None:
        if after is not None:
            await ended(after)  # also when this one is cancelled: the next one waits for this one alone
        partial = self._partial = await in_thread(open_partial, self._place, self._pace)
        self._opened.set_result(True)
        try:
            if not all(part.is_complete for part in partial.parts):
                async with self._connect() as registry:
                    await self._fetch_parts(registry, partial)
            self._fetched.set_result(True)
            got = await in_thread(partial.digest, self._stopped.is_set)
            if got != self.layer.digest:
                await in_thread(partial.discard)
                words = "digest mismatch, file must be downloaded again"  # as recorded in pull_wrong
                message = f"{words}: want {self.layer.digest}, got {got}"
                raise IntegrityError("a layer", self.layer.digest, got, message)
            await in_thread(partial.install)
        finally:
            partial.close()

    async def _fetch_parts(self, registry: RegistryClient, partial: PartialBlob) -> None:
        slots = asyncio.Semaphore(self._pace.parts)

        async def fetch(part: Part) -> None:
            async with slots:
                await self._fetch_part(registry, partial, part)

        try:
            async with asyncio.TaskGroup() as group:
                for part in partial.parts:
                    if not part.is_complete:
                        group.create_task(fetch(part))
        except BaseExceptionGroup as failures:  # the first of them stopped the others
            raise failures.exceptions[0] from None

    async def _fetch_part(self, registry: RegistryClient, partial: PartialBlob, part: Part) -> None:
        """All tries of one part. One that stalled after some bytes came does not count (Ollama's rule)."""
        tries = 0
        while True:
            before = part.completed
            try:
                return await self._try(registry, partial, part)
            except RegistryUnavailable as error:
                silent = isinstance(error, Stalled)
                tries += not (silent and part.completed > before)
                _log.info("part %d of %s: %s (%d of %d)", part.number, self.layer.digest[7:19], error.message, tries,
                          self._pace.tries)  # fmt: skip
                if tries >= self._pace.tries:
                    raise RegistryError(f"max retries exceeded: {error.message}") from error
                if not silent:
                    await self._pace.sleep(self._pace.wait_after(tries, error.retry_after))

    async def _try(self, registry: RegistryClient, partial: PartialBlob, part: Part) -> None:
        async with registry.blob(self.layer.digest, part.position, part.stop, self.layer.size) as body:
            if body.start != part.position:
                if part.offset:
                    raise RegistryError("the registry sends whole layers where a part was asked for")
                await in_thread(partial.restart, part)
            while not part.is_complete:
                content = await body.read()
                await in_thread(partial.write, part, content[: part.size - part.completed])


class Downloads:
    """The layers under way, by digest. One at a time writes the files of a digest."""

    def __init__(self, root: Path, pace: Pace) -> None:
        self._root, self._pace = root, pace
        self._running: dict[str, Download] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}  # also those that are being cancelled

    def find(self, digest: str) -> Download | None:
        return self._running.get(digest)

    def join(self, layer: Layer, target: Path, source: str, connect: Connect) -> Download:
        """The download of `layer`, begun if nobody has; leave it with `leave`."""
        download = self._running.get(layer.digest)
        if download is None:
            place = Place(self._root, target, layer.digest, layer.size)
            download = Download(layer, place, source, connect, self._pace)
            task = download.start(self._tasks.get(layer.digest))
            self._running[layer.digest] = download
            self._tasks[layer.digest] = task
            task.add_done_callback(lambda _: self._finish(layer.digest, download, task))
        download.followers += 1
        return download

    async def leave(self, download: Download) -> None:
        """One follower less; the last one ends what is still under way and waits until its files are closed."""
        download.followers -= 1
        if not download.followers and self._running.get(download.layer.digest) is download:
            del self._running[download.layer.digest]  # before the cancelling: nobody joins what is about to end
            await download.cancel()

    async def close(self) -> None:
        """Cancels all of them."""
        running = list(self._running.values())
        self._running.clear()
        for download in running:
            await download.cancel()

    def _finish(self, digest: str, download: Download, task: asyncio.Task[None]) -> None:
        if self._running.get(digest) is download:
            del self._running[digest]
        if self._tasks.get(digest) is task:
            del self._tasks[digest]
        error = None if task.cancelled() else task.exception()  # asked for: perhaps nobody waits any more
        if error is not None and not isinstance(error, LoupeError):
            _log.error("the pull of %s failed", digest, exc_info=error)
