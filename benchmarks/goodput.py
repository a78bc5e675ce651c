"""Answers a second that came in time, from half to ten times the capacity, beside an unbounded FIFO.

    python -m benchmarks.goodput [--seconds 600] [--seed 1] [--plot docs/queue-goodput.svg] [--sockets]

The queue is the product's own; the host (one slot, a second a request on average) and the clock are simulated, so that
the machine's load has no part in it. An answer is good if its wait was at most 30 s. Nobody hangs up before. With
`--sockets` the whole product as a process, over HTTP and in real time (`goodput_sockets`), a minute at each load.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from pathlib import Path

from benchmarks import goodput_sockets
from benchmarks.harness import Report
from benchmarks.plot import Plot
from proving.rows.queue import goodput

LOADS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


async def sweep(seconds: float, seed: int, *, bounded: bool) -> list[float]:
    """Good answers a second at each load; the same arrivals for both queues."""
    return [goodput(random.Random(f"{seed} {load}"), load, seconds, bounded=bounded) for load in LOADS]


def main() -> None:
    parser = argparse.ArgumentParser(description="Goodput of the queue under overload.")
    parser.add_argument("--seconds", type=float, help="at each load (600; 60 over sockets)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--sockets", action="store_true")
    words = parser.parse_args()
    seconds = words.seconds or (60.0 if words.sockets else 600.0)
    if words.sockets:
        ours, fifo = goodput_sockets.sweep(LOADS, seconds, words.seed)
    else:
        ours = asyncio.run(sweep(seconds, words.seed, bounded=True))
        fifo = asyncio.run(sweep(seconds, words.seed, bounded=False))
    report = Report("goodput_sockets" if words.sockets else "goodput", "Goodput under overload")
    rows = [
        [f"{load:g}x", f"{good:.2f}", f"{100 * good / max(ours):.0f}", f"{other:.2f}"]
        for load, good, other in zip(LOADS, ours, fifo, strict=True)
    ]
    heads = ("offered load", "answers in time a second", "% of the peak", "unbounded FIFO")
    report.table(f"{'Over sockets' if words.sockets else 'Simulated'}, {seconds:g} s at each load", heads, rows)
    report.finish()
    if words.plot is not None:
        drawn = Plot("Answers in time a second", "offered load, times the capacity", "answers a second", log_x=True)
        drawn.line("Loupe's queue", list(zip(LOADS, ours, strict=True)))
        drawn.line("unbounded FIFO", list(zip(LOADS, fifo, strict=True)))
        words.plot.write_text(drawn.svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
