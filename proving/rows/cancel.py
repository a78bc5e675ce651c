"""Row 8: whoever leaves frees what he held, in the queue, before the first token, in the middle, streamed or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proving.promises import Run, promise
from proving.stand import Client, Loupe, asking, chat, loupe, takes, until
from tests.recordings import recording
from tests.stub_ollama import Reply, StubOllama, served

LIMIT = 1.0  # seconds from the hang-up until host and queue are free of it
FREED = "hang-up to free slot and closed upstream, s"
LEFT = "hang-up to place in the queue given up, s"
HIDDEN = "disconnects hidden from the application, as BaseHTTPMiddleware hides them"
FIRST = recording("chat_stream").lines[0].encode() + b"\n"


def hiding_disconnects(app: ASGIApp) -> ASGIApp:
    """What a middleware with a receive of its own does: the application never hears that the client left."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def deaf() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                await asyncio.Event().wait()
            return message

        await app(scope, deaf if scope["type"] == "http" else receive, send)

    return wrapped


@dataclass(slots=True)
class Trial:
    run: Run
    host: StubOllama
    product: Loupe
    number: int = 0

    @property
    def hard(self) -> bool:
        """Every other client leaves with RST instead of FIN."""
        return self.number % 2 == 1

    @property
    def sent(self) -> int:
        return len(self.host.asked_for("/api/chat"))

    async def holding(self, fault: str, *, stream: bool, pieces: int) -> None:
        """F32, F33, F34: a client that holds the slot leaves."""
        gate = asyncio.Event()
        self.host.on("/api/chat", Reply([*[FIRST] * pieces, gate]))
        self.host.hung_up.clear()
        before = self.sent
        async with asking(self.product.url, chat(f"{fault} {self.number}", stream=stream)) as client:
            await until(lambda: self.sent > before, 5, "the host to be asked")
            await self._read(client, pieces if stream else 0)
            began = time.monotonic()
            client.leave(hard=self.hard)
            await takes(self._is_free, LIMIT)
        seconds = time.monotonic() - began if self._is_free() else float("inf")
        gate.set()
        await self._settle()
        self.run.measure(FREED, min(seconds, LIMIT * 2))
        self.run.trial(seconds <= LIMIT, f"{fault}: the slot was not free {LIMIT:g} s after the client left")

    async def queued(self) -> None:
        """F31: a client that waits behind another leaves. Nothing of its request may ever reach the host."""
        gate, before = asyncio.Event(), self.sent
        self.host.on("/api/chat", Reply([FIRST, gate]))
        async with asking(self.product.url, chat("holds the slot")) as holder:
            await self._read(holder, 1)
            async with asking(self.product.url, chat(f"F31 {self.number}", stream=self.number % 3 > 0)) as client:
                await until(lambda: self.product.waiting == 1, 5, "the second request to wait")
                client.leave(hard=self.hard)
                seconds = await takes(lambda: not self.product.waiting, LIMIT)
            gate.set()
            await holder.body()
        await self._settle()
        self.run.measure(LEFT, min(seconds, LIMIT * 2))
        asked = self.sent - before
        self.run.trial(seconds <= LIMIT, "F31: it still waited")
        self.run.trial(asked == 1, "F31: the host was sent a request whose client had left the queue")

    def _is_free(self) -> bool:
        return self.host.hung_up.is_set() and not self.product.busy and not self.product.services.queue.running

    async def _read(self, client: Client, pieces: int) -> None:
        if pieces:
            await client.head()
        for _ in range(pieces):
            await client.piece()

    async def _settle(self) -> None:
        """Until nothing of this trial is left, also where its control kept it alive."""
        self.host.on("/api/chat", Reply([FIRST]))
        await until(lambda: not (self.product.busy or self.product.waiting), 10, "the trial to end")


@asynccontextmanager
async def trial(run: Run) -> AsyncIterator[Trial]:
    host = StubOllama()
    async with (
        served(host) as url,
        loupe(run.folder, [url], wrap=hiding_disconnects if run.off else None) as product,
    ):
        yield Trial(run, host, product)


@promise(
    8,
    "Cancel frees the slot",
    section="cancel",
    figure="upstream closed and slot free within 1 s (p99) of the hang-up; a request whose client left the queue is "
    "sent to a host 0 times",
    controls=(HIDDEN,),
)
async def cancel_frees_the_slot(run: Run) -> None:
    """F31 to F34, each with FIN and RST in turn, against Loupe on a real socket in front of a host on another."""
    async with trial(run) as one:
        for one.number in range(run.scale(short=2, full=100) if not run.off else 1):
            await one.queued()
            await one.holding("F32", stream=True, pieces=0)
            await one.holding("F33", stream=True, pieces=1 + run.random.randrange(20))
            await one.holding("F34", stream=False, pieces=run.random.randrange(20))
    run.require(run.quantile(FREED, 0.99) <= LIMIT, "p99 of freeing the slot is above 1 s")
