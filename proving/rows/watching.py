"""Row 30: what fails where the machine is watched costs no chat anything, and is told as unknown, never as a zero."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from unittest import mock

import httpx

from app.backends import nvml
from app.bootstrap import Services
from app.core.hardware import HardwareState
from app.services import hardware, live_series
from proving.promises import Run, promise
from proving.raw_host import RawHost, listening
from proving.small_disk import small_disk
from proving.stand import Loupe, ask, chat, loupe, until
from proving.statistics import quantile
from proving.watching import FAULTS, FULL, HANG, LOST, OF_GPUS, OF_PROC, Fault, Machine, View, following

ON_THE_LOOP = "the driver asked on the event loop"
ZEROS = "unknown figures told as 0"
PIECES = ("Paris", ". ")
ROOM = 16 << 20  # bytes of the disk that becomes full
TOLD_SECONDS = 40.0  # a deadline: the slowest is a driver that hangs, which is said after 5 s
PEOPLE, PAUSE, SPELL = 40, 0.4, 5.0  # who ask, seconds between two questions of each, and of one measurement
BEFORE = "an answer without a fault, s"
MOST = 1.1
NORMAL = 1.96  # deviations of the normal distribution for 95 %: some 15 answers decide the p99 of one fault


@promise(
    30, "Telemetry failures stay in telemetry", section="watching",
    figure="with no driver, one that is refused, raises or hangs, a GPU lost in mid-run, an energy counter or parts of "
    "/proc that may not be read, the clock an hour on or back, or a full disk: every chat is answered, the p99 of all "
    "faults together at most 1.1 times what it is without (and of no single one shown to be more, at 95 %), and what "
    "is not known is told with its reason, never as 0; when the fault is over the figures are back",
    controls=(ON_THE_LOOP, ZEROS),
    untested="the GPUs are a library below NVIDIA's real binding; a driver that takes the process down with it",
)  # fmt: skip
async def telemetry_failures_stay_in_telemetry(run: Run) -> None:
    """F44, F48, F52, F53: each fault is staged while people chat and a page watches."""
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(small_disk(run.folder / "disk", ROOM)) if not run.off else None
        machine = Machine(run.folder, disk, release=2.0 if run.off else None)
        stack.enter_context(machine.running())
        stack.enter_context(mock.patch.object(nvml, "AGAIN_SECONDS", 0.2 if _short(run) else 1.0))
        if _short(run):
            stack.enter_context(mock.patch.object(hardware, "SILENT", 0.3))
        if run.off == ZEROS:
            stack.enter_context(mock.patch.object(live_series, "hardware_figures", _with_zeros))
        product, view = await stack.enter_async_context(_product(run, machine))
        await _told(run, Fault("nothing wrong", HANG.stage), view)
        faults = [HANG] if run.off == ON_THE_LOOP else [LOST] if run.off else FAULTS
        if disk is None and not run.off:
            run.figure("a full disk", "not tried: no file system of its own can be had here")
        for fault in faults:
            if fault is not FULL or disk is not None:
                await _staged(run, fault, machine, product, view)
        if not _short(run):
            await _measured(run, [fault for fault in faults if fault is not FULL or disk], machine, product)


def _short(run: Run) -> bool:
    return run.short or bool(run.off)


@contextlib.asynccontextmanager
async def _product(run: Run, machine: Machine) -> AsyncIterator[tuple[Loupe, View]]:
    """Loupe whose sampler stands on that machine, with its data on the small disk, and a page that watches."""
    every = 0.05 if _short(run) else hardware.EVERY
    folder = machine.disk.folder if machine.disk else run.folder

    def prepare(services: Services) -> None:
        watched = services.hardware
        watched._every = every
        watched._machine._read = machine.reader(services.settings.data)
        if run.off == ON_THE_LOOP:
            watched._look_at_gpus = lambda: every  # type: ignore[method-assign]

    async def on_the_loop(services: Services) -> None:
        while True:
            services.hardware._gpus.read()
            await asyncio.sleep(every)

    host = RawHost(PIECES, prefill=0.0 if _short(run) else 0.05)
    async with (
        listening(host) as url,
        loupe(folder, [f"host={url};slots=64"], clock=machine.wall, prepare=prepare) as product,
        following(product.url) as view,
    ):
        asking = asyncio.create_task(on_the_loop(product.services)) if run.off == ON_THE_LOOP else None
        try:
            yield product, view
        finally:
            if asking is not None:
                asking.cancel()


def _with_zeros(state: HardwareState) -> dict[str, float]:
    return {**dict.fromkeys((*OF_PROC, *OF_GPUS, "power"), 0.0), **hardware.figures(state)}


async def _told(run: Run, fault: Fault, view: View) -> None:
    """A page is told what is, within the deadline; a control is not waited for."""
    seen = view.samples
    with contextlib.suppress(TimeoutError):
        await until(lambda: view.samples > seen and not fault.problem(view), 3.0 if run.off else TOLD_SECONDS)
    run.trial(not fault.problem(view), fault.problem(view))


async def _staged(run: Run, fault: Fault, machine: Machine, product: Loupe, view: View) -> None:
    with fault.stage(machine):
        await _answered(run, fault, machine, product)
        await _told(run, fault, view)
        await _everywhere(run, fault, machine, product)
        await _kept(run, fault, machine, product)
        await _answered(run, fault, machine, product)
    await _told(run, Fault(f"after {fault.name}", fault.stage), view)
    await _kept(run, fault, machine, product)


async def _answered(run: Run, fault: Fault, machine: Machine, product: Loupe) -> None:
    """Chats while it lasts: a driver that hangs has not answered when they are at their end."""
    if fault is HANG:
        looks, running = product.services.hardware._gpus, machine.library.running
        # On the event loop nobody sees that it was asked until it answers again.
        await until(lambda: looks._began is not None or running.is_set(), TOLD_SECONDS, "the driver to be asked")
    for number in range(run.scale(short=2, full=20)):
        outcome = await ask(product.url, chat(f"{fault.name} {number}"))
        run.trial(outcome.complete and outcome.text == "".join(PIECES), f"{fault.name}: an answer ended {outcome.last}")
        if fault is HANG:
            run.trial(not machine.library.running.is_set(), "a chat was answered only when the driver was")


async def _everywhere(run: Run, fault: Fault, machine: Machine, product: Loupe) -> None:
    """The other places that tell of the machine say the same: a look, and what Prometheus scrapes."""
    async with httpx.AsyncClient(base_url=product.url, timeout=TOLD_SECONDS) as client:
        look, metrics = (await client.get("/loupe/hardware")).json(), (await client.get("/metrics")).text
    for name in (name for name in (*OF_PROC, "power", *OF_GPUS) if fault.hides(name)):
        run.trial(f'loupe_hardware{{series="{name}"}}' not in metrics, f"{fault.name}: /metrics has {name}")
        place, _, figure = name.rpartition(".")
        among = look["gpus"]["devices"][int(place[3:])] if place else look["machine"]
        run.trial(among[figure] is None, f"{fault.name}: /loupe/hardware has {name}: {among[figure]}")
    late = abs(look["at"] - machine.wall.now())
    run.trial(late < TOLD_SECONDS, f"{fault.name}: the newest look is {late:.0f} s from now")


async def _kept(run: Run, fault: Fault, machine: Machine, product: Loupe) -> None:
    """The curves go on, also over the time in which nothing could be written down."""
    now = machine.wall.now()

    def newest() -> float:
        _, intervals = product.services.figures.read(now - 600, machine.wall.now() + 1)
        return intervals[-1].at if intervals else 0.0

    with contextlib.suppress(TimeoutError):
        await until(lambda: newest() >= int(now), TOLD_SECONDS)
    run.trial(newest() >= int(now), f"{fault.name}: the curves end {now - newest():.0f} s ago")


async def _measured(run: Run, faults: list[Fault], machine: Machine, product: Loupe) -> None:
    """The p99 of people who ask, by turns without a fault and with each."""
    with _frozen():
        for _ in range(3):
            for fault in run.random.sample(faults, len(faults)):
                await _work(run, product, BEFORE, SPELL)
                with fault.stage(machine):
                    await _work(run, product, f"an answer with {fault.name}, s", SPELL)
    usual = quantile(run.samples[BEFORE], 0.99)
    named = {fault.name: run.samples[f"an answer with {fault.name}, s"] for fault in faults}
    every = quantile([sample for samples in named.values() for sample in samples], 0.99) / usual
    run.figure("p99 with any fault / without", every)
    run.require(every <= MOST, f"with a fault the p99 is {every:.2f} times what it is without")
    for name, samples in named.items():
        run.figure(f"p99 with {name} / without", quantile(samples, 0.99) / usual)
        least = quantile(samples, 0.99 - NORMAL * math.sqrt(0.99 * 0.01 / len(samples))) / usual
        run.require(least <= MOST, f"with {name} the p99 is at least {least:.2f} times what it is without")


@contextlib.contextmanager
def _frozen() -> Iterator[None]:
    """What is loaded is none of the collector's business, as where the product is served: going through all that these
    trials have loaded takes a tenth of a second and more, in which nobody is answered."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _work(run: Run, product: Loupe, name: str, seconds: float) -> None:
    ends = time.monotonic() + seconds

    async def one(number: int) -> None:
        due = time.monotonic() + PAUSE * run.random.random()
        while due < ends:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            outcome = await ask(product.url, chat(f"somebody {number}"))
            run.measure(name, time.monotonic() - due)
            run.trial(outcome.complete, f"{name}: somebody was told {outcome.status}")
            due += PAUSE

    await asyncio.gather(*map(partial(one), range(PEOPLE)))
