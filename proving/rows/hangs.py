"""Row 14: whatever a host does or leaves undone, every request ends, with an error that says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from app.bootstrap import Services
from app.services import watched_host
from benchmarks.paced_host import model_name
from benchmarks.subjects import paced_host
from proving.host_process import host_process
from proving.namespaces import Namespace, available, namespace
from proving.promises import Run, promise
from proving.raw_host import MODEL as RAW_MODEL
from proving.stand import Loupe, Outcome, ask, chat, descriptors, loupe, takes, until, watching_lag
from tests.faultproxy import Bandwidth, Down, FaultProxy, LimitData, Timeout, blackhole, faulty

CONNECT, FIRST, STALL = 0.3, 1.0, 1.0  # seconds; the product's own are 2, 300 and 60
CHECK = 0.5  # of a health check; the product's own is 2
OUTAGE = 0.3  # how long those who wait are held when the last host is lost; the product's own is 5
GRACE = 1.0
SETTLE = 6.0  # an idle connection to a host is kept for 4
NEVER = 60.0
LAG = "time for which this process was not given the CPU, s"
LATE = "end of the request after its timeout was due, s"
MODEL = model_name(tokens=4000, rate=50)

Apply = Callable[[AsyncExitStack], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """`limit`: seconds from the fault until the timeout that is to notice it. `mid`: it comes after the first piece."""

    name: str
    limit: float
    mid: bool
    apply: Apply


@dataclass(frozen=True, slots=True)
class Stand:
    """Loupe in front of one host, the faults that the host can have, and how to take them away again."""

    product: Loupe
    model: str
    faults: tuple[Fault, ...]
    heal: Callable[[], Awaitable[None]]


def _proxied(product: Loupe, proxy: FaultProxy, pid: int) -> Stand:
    async def black_hole(until_healed: AsyncExitStack) -> None:
        await proxy.add(Down())
        until_healed.enter_context(blackhole(urlsplit(proxy.url).port or 0))

    async def silence(until_healed: AsyncExitStack) -> None:
        await proxy.add(Timeout())

    async def headers(until_healed: AsyncExitStack) -> None:
        await proxy.add(LimitData(160, "stall"))  # the head of an answer, and the length of its first chunk

    async def drip(until_healed: AsyncExitStack) -> None:
        await proxy.add(Bandwidth(20))

    async def stop(until_healed: AsyncExitStack) -> None:
        os.kill(pid, signal.SIGSTOP)
        until_healed.callback(os.kill, pid, signal.SIGCONT)

    faults = (
        Fault("F02 SYN into a black hole", CONNECT + OUTAGE, False, black_hole),
        Fault("F03 accepted, then silence", FIRST, False, silence),
        Fault("F05 stopped in mid-answer (SIGSTOP)", STALL, True, stop),
        Fault("F23 a byte now and then in mid-answer", STALL, True, drip),
        Fault("F04 headers, then silence", FIRST, False, headers),
        Fault("F23 a byte now and then from the start", FIRST, False, drip),
    )
    return Stand(product, MODEL, faults, proxy.heal)


def _cabled(product: Loupe, place: Namespace) -> Stand:
    async def pull(until_healed: AsyncExitStack) -> None:
        place.pull()
        until_healed.callback(place.plug)

    async def nothing() -> None:
        return

    faults = (
        Fault("F02 cable pulled before the request", FIRST, False, pull),
        Fault("F05 cable pulled in mid-answer", STALL, True, pull),
    )
    return Stand(product, RAW_MODEL, faults, nothing)


@contextlib.contextmanager
def _scaled_pool() -> Iterator[Callable[[Services], None]]:
    """The pool's own timeouts, which are no settings; gives what prepares the services."""

    def prepare(services: Services) -> None:
        services.pool._outage = OUTAGE

    before, watched_host.CHECK_TIMEOUT = watched_host.CHECK_TIMEOUT, CHECK
    try:
        yield prepare
    finally:
        watched_host.CHECK_TIMEOUT = before


def _patience(run: Run) -> dict[str, Any]:
    scaled = {"connect_seconds": CONNECT, "first_token_seconds": FIRST, "stall_seconds": STALL}
    return dict.fromkeys(scaled, NEVER) if run.off else scaled


@asynccontextmanager
async def behind_a_proxy(run: Run) -> AsyncIterator[Stand]:
    with paced_host(run.folder, MODEL) as host, _scaled_pool() as prepare:
        async with (
            faulty(host.url) as (proxy, url),
            loupe(run.folder, [f"one={url};slots=32"], prepare=prepare, **_patience(run)) as product,
        ):
            yield _proxied(product, proxy, host.process.pid)


@asynccontextmanager
async def behind_a_cable(run: Run) -> AsyncIterator[Stand]:
    """A host in a network namespace."""
    slow = ("--rate", "20", "--pieces", ",".join(f"t{number} " for number in range(400)))
    with namespace() as place, _scaled_pool() as prepare:
        async with (
            host_process(place.address, *slow, prefix=place.prefix) as host,
            loupe(run.folder, [f"one={host.url};slots=32"], prepare=prepare, **_patience(run)) as product,
        ):
            yield _cabled(product, place)


