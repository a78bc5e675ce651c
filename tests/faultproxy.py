"""A TCP proxy that misbehaves on demand, with toxiproxy's eight toxics: put them on and take them off at any time.

    async with faulty(host) as (proxy, url):
        slow = await proxy.add(Latency(0.2, jitter=0.05))  # of answers; `upstream=True` of requests
        await proxy.add(Slicer(1))  # toxics work in the order in which they were added
        await proxy.remove(slow)

They hold for connections that are open as well as for new ones. `toxicity` is the share of connections that a toxic
meets. A toxic that holds bytes back keeps their order. Times in seconds, rates in bytes a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

READ = 1 << 15  # bytes that are taken from a socket at once
CLOSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Toxic:
    """What happens to the bytes of one direction; without more, nothing."""

    upstream: bool = False
    toxicity: float = 1.0

    async def through(self, data: bytes, came: float, pipe: Pipe) -> AsyncIterator[bytes]:
        """What is passed on of `data`, which came at the moment `came` (monotonic)."""
        yield data

    async def at_once(self, pipe: Pipe) -> None:
        """Called when the toxic and an open connection meet, and cancelled when they part."""

    async def at_end(self, pipe: Pipe) -> None:
        """Called when the sender has closed, before the receiver learns it."""


@dataclass(frozen=True, slots=True, eq=False)
class Latency(Toxic):
    """Everything arrives `seconds` later, give or take `jitter`. Bytes on their way overlap, as on a long line."""

    seconds: float
    jitter: float = 0.0

    async def through(self, data: bytes, came: float, pipe: Pipe) -> AsyncIterator[bytes]:
        due = came + self.seconds + pipe.random.uniform(-self.jitter, self.jitter)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield data


@dataclass(frozen=True, slots=True, eq=False)
class Down(Toxic):
    """Nobody listens: new connections are refused, open ones are closed."""

    async def at_once(self, pipe: Pipe) -> None:
        pipe.close()


@dataclass(frozen=True, slots=True, eq=False)
class Bandwidth(Toxic):
    """At most `rate` bytes a second."""

    rate: float

    async def through(self, data: bytes, came: float, pipe: Pipe) -> AsyncIterator[bytes]:
        step = max(1, int(self.rate / 10))
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            await asyncio.sleep(len(piece) / self.rate)
            yield piece


@dataclass(frozen=True, slots=True, eq=False)
class SlowClose(Toxic):
    """The end of the connection arrives `seconds` late."""

    seconds: float

    async def at_end(self, pipe: Pipe) -> None:
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True, slots=True, eq=False)
class Timeout(Toxic):
    """Nothing gets through, and the connection is closed after `seconds`; with None it stays open."""

    seconds: float | None = None

    async def through(self, data: bytes, came: float, pipe: Pipe) -> AsyncIterator[bytes]:
        return
        yield  # an iterator without anything

    async def at_once(self, pipe: Pipe) -> None:
        if self.seconds is not None:
            await asyncio.sleep(self.seconds)
            pipe.close()

    async def at_end(self, pipe: Pipe) -> None:
        await pipe.gone.wait()


@dataclass(frozen=True, slots=True, eq=False)
class ResetPeer(Toxic):
    """The connection ends with RST after `seconds`, whatever is on its way."""

    seconds: float = 0.0

    async def at_once(self, pipe: Pipe) -> None:
        await asyncio.sleep(self.seconds)
        pipe.reset()


@dataclass(frozen=True, slots=True, eq=False)
class Slicer(Toxic):
    """Pieces of about `size` bytes, give or take `variation`, with `delay` after each."""

    size: int
    variation: int = 0
    delay: float = 0.0

    async def through(self, data: bytes, came: float, pipe: Pipe) -> AsyncIterator[bytes]:
        while data:
            size = max(1, self.size + pipe.random.randint(-self.variation, self.variation))
            yield data[:size]
            data = data[size:]
            await asyncio.sleep(self.delay)


@dataclass(frozen=True, slots=True, eq=False)
class LimitData(Toxic):
    """So many bytes of each connection get through; then it closes, or (`then`) is "reset" or left to "stall"."""

    size: int
    then: str = "close"

    async def through(self, data: bytes, came: float, pipe: Pipe) -> AsyncIterator[bytes]:
        left = self.size - pipe.passed.get(self, 0)
        pipe.passed[self] = pipe.passed.get(self, 0) + min(left, len(data))
        if data[:left]:
            yield data[:left]
        if len(data) > left:
            await pipe.sent()
            await self._end(pipe)

    async def _end(self, pipe: Pipe) -> None:
        match self.then:
            case "stall":
                await asyncio.Event().wait()
            case "reset":
                pipe.reset()
            case _:
                pipe.close()


@dataclass(slots=True, eq=False)
class Pipe:
    """One direction of one connection: reads, puts everything through the toxics of the moment, writes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    both: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    gone: asyncio.Event
    """The whole connection is over; shared with the other direction."""
    upstream: bool
    random: random.Random
    passed: dict[Toxic, int] = field(default_factory=dict)
    toxics: tuple[Toxic, ...] = ()
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _luck: dict[Toxic, bool] = field(default_factory=dict)

    def close(self) -> None:
        for writer in self.both:
            writer.close()
        self.gone.set()

    def reset(self) -> None:
        for writer in self.both:
            reset(writer)
        self.gone.set()

    async def sent(self) -> None:
        """Wait until what was written has left this process: a reset would else overtake it."""
        while not self.writer.is_closing() and self.writer.transport.get_write_buffer_size():
            await asyncio.sleep(0)

    def set(self, toxics: list[Toxic]) -> None:
        """These hold from now on; whatever is being held back at this moment is given to them anew."""
        mine = [toxic for toxic in toxics if toxic.upstream == self.upstream or isinstance(toxic, Down)]
        for toxic in mine:
            self._luck.setdefault(toxic, self.random.random() < toxic.toxicity)
        self.toxics = tuple(toxic for toxic in mine if self._luck[toxic])
        self.changed.set()
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Until the sender has closed and the receiver was told. A connection that breaks breaks on both sides."""
        arrived: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        helpers = [asyncio.create_task(self._haunt()), asyncio.create_task(self._read(arrived))]
        try:
            while (item := await arrived.get())[1]:
                await self._until_done(item[1], item[0])
            await self._end()
        except ConnectionError:
            self.reset()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _read(self, arrived: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"more"
        while data:
            try:
                data = await self.reader.read(READ)
            except ConnectionError:
                return self.reset()
            await arrived.put((time.monotonic(), data))
        return None

    async def _until_done(self, data: bytes, came: float) -> None:
        """Pass `data` on. Where toxics change meanwhile, what was not written yet is put through the new ones."""
        written = 0

        async def write() -> None:
            nonlocal written
            async for piece in self._chain(data, came):
                await self._write(piece)
                written += len(piece)

        if not self.toxics:
            await self._write(data)
        elif not await self._unless_changed(write()) and written < len(data):
            await self._until_done(data[written:], came)

    async def _write(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def _chain(self, data: bytes, came: float) -> AsyncIterator[bytes]:
        pieces = _once(data)
        for toxic in self.toxics:
            pieces = _through(toxic, pieces, came, self)
        async for piece in pieces:
            yield piece

    async def _end(self) -> None:
        while not await self._unless_changed(self._end_by_toxics()):
            continue
        await self.sent()
        if self.writer.can_write_eof() and not self.writer.is_closing():
            self.writer.write_eof()

    async def _end_by_toxics(self) -> None:
        for toxic in self.toxics:
            await toxic.at_end(self)

    async def _haunt(self) -> None:
        while True:
            changed = self.changed
            async with asyncio.TaskGroup() as group:
                met = [group.create_task(toxic.at_once(self)) for toxic in self.toxics]
                await changed.wait()
                for task in met:
                    task.cancel()

    async def _unless_changed(self, work: object) -> bool:
        """Whether `work` came to its end before the toxics changed; where they change it is cancelled."""
        doing: asyncio.Task[object] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        changing: asyncio.Task[object] = asyncio.ensure_future(self.changed.wait())
        try:
            await asyncio.wait({doing, changing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changing.cancel()
            finished = doing.done()
            if not finished:
                doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
        if finished:
            doing.result()
        return finished


class FaultProxy:
    """Listens on `address` (a loopback one: 127.0.0.2 is another machine to whoever connects) in front of one host."""

    def __init__(self, upstream: str, *, address: str = "127.0.0.1", seed: int = 0) -> None:
        parts = urlsplit(upstream)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._address, self._own_port = address, 0
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pipes: set[Pipe] = set()
        self._toxics: list[Toxic] = []
        self.connections = 0
        """Accepted so far."""

    @property
    def url(self) -> str:
        return f"http://{self._address}:{self._own_port}"

    @property
    def open(self) -> int:
        """Connections that are there now."""
        return len(self._pipes) // 2

    async def start(self) -> str:
        await self._listen()
        return self.url

    async def stop(self) -> None:
        await self._deafen()
        for pipe in list(self._pipes):
            pipe.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def add(self, toxic: Toxic) -> Toxic:
        """Put one on, after those that are there; it is given back, for `remove`."""
        self._toxics.append(toxic)
        await self._apply()
        return toxic

    async def remove(self, toxic: Toxic) -> None:
        self._toxics.remove(toxic)
        await self._apply()

    async def heal(self) -> None:
        """Take all of them off."""
        self._toxics.clear()
        await self._apply()

    async def _apply(self) -> None:
        if any(isinstance(toxic, Down) for toxic in self._toxics):
            await self._deafen()
        elif self._server is None:
            await self._listen()
        for pipe in list(self._pipes):
            pipe.set(self._toxics)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self._address, self._own_port)
        self._own_port = self._server.sockets[0].getsockname()[1]

    async def _deafen(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            reset(writer)
            return
        both, gone = (writer, up_writer), asyncio.Event()
        chance = random.Random(self._random.random())
        pipes = (Pipe(reader, up_writer, both, gone, True, chance), Pipe(up_reader, writer, both, gone, False, chance))
        self._pipes.update(pipes)
        for pipe in pipes:
            pipe.set(self._toxics)
        works = [asyncio.ensure_future(work) for work in (*(pipe.run() for pipe in pipes), gone.wait())]
        both_ended = asyncio.gather(*works[:2])
        ends: list[asyncio.Future[Any]] = [both_ended, works[2]]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(both_ended, *works, return_exceptions=True)
            self._pipes.difference_update(pipes)
            for end in both:
                await _closed(end)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _through(toxic: Toxic, pieces: AsyncIterator[bytes], came: float, pipe: Pipe) -> AsyncIterator[bytes]:
    async for piece in pieces:
        async for passed in toxic.through(piece, came, pipe):
            yield passed


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Close; a peer that does not read what is still to be sent is not waited for."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
    except OSError:
        pass  # the peer was quicker


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: linger of zero."""
    raw: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # closed already
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def faulty(upstream: str, *, address: str = "127.0.0.1", seed: int = 0) -> AsyncIterator[tuple[FaultProxy, str]]:
    """A proxy in front of `upstream`, and its own address."""
    proxy = FaultProxy(upstream, address=address, seed=seed)
    try:
        yield proxy, await proxy.start()
    finally:
        await proxy.stop()


@contextlib.contextmanager
def blackhole(port: int = 0, *, address: str = "127.0.0.1") -> Iterator[str]:
    """An address whose SYNs nobody answers: connecting to it neither succeeds nor fails. Linux only.

    The listener's backlog is full of connections that are never accepted, so the kernel drops the next ones.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://{address}:{listener.getsockname()[1]}"
