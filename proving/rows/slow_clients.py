"""Row 17: clients that are slow, silent or many cost the others nothing, and themselves their connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import uvicorn

from app.connection_limits import BoundedHttpProtocol, Connections, Limits
from app.gateway import streaming
from proving.promises import Run, promise
from proving.raw_host import RawHost, listening
from proving.slow_sockets import SlowSockets, in_a_process
from proving.stand import Loupe, ask, chat, loupe, takes, until
from proving.statistics import quantile

OWN = "uvicorn's own protocol"
UNHURRIED = "readers are waited for"
SLOW = {"idle": 60, "head": 50, "body": 50, "reader": 40}
GOOD = 20  # clients that work meanwhile
PREFILL = 0.05  # seconds until the host's first token: a short prompt on a fast GPU
MARGIN = 1.5  # seconds after its deadline in which a connection has to be ended; a look is due every second
WITH, WITHOUT = "an answer with 200 slow sockets, s", "an answer without them, s"


class Bounds:
    """The deadlines of this form, and the server's connections under them."""

    def __init__(self, run: Run) -> None:
        self.scaled = run.short or bool(run.off)
        self.head, self.body, self.reader = (1.0, 1.0, 1.0) if self.scaled else (10.0, 30.0, streaming.READER_SECONDS)
        reader = 3600.0 if run.off == UNHURRIED else self.reader if self.scaled else Limits().reader
        self.keeper = Connections(Limits(head=self.head, body=self.body, reader=reader))
        # Beside other tests a deadline can be late, and a control waits long enough to see that nothing comes.
        self.patience = 2.5 if run.off else 30.0 if run.short else MARGIN
        self._run = run

    def tune(self, config: uvicorn.Config) -> None:
        http = "httptools" if self._run.off == OWN else partial(BoundedHttpProtocol, self.keeper)
        config.http = http  # type: ignore[assignment]

    def due(self, kind: str) -> float:
        """Seconds after which a connection of that kind has to be ended."""
        return (self.body if kind == "body" else self.head) + self.patience


@contextlib.asynccontextmanager
async def _product(run: Run, bounds: Bounds) -> AsyncIterator[tuple[Loupe, RawHost]]:
    host = RawHost(("Paris", ". "), prefill=PREFILL, flood=2000)
    patience = 3600.0 if run.off == UNHURRIED else bounds.reader
    words: dict[str, Any] = {"queue_limit": 1000, "queue_per_client": 1000, "queue_wait_seconds": 600}
    async with listening(host) as url:
        with mock.patch.object(streaming, "READER_SECONDS", patience):
            hosts = [f"host={url};slots=64"]
            words = {"stall_seconds": 600, "body_seconds": bounds.body, **words}
            async with loupe(run.folder, hosts, tune=bounds.tune, **words) as product:
                yield product, host


@promise(
    17, "Slow clients cannot exhaust us", section="door",
    figure="a head has 10 s, a body 30 s, a reader who reads nothing its buffer and 10 s; 200 such sockets leave the "
    "p99 of 20 good clients, at a host that takes 50 ms, at most 1.2 times what it is without them; 500 idle ones fill "
    "none of 256 places for good",
    controls=(OWN, UNHURRIED),
    untested="the slow sockets come from this machine; kernel buffers of loopback are larger than those of a network",
)  # fmt: skip
async def slow_clients_cannot_exhaust_us(run: Run) -> None:
    bounds = Bounds(run)
    async with _product(run, bounds) as (product, host):
        if run.off != UNHURRIED:
            await _deadlines(run, bounds, product)
        if run.off != OWN:
            await _readers(run, bounds, product, host)
        if run.off:
            return
        await _many(run, bounds, product)
        if not run.short:
            await _beside_good_clients(run, product)


async def _deadlines(run: Run, bounds: Bounds, product: Loupe) -> None:
    """F36: silence, half a head, a body that trickles."""
    ended: list[tuple[str, float]] = []
    sockets = SlowSockets(product.url, lambda kind, seconds: ended.append((kind, seconds)), again=False)
    number = run.scale(short=4, full=50)
    for kind in ("idle", "head", "body"):
        sockets.start(kind, number)
    await takes(lambda: len(ended) == 3 * number, bounds.due("body"))
    await sockets.stop()
    for kind, seconds in ended:
        run.measure(f"{kind}: opened to ended, s", seconds)
        run.trial(seconds <= bounds.due(kind), f"{kind} ended after {seconds:.2f} s")
    for _ in range(3 * number - len(ended)):
        run.trial(False, "a connection is still open")


