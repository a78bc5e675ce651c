"""Row 3: what is refused is refused fast, in the client's words, and with a time to come again that differs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from app.bootstrap import Services
from proving.promises import Run, promise
from proving.stand import ask, chat, loupe, until
from tests.recordings import recording
from tests.stub_ollama import Reply, StubOllama, served

NO_BOUNDS = "a queue without bounds"
NO_JITTER = "the same Retry-After for everybody"
RECORDS = [line.encode() + b"\n" for line in recording("chat_stream").lines]
REFUSED = "question to refusal, s"


@promise(
    3, "Shedding is fast and polite", section="queue",
    figure="429 or 503 in less than 50 ms (p99), an Ollama-shaped body, and a jittered Retry-After of 1 to 60 s",
    controls=(NO_BOUNDS, NO_JITTER),
)  # fmt: skip
async def shedding_is_fast_and_polite(run: Run) -> None:
    stub, go = StubOllama(), asyncio.Event()
    stub.on("/api/chat", Reply([RECORDS[0], go, *RECORDS[1:]]))
    bounds: dict[str, Any] = (
        {"queue_limit": 100_000, "queue_per_client": 100_000} if run.off == NO_BOUNDS else {"queue_limit": 8}
    )

    def prepare(services: Services) -> None:
        if run.off == NO_JITTER:
            services.queue.jitter(lambda: 0.5)

    async with served(stub) as host, loupe(run.folder, [host], prepare=prepare, **bounds) as product:
        waiting = [asyncio.create_task(ask(product.url, chat(f"held {number}"))) for number in range(9)]
        await until(lambda: product.waiting == 8, 10, "eight that wait")
        told = set()
        for number in range(run.scale(short=40, full=2000)):
            began = time.monotonic()
            try:
                async with asyncio.timeout(2):
                    outcome = await ask(product.url, chat(f"refused {number}"))
            except TimeoutError:
                run.trial(False, "it was let in, though eight wait already")
                break
            run.measure(REFUSED, time.monotonic() - began)
            after = outcome.headers.get("retry-after", "")
            told.add(after)
            shaped = outcome.status in (429, 503) and set(outcome.last) == {"error"}
            run.trial(
                shaped and after.isdecimal() and 1 <= int(after) <= 60, f"{outcome.status}, Retry-After {after!r}"
            )
        go.set()
        await asyncio.gather(*waiting)
    # The short form runs beside other tests, where the wall clock tells of them.
    run.require(run.short or run.quantile(REFUSED, 0.99) < 0.05, "p99 of a refusal above 50 ms")
    run.require(len(told) > 1, f"everybody is told {told}")
