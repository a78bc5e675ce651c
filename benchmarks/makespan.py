"""How long a shuffled batch over several models takes: the queue's order against the order of arrival.

    python -m benchmarks.makespan [--tokens 16,128] [--hosts 1,2] [--prompts 20,10] [--seed 1]

Four variants of the starter family, each with so many prompts for each length of answers (about seven minutes together
on two cores), all batch class, arriving at once and shuffled; every host is a runtime of Loupe's own with one slot and
one model in memory. For the comparison whoever came first is next, whatever is loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, aclosing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from app.core.generation import CacheMode, GenerationRequest, Priority, Usage
from app.services.chat import Caller
from app.services.queueing.pace import COLD_SECONDS
from app.services.queueing.schedule import Schedule
from app.services.queueing.tickets import Ticket
from benchmarks.harness import Report
from proving.stand import Loupe, loupe
from tests.runtime_process import runtime
from tests.starter_cache import linked_store

VARIANTS = ("q8_0", "q4_k_m", "q4_0", "q2_k")
UNBOUNDED = {"queue_limit": 100_000, "queue_per_client": 100_000, "queue_batch_wait_seconds": 86_400}
OVERDUE = 86_400  # seconds: the bound of delay, raised so that nobody's turn is forced


@dataclass(slots=True)
class Run:
    """Seconds, summed over the requests: `service` without the loads, `loading` of them; `loads` counts, `forced` those
    for somebody who had waited longer than the bound of delay."""

    makespan: float = 0.0
    service: float = 0.0
    loading: float = 0.0
    loads: int = 0
    forced: int = 0


async def one(product: Loupe, variant: str, number: int, tokens: int, run: Run) -> None:
    # The penalty keeps a small model from repeating itself, for which its host would break it off.
    options = {"num_predict": tokens, "seed": number, "num_ctx": 1024, "repeat_penalty": 1.3}
    text = f"Story number {number}: once upon a time, on a very long road,"
    body = {"model": f"smollm2:135m-instruct-{variant}", "prompt": text, "raw": True, "options": options}
    services = product.services
    caller = Caller(
        flow="batch", priority=Priority.BATCH, cache_mode=CacheMode.BYPASS, trace=services.telemetry.trace(flow="batch")
    )
    usage = Usage()
    async with aclosing(services.chat.ask(GenerationRequest("generate", body), caller)) as chunks:
        async for chunk in chunks:
            usage = chunk.usage or usage
    run.service += (usage.total_ns - usage.load_ns) / 1e9
    run.loading += usage.load_ns / 1e9
    waited = sum(span.seconds for span in caller.trace.spans if span.name == "queue")
    run.forced += waited > OVERDUE and usage.load_ns / 1e9 > COLD_SECONDS


async def batch(folder: Path, hosts: list[str], work: list[tuple[str, int]], tokens: int, *, ours: bool) -> Run:
    run = Run()
    order = nullcontext() if ours else patch.object(Schedule, "candidates", first_come)
    async with loupe(folder, hosts, **UNBOUNDED, swap_hold_seconds=3600, swap_overdue_seconds=OVERDUE) as product:
        began = time.monotonic()
        with order:
            await asyncio.gather(*(one(product, variant, number, tokens, run) for variant, number in work))
        run.makespan = time.monotonic() - began
    return run


def first_come(schedule: Schedule, _now: float) -> Iterator[tuple[Ticket, tuple[str, ...]]]:
    """The control: the line is one, and what is loaded counts for nothing."""
    places = tuple(place.name for place in schedule.residency.places.values() if place.free)
    for ticket in sorted(schedule.lines, key=lambda ticket: ticket.serial) if places else ():
        yield ticket, places


def main() -> None:
    parser = argparse.ArgumentParser(description="Makespan of a shuffled batch over four models.")
    parser.add_argument("--tokens", default="16,128")
    parser.add_argument("--hosts", default="1,2")
    parser.add_argument("--prompts", default="20,10", help="for each of the lengths; one figure is for all of them")
    parser.add_argument("--seed", type=int, default=1)
    words = parser.parse_args()
    report = Report("makespan", "A shuffled batch over four models")
    tokens, prompts = ([int(word) for word in told.split(",")] for told in (words.tokens, words.prompts))
    lengths = list(zip(tokens, prompts * len(tokens) if len(prompts) == 1 else prompts, strict=True))
    rows = []
    for count in map(int, words.hosts.split(",")):
        for tokens, prompts in lengths:
            found = {ours: _measure(count, tokens, prompts, words.seed, ours=ours) for ours in (True, False)}
            rows.append(_row(count, tokens, prompts, found))
    heads = (
        "hosts", "tokens an answer", "prompts a variant", "loads", "forced", "makespan, s",
        "service + loads, s", "makespan / that", "loads by arrival", "makespan by arrival, s", "ratio",
    )  # fmt: skip
    report.table("4 variants, one slot and one model in memory a host", heads, rows)
    report.finish()


def _measure(hosts: int, tokens: int, prompts: int, seed: int, *, ours: bool) -> Run:
    work = [(variant, number) for variant in VARIANTS for number in range(prompts)]
    random.Random(seed).shuffle(work)
    with tempfile.TemporaryDirectory(prefix="makespan-") as name, ExitStack() as stack:
        folder, urls, logs = Path(name), [], []
        for number in range(hosts):
            store, log = linked_store(folder / f"store{number}", VARIANTS), folder / f"runtime{number}.log"
            logs.append(log)
            urls.append(stack.enter_context(runtime(store, log, OLLAMA_MAX_LOADED_MODELS="1")).url)
        run = asyncio.run(batch(folder, urls, work, tokens, ours=ours))
        run.loads = sum(log.read_text().count("loading smollm2") for log in logs)
    return run


def _row(hosts: int, tokens: int, prompts: int, found: dict[bool, Run]) -> list[str]:
    ours, theirs = found[True], found[False]
    least = (ours.service + ours.loading) / hosts
    return [
        str(hosts), str(tokens), str(prompts), str(ours.loads), str(ours.forced), f"{ours.makespan:.1f}",
        f"{least:.1f}", f"{ours.makespan / least:.2f}", str(theirs.loads), f"{theirs.makespan:.1f}",
        f"{ours.makespan / theirs.makespan:.2f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