async def _readers(run: Run, bounds: Bounds, product: Loupe, host: RawHost) -> None:
    """F35: a window that stays shut. The host is free when the buffers are full and the reader had its time."""
    sockets = SlowSockets(product.url, lambda kind, seconds: None, again=False)
    number = run.scale(short=2, full=20)
    sockets.start("reader", number)
    await until(lambda: host.flooding + len(host.held) == number, 30, "the floods to begin")
    await takes(lambda: not host.flooding, 2 * bounds.reader + bounds.patience)
    for seconds in host.held:
        run.measure("reader: slot taken to slot free, s", seconds)
        run.trial(True)
    for _ in range(number - len(host.held)):
        run.trial(False, "a reader still holds a slot")
    if not run.off:
        await until(lambda: not product.busy, 30, "the slots to be free")
    await sockets.stop()


async def _many(run: Run, bounds: Bounds, product: Loupe) -> None:
    """F37: 500 idle sockets, and then as many busy ones as there are places."""
    most = bounds.keeper.limits.connections
    async with _open(product.url, 500):
        for number in range(run.scale(short=3, full=100)):
            outcome = await ask(product.url, chat(f"beside idle sockets {number}"))
            run.trial(outcome.complete, f"with 500 idle sockets: {outcome.status}")
            run.require(len(bounds.keeper) <= most, f"{len(bounds.keeper)} connections")
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    async with _open(product.url, most, head):
        outcome = await ask(product.url, chat("one too many"))
        run.trial(outcome.status == 503 or bounds.scaled, f"one too many: {outcome.status}")
        run.figure("the 257th connection is told", str(outcome.status))

    async def answered() -> bool:
        return (await ask(product.url, chat("afterwards"))).complete

    ends = time.monotonic() + 30
    while not (well := await answered()) and time.monotonic() < ends:
        await asyncio.sleep(0.05)  # their places are free when the server has heard of it
    run.trial(well, "no answer after they have left")


@contextlib.asynccontextmanager
async def _open(url: str, number: int, head: bytes = b"") -> AsyncIterator[Sequence[socket.socket]]:
    """So many sockets, each with `head` sent and no more."""
    where, loop, wires = urlsplit(url), asyncio.get_running_loop(), list[socket.socket]()
    try:
        for _ in range(number):
            wires.append(socket.socket())
            wires[-1].setblocking(False)
            await loop.sock_connect(wires[-1], (where.hostname, where.port))
            if head:
                await loop.sock_sendall(wires[-1], head)
        yield wires
    finally:
        for wire in wires:
            wire.close()


async def _beside_good_clients(run: Run, product: Loupe) -> None:
    """The p99 of good clients, by turns without and with 200 slow sockets that come again when they are ended."""
    for _ in range(6):  # 1,800 answers each: a p99 of 18
        await _work(run, product, WITHOUT, 15)
        async with in_a_process(product.url, SLOW) as ended:
            await _work(run, product, WITH, 15)
        run.require(bool(ended), "no slow socket was ended meanwhile")
    without, with_them = (quantile(run.samples[name], 0.99) for name in (WITHOUT, WITH))
    run.figure("p99 with slow sockets / without", with_them / without)
    run.figure("what it is more, ms", 1000 * (with_them - without))
    run.require(with_them <= 1.2 * without, f"p99 is {with_them / without:.2f} times what it is without slow sockets")


async def _work(run: Run, product: Loupe, name: str, seconds: float) -> None:
    """20 clients that ask once a second each, whatever the answers take."""
    ends = time.monotonic() + seconds

    async def one(number: int) -> None:
        due = time.monotonic() + run.random.random()
        while due < ends:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            outcome = await ask(product.url, chat(f"good client {number}"))
            run.measure(name, time.monotonic() - due)
            run.trial(outcome.complete, f"a good client was told {outcome.status}")
            due += 1.0

    await asyncio.gather(*(one(number) for number in range(GOOD)))
