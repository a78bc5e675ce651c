"""CPU that the service layer costs a request which no cache answers: cache key, queue, pool, attempt, spans, metrics.

    python -m benchmarks.layer_cost [--rounds 12] [--requests 1000]

In one process, over a host in memory that answers at once, less what reading that host itself takes. No HTTP and no
log lines: the line of a request costs as much as its form is written by (about 70 µs as text), and can be turned off.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path

import structlog
import uvloop

from app.core.generation import Chunk, GenerationRequest, Json
from app.services.cached_answer import cache_key
from app.services.chat import Caller
from benchmarks.harness import Figures, Metric, Report, interleave
from proving.cache_rig import Layer, layer
from tests.fakes import FakeBackend, answer, chat

ABOUT = {"digest": "d" * 64, "template_digest": "", "server": "ollama 0.33.0", "namespace": "local"}
ANSWER = answer("Paris")


async def _at_once(self: FakeBackend, request: GenerationRequest) -> AsyncGenerator[Chunk, None]:
    for chunk in ANSWER:
        yield chunk


async def _ask(rig: Layer, options: Mapping[str, Json]) -> None:
    caller = Caller(trace=rig.telemetry.trace())
    async with aclosing(rig.chat.ask(chat(options=dict(options)), caller)) as chunks:
        async for _ in chunks:
            continue


async def _read(rig: Layer) -> None:
    async with aclosing(rig.host.stream(chat())) as chunks:
        async for _ in chunks:
            continue


async def _measure(rig: Layer, requests: int, kind: str) -> Figures:
    """CPU µs of the event loop's thread a request; of "miss" the writing thread's are not in it."""
    nonce = time.monotonic_ns()
    began = time.thread_time()
    for number in range(requests):
        if kind == "the host alone":
            await _read(rig)
        elif kind == "sampled":
            await _ask(rig, {})
        elif kind == "its key":
            cache_key(chat(options={"temperature": 0, "seed": number}), context=4096, **ABOUT)
        else:
            seed = nonce + number if kind == "miss" else 1
            await _ask(rig, {"temperature": 0, "num_ctx": 1024, "seed": seed})
    cpu = (time.thread_time() - began) / requests * 1e6
    await rig.kept()
    return {"cpu": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layer_cost", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--requests", type=int, default=1000, help="of each kind in a round")
    options = parser.parse_args()
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet, cache_logger_on_first_use=True)  # as app/log_setup does
    FakeBackend.stream = _at_once  # type: ignore[method-assign]
    kinds = ("the host alone", "sampled", "its key", "miss", "hit")
    report = Report("layer_cost", "What the service layer costs a request")
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opened = layer(Path(folder) / "cache")
        rig = runner.run(opened.__aenter__())
        measures = {
            kind: partial(lambda kind: runner.run(_measure(rig, options.requests, kind)), kind) for kind in kinds
        }
        samples = interleave(measures, rounds=options.rounds)
        runner.run(opened.__aexit__(None, None, None))
    report.compare(
        "CPU a request", [Metric("cpu", "CPU", "µs", 1)], samples, baseline="the host alone", difference=True
    )
    report.say(
        "Sampled: not cacheable, so cache decision, queue, pool, attempt, spans and metrics. Its key: what a cacheable "
        "request pays beside that for its key. Miss: looked up, shared, kept (less the writing thread). Hit: replayed."
    )
    report.finish()


if __name__ == "__main__":
    main()
