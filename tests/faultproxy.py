"""A TCP proxy that misbehaves on demand: refuse, stay silent, stall, slice, reset, or end after so many bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(slots=True)
class Fault:
    """What happens to the bytes that come back from upstream. Change it at any time; it holds for new reads.

    `after` bytes the answer is `then`: "pass", "reset" (RST), "close" (FIN) or "stall" (until `resume` is set).
    `slice` passes at most so many bytes at once. `refuse` closes the listener's connections unread.
    """

    after: int = 0
    then: str = "pass"
    slice: int = 1 << 16
    refuse: bool = False


class FaultProxy:
    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.fault = Fault()
        self.resume = asyncio.Event()
        self.connections = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.connections += 1
        if self.fault.refuse:
            reset(writer)
            return
        with contextlib.suppress(ConnectionError):
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
            forth = asyncio.create_task(_copy(reader, up_writer))
            try:
                await self._back(up_reader, writer)
            finally:
                forth.cancel()
                up_writer.close()
                writer.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(self.fault.slice):
            if self.fault.then != "pass" and passed + len(data) > self.fault.after:
                writer.write(data[: max(0, self.fault.after - passed)])
                await writer.drain()
                if self.fault.then == "reset":
                    reset(writer)
                elif self.fault.then == "stall":
                    await self.resume.wait()
                return
            passed += len(data)
            writer.write(data)
            await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: linger of zero."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def faulty(upstream: str) -> AsyncIterator[tuple[FaultProxy, str]]:
    """A proxy in front of `upstream`, and its own address."""
    proxy = FaultProxy(upstream)
    address = await proxy.start()
    try:
        yield proxy, address
    finally:
        await proxy.stop()
