"""Hosts added, drained and removed while Loupe runs, and remembered: `hosts.json` in the data folder.

The hosts of the settings come first: they are not written there, keep their names and addresses, and can be drained
but not removed. A host that is removed is drained first, and gone when nothing runs there any more.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from app.core.errors import BadRequest, DiskFull, HostNotFound, NotAllowed, StoreError
from app.core.generation import Json
from app.core.hosts import HostAddress, HostStatus
from app.core.ports import Backend
from app.services.host_pool import HostPool
from app.services.small_file import read_small, write_small

log = structlog.get_logger("loupe.hosts")
FILE_NAME = "hosts.json"
LOOK_SECONDS = 0.2  # between two looks whether a host that is to go is idle
MOST_HOSTS = 64

Read = Callable[[str, str, int, str | None], HostAddress]
"""(name, url, slots, key) to an address. Raises ValueError with a sentence."""


class HostAdmin:
    """`make` gives the backend of an address; `works` says whether a job runs on the host of that name."""

    def __init__(
        self, pool: HostPool, folder: Path, read: Read, make: Callable[[HostAddress], Backend],
        works: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._pool, self._file = pool, folder / FILE_NAME
        self._read, self._make, self._works = read, make, works
        self._added: dict[str, HostAddress] = {}
        self._drained: set[str] = set()
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._changing = asyncio.Lock()

    def populate(self, backends: list[Backend]) -> None:
        """Give the pool the hosts of the settings and those that were added. Reads the file; call before the start."""
        known = [backend.address for backend in backends]
        hosts, self._drained = self._remembered()
        for address in hosts:
            if (problem := _clash(address, known)) is None:
                self._added[address.name] = address
                known.append(address)
            else:
                log.warning("added host left out", host=address.name, why=problem)
        self._pool.populate(backends, [self._make(address) for address in self._added.values()])
        for name in self._drained & {address.name for address in known}:
            self._pool.drain(name)

    async def stop(self) -> None:
        for task in self._leaving.values():
            task.cancel()
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)

    async def add(self, name: str, url: str, slots: int = 1, key: str | None = None) -> HostStatus:
        """Take a host in; it need not answer yet. Raises `BadRequest` for what cannot be a host, `StoreError` where it
        cannot be remembered (then it is not taken)."""
        try:
            address = self._read(name, url, slots, key)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        async with self._changing:
            there = [status.address for status in self._pool.statuses()]
            if problem := _clash(address, there):
                raise BadRequest(problem)
            if len(there) >= MOST_HOSTS:
                raise BadRequest(f"{MOST_HOSTS} hosts are the most that are watched; remove one first")
            await self._write({**self._added, name: address}, self._drained - {name})
            return await self._pool.add(self._make(address))

    async def drain(self, name: str, *, draining: bool = True) -> HostStatus:
        """Send nothing new to the host, also after a restart; or (`draining` False) send there again."""
        self._status(name)
        async with self._changing:
            if name in self._leaving:
                raise BadRequest(f"{name} is being removed; add it again when it is gone")
            await self._write(self._added, self._drained | {name} if draining else self._drained - {name})
            self._pool.drain(name, draining=draining)
        return self._status(name)

    async def remove(self, name: str) -> bool:
        """Drain the host and forget it. True if it is gone, False if something runs there: it goes when that ends.

        Raises `NotAllowed` for a host of the settings.
        """
        status = self._status(name)
        if not status.added:
            raise NotAllowed(
                f"{name} is a host of the settings and would be back at the next start; take it out there "
                "(LOUPE_HOSTS or OLLAMA_HOST), or drain it"
            )
        async with self._changing:
            if name not in self._leaving:
                await self._write({n: a for n, a in self._added.items() if n != name}, self._drained - {name})
                self._pool.drain(name)
                self._leaving[name] = asyncio.create_task(self._leave(name), name=f"remove host {name}")
            leaving = self._leaving[name]
        await asyncio.wait([leaving], timeout=LOOK_SECONDS / 2)
        return leaving.done()

    async def _leave(self, name: str) -> None:
        while self._status(name).busy_slots or self._works(name):
            await asyncio.sleep(LOOK_SECONDS)
        await self._pool.remove(name)
        del self._leaving[name]

    def _status(self, name: str) -> HostStatus:
        for status in self._pool.statuses():
            if status.address.name == name:
                return status
        raise HostNotFound(name, tuple(status.address.name for status in self._pool.statuses()))

    # The file

    def _remembered(self) -> tuple[list[HostAddress], set[str]]:
        content = read_small(self._file)
        if content is None and self._file.exists():
            log.error("the added hosts cannot be read; the file is put aside", file=self._file.name)
            with suppress(OSError):
                self._file.replace(self._file.with_name(f"{FILE_NAME}.damaged"))
        if not isinstance(content, dict):
            return [], set()
        rows, drained = content.get("hosts"), content.get("drained")
        hosts = [self._row(row) for row in rows] if isinstance(rows, list) else []
        names = {name for name in drained if isinstance(name, str)} if isinstance(drained, list) else set()
        return [host for host in hosts if host is not None], names

    def _row(self, row: Json) -> HostAddress | None:
        try:
            if not isinstance(row, dict):
                raise ValueError("it is no object")
            key, slots = row.get("key"), row.get("slots", 1)
            return self._read(
                str(row.get("name")), str(row.get("url")), slots if isinstance(slots, int) else 1,
                key if isinstance(key, str) else None,
            )  # fmt: skip
        except ValueError as problem:
            log.warning("added host left out", why=str(problem))
            return None

    async def _write(self, added: dict[str, HostAddress], drained: set[str]) -> None:
        """Remember first: a change that would be lost at the next start is refused instead."""
        hosts = [{"name": a.name, "url": a.url, "slots": a.slots, "key": a.key} for a in added.values()]
        text = json.dumps({"hosts": hosts, "drained": sorted(drained)}, indent=1)
        try:
            await asyncio.to_thread(write_small, self._file, text)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = DiskFull if full else StoreError
            raise kind(
                f"the change cannot be remembered in {FILE_NAME} of the data folder: {error.strerror}"
            ) from error
        self._added, self._drained = added, drained


def _clash(address: HostAddress, others: list[HostAddress]) -> str | None:
    """Why the address cannot stand beside the others."""
    for other in others:
        if other.name.lower() == address.name.lower():
            return f"there is a host {other.name} already; take another name"
        if other.url == address.url:
            return f"{other.name} has that address already, so its slots would count twice"
    return None
