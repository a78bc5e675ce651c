"""The load generator against the truth: hosts of known service time on real sockets, and the rate that it holds.

    python -m benchmarks.load_generator [--seconds 120] [--rates 100,500] [--rounds 3]

The whole way of a request: generator, queue, pool, HTTP, a host in a process of its own whose answers take a time that
is written in their model's name. One host answers one question at a time: what each waits follows from the moments of
arrival alone (Lindley's recursion). Another answers all at once: the percentiles are those of the mix. Then the rate:
questions that are answered at once, through all of Loupe and by the generator alone. The generator shares a process,
and here the machine, with all it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog
import uvloop

from app.bootstrap import Services, build
from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.figures import LoadFigures, load_figures
from app.comparison.load_lab.generator import Generator, Probe
from app.comparison.load_lab.lab import Asker
from app.comparison.load_lab.plan import LoadPlan
from app.comparison.load_lab.questions import Shot, shots
from app.config import Settings
from app.core.generation import Chunk
from app.core.ports import SystemClock
from benchmarks import subjects
from benchmarks.harness import Report
from benchmarks.paced_host import model_name

SHARES = ("p50", "p90", "p95", "p99")
SLOTS = 64
RATE = 50  # tokens a second of the paced answers
MIX = {21: 6.0, 41: 3.0, 81: 1.0}  # tokens → share: 0.42, 0.82 and 1.62 s from the first to the end


def service(tokens: int) -> float:
    """Seconds from the first token to the line that ends the answer: that one has a beat of its own."""
    return tokens / RATE


@contextlib.asynccontextmanager
async def product(folder: Path, port: int) -> AsyncIterator[Services]:
    settings = Settings(
        data=folder / "data", hosts=f"paced=http://127.0.0.1:{port};slots={SLOTS}", starter=False, queue_limit=64,
        queue_wait_seconds=30.0,
    )  # fmt: skip
    settings.data.mkdir(mode=0o700)
    services = build(settings)
    await services.start()
    try:
        while not services.pool.seats():
            await asyncio.sleep(0.05)
        yield services
    finally:
        await services.stop()


async def measured(services: Services, plan: LoadPlan) -> LoadFigures:
    run = await services.load_lab.begin(plan, Asker())
    while any(one.state == "running" for one in services.load_lab.list()):
        await asyncio.sleep(0.25)
    found = services.load_lab.get(run.id)
    assert found.state == "done", (found.state, found.why)
    return found.figures


def quantile(values: Sequence[float], name: str) -> float:
    return sorted(values)[math.ceil(float(name[1:]) / 100 * len(values)) - 1]


def one_at_a_time(plan: LoadPlan, seconds: float) -> tuple[list[float], list[float]]:
    """(TTFT, E2E) of a host that answers one question after the other, from the arrivals alone."""
    first, whole, free = [], [], 0.0
    for shot in shots(plan):
        begin = max(shot.due, free)
        free = begin + seconds
        first.append(begin - shot.due)
        whole.append(free - shot.due)
    return first, whole


def rows(label: str, told: LoadFigures, name: str, truth: Sequence[float]) -> list[list[str]]:
    found = []
    for share in SHARES:
        value, true = getattr(told, name).at(share), quantile(truth, share)
        error = f"{100 * (value - true) / true:+.2f} %" if value is not None and true else ""
        found.append([label, f"{name} {share}", f"{true:.4f}", f"{value:.4f}" if value is not None else "–", error])
    return found


async def accuracy(folder: Path, report: Report, seconds: float) -> None:
    heads = ("host", "", "truth, s", "told, s", "error")
    cells: list[list[str]] = []
    tokens = 21
    with subjects.paced_host(folder / "one", model_name(tokens, RATE), slots=1) as host:
        async with product(folder / "one", host.port) as services:
            plan = LoadPlan(
                models={model_name(tokens, RATE): 1.0},
                rate=1.5,
                seconds=seconds,
                seed=11,
                output=str(tokens),
                anyway=True,
            ).checked()
            told = await measured(services, plan)
    first, whole = one_at_a_time(plan, service(tokens))
    cells += rows("one at a time, Poisson, 60 % busy", told, "ttft", first)
    cells += rows("one at a time, Poisson, 60 % busy", told, "e2e", whole)
    count, late = told.answered, told.late.at("p99")
    names = {model_name(tokens, RATE): share for tokens, share in MIX.items()}
    with subjects.paced_host(folder / "all", *names) as host:
        async with product(folder / "all", host.port) as services:
            plan = LoadPlan(models=names, rate=5.0, seconds=seconds, seed=12, anyway=True).checked()
            told = await measured(services, plan)
    lengths = {model_name(tokens, RATE): tokens for tokens in MIX}
    written = [lengths[shot.model] for shot in shots(plan)]
    cells += rows("all at once, a mix of three", told, "e2e", [service(tokens) for tokens in written])
    cells += rows("all at once, a mix of three", told, "tpot", [service(tokens) / (tokens - 1) for tokens in written])
    report.table("Percentiles against the truth", heads, cells)
    report.say(
        f"n = {count} and {told.answered} requests. The generator was late by {1000 * (late or 0):.1f} and "
        f"{1000 * (told.late.at('p99') or 0):.1f} ms in one of a hundred. What socket, host and "
        "Loupe take is in the error, more often than once where questions wait."
    )


async def rates(folder: Path, report: Report, wanted: Sequence[int], rounds: int) -> None:
    heads = ("", "asked/s", "answered/s", "late p50, ms", "late p99, ms", "late longest, ms", "CPU of a core")
    cells: list[list[str]] = []
    model = model_name(1)
    with subjects.paced_host(folder / "rate", model) as host:
        async with product(folder / "rate", host.port) as services:
            for rate in wanted:
                for _ in range(rounds):
                    plan = LoadPlan(models={model: 1.0}, arrivals=Arrivals.CONSTANT, rate=float(rate), seconds=10.0,
                                    prompt="16", anyway=True).checked()  # fmt: skip
                    began, wall = time.process_time(), time.monotonic()
                    told = await measured(services, plan)
                    cells.append(cell(f"through Loupe, {rate}/s", told, began, wall))
                    began, wall = time.process_time(), time.monotonic()
                    cells.append(cell(f"the generator alone, {rate}/s", await alone(plan), began, wall))
    report.table("The rate that it holds", heads, cells)
    report.say(f"10 s each, {rounds} rounds one after the other. Asked: sent at all, within the seconds that it took.")


async def alone(plan: LoadPlan) -> LoadFigures:
    async def answer(shot: Shot, probe: Probe) -> None:
        await asyncio.sleep(0.005)
        probe.saw(Chunk(b"", text="t"))

    coming = shots(plan)
    generator = Generator(coming, answer, SystemClock())
    await generator.run(plan.lasts([shot.due for shot in coming]), plan.drain)
    return load_figures(generator.outcomes, generator.gaps, plan.limits, seconds=generator.seconds, peak=generator.peak)


def cell(label: str, told: LoadFigures, cpu: float, wall: float) -> list[str]:
    late = told.late
    share = (time.process_time() - cpu) / (time.monotonic() - wall)
    figures = [1000 * (value or 0.0) for value in (late.at("p50"), late.at("p99"), late.worst)]
    return [label, f"{told.offered or 0:.1f}", f"{told.throughput or 0:.1f}", *(f"{value:.1f}" for value in figures),
            f"{100 * share:.0f} %"]  # fmt: skip


async def work(options: argparse.Namespace, folder: Path) -> None:
    for name in ("one", "all", "rate"):
        (folder / name).mkdir()
    report = Report("load_generator", "The load generator against the truth")
    await accuracy(folder, report, options.seconds)
    await rates(folder, report, [int(rate) for rate in options.rates.split(",")], options.rounds)
    report.finish()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load_generator", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="of each comparison with the truth")
    parser.add_argument("--rates", default="100,500", help="requests a second, after commas")
    parser.add_argument("--rounds", type=int, default=3, help="of each rate")
    options = parser.parse_args()
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet, cache_logger_on_first_use=True)
    with subjects.scratch() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(options, folder))


if __name__ == "__main__":
    main()