async def batch(run: Run, one: Stand, fault: Fault, count: int) -> None:
    """`count` requests at once, of several kinds, meet the fault; each has to end in time and to say why."""
    async with watching_lag() as lag, AsyncExitStack() as until_healed:
        begun = [asyncio.Event() for _ in range(count)]
        if not fault.mid:
            await fault.apply(until_healed)
        began = time.monotonic()
        tasks = [asyncio.create_task(_ask(one, number, fault.mid, begun[number].set)) for number in range(count)]
        if fault.mid:
            await until(lambda: all(event.is_set() for event in begun), 20, "every answer to begin")
            await fault.apply(until_healed)
            began = time.monotonic()
        for task in tasks:
            task.add_done_callback(lambda _: ended.append(time.monotonic() - began))
        ended: list[float] = []
        await asyncio.wait(tasks, timeout=fault.limit + GRACE)
        await asyncio.sleep(0.05)  # for the lag of this moment to be known
        done, hung = await asyncio.wait(tasks, timeout=lag.worst)  # what the machine kept from us is not the product's
        run.measure(LAG, lag.worst)
        for task in done:
            run.trial(told(task.result()), f"{fault.name}: ended as {task.result()}")
        for task in hung:
            run.trial(False, f"{fault.name}: no end {fault.limit + GRACE:g} s later")
            task.cancel()
        for seconds in ended:
            run.measure(LATE, max(0.0, seconds - fault.limit))
        await asyncio.gather(*tasks, return_exceptions=True)
    await one.heal()
    await _well_again(one)


async def _ask(one: Stand, number: int, mid: bool, begun: Callable[[], None]) -> Outcome:
    if mid:  # an answer that is not streamed has no middle that a client sees
        return await ask(one.product.url, chat(str(number), model=one.model), on_first=begun)
    paths = ("/api/chat", "/api/generate", "/api/embed", "/api/chat")
    bodies = (
        chat(str(number), model=one.model),
        {"model": one.model, "prompt": str(number)},
        {"model": one.model, "input": str(number)},
        chat(str(number), model=one.model, stream=False),
    )
    return await ask(one.product.url, bodies[number % 4], paths[number % 4])


def told(outcome: Outcome) -> bool:
    """One terminal event: an error status with its sentence, or an error line that ends the stream."""
    return not outcome.broken and "error" in outcome.last and (outcome.status >= 500 or len(outcome.lines) > 1)


async def _well_again(one: Stand) -> None:
    """Until the host is used again, and nothing of the trial is left."""

    def usable() -> bool:
        return one.product.services.pool.slots > 0

    one.product.services.pool.look_again()
    await until(lambda: not one.product.busy and not one.product.waiting, 10, "every slot to be free")
    with contextlib.suppress(TimeoutError):
        await until(usable, 15, "the host to be back")


@promise(
    14,
    "No request hangs",
    section="hosts",
    figure="every request ends, with an error that says so, at most 1 s after the timeout of its phase (connect, all "
    "hosts lost, first token, gap between tokens)",
    controls=("timeouts of a minute",),
    untested="the timeouts are scaled down: connect from 2 to 0.3 s, health check from 2 to 0.5, all hosts lost from 5 "
    "to 0.3, first token from 300 to 1, gap from 60 to 1.",
)
async def no_request_hangs(run: Run) -> None:
    """F02 to F05 and F23 against host processes, many requests at once; afterwards no task and no socket is left."""
    async with behind_a_proxy(run) as one:
        await _meet(run, one)
    if run.short or run.off:
        return
    run.figure("with pulled cables", "yes" if available() else "no, namespaces cannot be made here")
    if available():
        async with behind_a_cable(run) as one:
            await _meet(run, one)


async def _meet(run: Run, one: Stand) -> None:
    """Every fault in turn, and then the census."""
    await ask(one.product.url, {"model": one.model, "input": ""}, "/api/embed")  # opens what stays open
    tasks, files = _tasks(), descriptors()
    for _ in range(run.scale(short=1, full=8)):
        for fault in _tried(run, one.faults):
            await batch(run, one, fault, run.scale(short=4, full=8))
    await takes(lambda: _tasks() <= tasks, SETTLE)
    _count(run, "tasks", _tasks() - tasks)
    await takes(lambda: descriptors() <= files, SETTLE)
    _count(run, "file descriptors", descriptors() - files)


def _tried(run: Run, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """All of them, but where there are ten seconds: the control then waits for one in vain."""
    if not run.short:
        return faults
    return faults[1:2] if run.off else faults[:4]


def _count(run: Run, what: str, left: int) -> None:
    run.figure(f"{what} left over", max(0, left))
    run.require(left <= 2, f"{left} {what} more than at the start")


def _tasks() -> int:
    """Those that are not the proxy's, whose connections stay open for a while."""
    files = (getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks())
    return sum(code is None or not code.co_filename.endswith("faultproxy.py") for code in files)
