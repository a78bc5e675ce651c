"""Goodput over real sockets: Loupe as a process in front of a paced host with one slot, and that host alone.

The host alone is the unbounded FIFO: it takes everybody, and answers one after the other. Everything is ten times as
fast as in the simulation (an answer takes a tenth of a second on average, Loupe refuses whom it would let wait for more
than 3 s), so that a load needs a minute and not ten. Forty clients with addresses of their own, open loop; nobody hangs
up before the end of the load, and a refusal is final.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks import subjects
from benchmarks.paced_host import model_name

FLOWS = 40
RATE = 100  # tokens a second
TOKENS = (5, 10, 15)  # of an answer: a tenth of a second on average
ANSWERS_A_SECOND = 10.0  # what the one slot can do
PATIENCE = 3.0  # seconds after which an answer that has not begun is of no use
MODELS = [model_name(tokens, RATE) for tokens in TOKENS]


@dataclass(frozen=True, slots=True)
class Asked:
    """Seconds from the arrival to the first piece and to the end; None where it did not come to that."""

    began: float | None
    ended: float | None


async def _ask(port: int, flow: int, model: str) -> Asked:
    turns = [{"role": "user", "content": "Say something."}]
    body = json.dumps({"model": model, "messages": turns, "options": {"num_predict": 16}}).encode()
    head = f"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {len(body)}"
    arrived, began = time.perf_counter(), None
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.1.{flow + 1}", 0))
        try:
            writer.write(head.encode() + b"\r\n\r\n" + body)
            told = await reader.readuntil(b"\r\n\r\n")
            if told.startswith(b"HTTP/1.1 200"):
                await reader.readline()
                began = time.perf_counter() - arrived
                ended = b'"done":true' in await reader.read()
                return Asked(began, time.perf_counter() - arrived if ended else None)
        finally:
            writer.close()
    return Asked(began, None)


async def _flood(port: int, load: float, seconds: float, dice: random.Random) -> list[Asked]:
    """What became of those who came within `seconds`, as far as it was seen by their end."""
    works: list[asyncio.Task[Asked]] = []
    began, at = time.perf_counter(), 0.0
    while (at := at + dice.expovariate(load * ANSWERS_A_SECOND)) < seconds:
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        works.append(asyncio.create_task(_ask(port, dice.randrange(FLOWS), dice.choice(MODELS))))
    await asyncio.sleep(max(0.0, began + seconds - time.perf_counter()))
    for work in works:
        work.cancel()
    found = await asyncio.gather(*works, return_exceptions=True)
    return [one for one in found if isinstance(one, Asked)]


def good(port: int, load: float, seconds: float, dice: random.Random) -> float:
    """Whole answers a second that began in time."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_flood(port, load, seconds, dice))
    return sum(one.ended is not None and one.began is not None and one.began <= PATIENCE for one in found) / seconds


def sweep(loads: Sequence[float], seconds: float, seed: int) -> tuple[list[float], list[float]]:
    """(Loupe's, the FIFO's) good answers a second at each load: the same arrivals, a fresh process for each."""
    ours, fifo = [], []
    for load in loads:
        for found, through_loupe in ((ours, True), (fifo, False)):
            with subjects.scratch() as folder, subjects.paced_host(folder, *MODELS, slots=1) as host:
                dice = random.Random(f"{seed} {load}")
                found.append(_through_loupe(folder, host, load, seconds, dice) if through_loupe
                             else good(host.port, load, seconds, dice))  # fmt: skip
    return ours, fifo


def _through_loupe(folder: Path, host: subjects.Subject, load: float, seconds: float, dice: random.Random) -> float:
    settings = {"OLLAMA_HOST": host.url, "LOUPE_QUEUE_WAIT_SECONDS": str(PATIENCE), "LOUPE_LOG_LEVEL": "warning"}
    with subjects.loupe(folder / "loupe", **settings) as app:
        app.wait("/readyz")
        return good(app.port, load, seconds, dice)
