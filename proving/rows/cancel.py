"""Row 8: whoever leaves frees what he held, in the queue, before the first token, in the middle, streamed or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.subjects import runtime
from proving.promises import Run, promise
from proving.stand import Client, Loupe, ask, asking, chat, loupe, takes, until
from tests.recordings import recording
from tests.stub_ollama import Reply, StubOllama, served

LIMIT = 1.0  # seconds from the hang-up until host and queue are free of it
FREED = "hang-up to free slot and closed upstream, s"
LEFT = "hang-up to place in the queue given up, s"
IDLE = "a short answer of the idle real model, s"
NEXT = "hang-up in mid-answer to a short answer of the real model to the next one, s"
BATCH = "the same after a hang-up before the first token of a long prompt, s"
REAL = "smollm2:135m-instruct-q8_0"
STORY = "Write a very long story about a lighthouse keeper. " * 60
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
            await read(client, pieces if stream else 0)
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
            await read(holder, 1)
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

    async def _settle(self) -> None:
        """Until nothing of this trial is left, also where its control kept it alive."""
        self.host.on("/api/chat", Reply([FIRST]))
        await until(lambda: not (self.product.busy or self.product.waiting), 10, "the trial to end")


async def read(client: Client, records: int) -> None:
    if records:
        await client.head()
        await client.records(records)


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
    untested="what a host does after its connection was closed is its own affair: llama.cpp first ends the batch of "
    "the prompt that it computes, which is measured and has no bound.",
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
    if not (run.short or run.off):
        await _with_a_real_model(run, rounds=8)


async def _with_a_real_model(run: Run, rounds: int) -> None:
    """F32 to F34 against the embedded runtime with its one slot: how soon it answers the next one."""
    with runtime(run.folder, ("q8_0",)) as host:
        async with loupe(run.folder / "real", [host.url]) as product:
            await _next_answer(host.url)  # loads the model
            for _ in range(rounds):
                run.measure(IDLE, await _next_answer(host.url))
            for number in range(rounds):
                for fault, stream, pieces in (("F32", True, 0), ("F33", True, 1), ("F34", False, 0)):
                    body = chat(f"{number} {fault} {STORY}", model=REAL, stream=stream, num_predict=600)
                    async with asking(product.url, body) as client:
                        await until(lambda: product.busy, 20, "the request to have a slot")
                        await read(client, pieces)
                        await asyncio.sleep(run.random.uniform(0, 0.2))
                        client.leave(hard=bool(number % 2))
                        seconds = await _next_answer(host.url)
                    run.measure(NEXT if pieces else BATCH, seconds)
                    run.trial(not product.busy, f"{fault}, real model: Loupe still counts the slot as taken")
    bound = LIMIT + run.quantile(IDLE, 1)
    run.require(run.quantile(NEXT, 0.99) <= bound, f"the real model's next answer came later than {bound:.2f} s (p99)")


async def _next_answer(url: str) -> float:
    """Seconds to a short answer, asked of the host itself."""
    outcome = await ask(url, chat("Hi", model=REAL, num_predict=1))
    if not outcome.complete:
        raise RuntimeError(f"the runtime answered {outcome}")
    return outcome.seconds
