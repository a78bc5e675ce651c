"""Row 14: whatever a host does or leaves undone, every request ends, with an error that says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.paced_host import model_name
from benchmarks.subjects import paced_host
from proving.promises import Run, promise
from proving.stand import Loupe, Outcome, ask, chat, loupe, takes, until
from tests.faultproxy import Bandwidth, Down, FaultProxy, LimitData, Timeout, blackhole, faulty

CONNECT, FIRST, STALL = 0.3, 1.0, 1.0  # seconds; the product's own are 2, 300 and 60
GRACE = 1.0
SETTLE = 6.0  # an idle connection to a host is kept for 4
NEVER = {"connect_seconds": 60, "first_token_seconds": 3600, "stall_seconds": 3600}
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
    product: Loupe
    proxy: FaultProxy
    pid: int

    def faults(self) -> tuple[Fault, ...]:
        return (
            Fault("F02 SYN into a black hole", CONNECT, False, self._blackhole),
            Fault("F03 accepted, then silence", FIRST, False, self._silence),
            Fault("F04 headers, then silence", FIRST, False, self._headers),
            Fault("F05 stopped in mid-answer (SIGSTOP)", STALL, True, self._stop),
            Fault("F23 a byte now and then from the start", FIRST, False, self._drip),
            Fault("F23 a byte now and then in mid-answer", STALL, True, self._drip),
        )

    async def _blackhole(self, until_healed: AsyncExitStack) -> None:
        await self.proxy.add(Down())
        until_healed.enter_context(blackhole(urlsplit(self.proxy.url).port or 0))

    async def _silence(self, until_healed: AsyncExitStack) -> None:
        await self.proxy.add(Timeout())

    async def _headers(self, until_healed: AsyncExitStack) -> None:
        await self.proxy.add(LimitData(160, "stall"))  # the head of an answer, and the length of its first chunk

    async def _drip(self, until_healed: AsyncExitStack) -> None:
        await self.proxy.add(Bandwidth(20))

    async def _stop(self, until_healed: AsyncExitStack) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        until_healed.callback(os.kill, self.pid, signal.SIGCONT)


@asynccontextmanager
async def stand(run: Run) -> AsyncIterator[Stand]:
    """Loupe in front of a host process, by way of the faulty proxy."""
    patience = NEVER if run.off else {
        "connect_seconds": CONNECT, "first_token_seconds": FIRST, "stall_seconds": STALL,
    }  # fmt: skip
    with paced_host(run.folder, MODEL) as host:
        async with faulty(host.url) as (proxy, url), loupe(run.folder, [f"one={url};slots=32"], **patience) as product:
            yield Stand(product, proxy, host.process.pid)


async def batch(run: Run, one: Stand, fault: Fault, count: int) -> None:
    """`count` requests at once, of several kinds, meet the fault; each has to end in time and to say why."""
    async with AsyncExitStack() as until_healed:
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
        done, hung = await asyncio.wait(tasks, timeout=fault.limit + GRACE)
        for task in done:
            run.trial(told(task.result()), f"{fault.name}: ended as {task.result()}")
        for task in hung:
            run.trial(False, f"{fault.name}: no end {fault.limit + GRACE:g} s later")
            task.cancel()
        for seconds in ended:
            run.measure(LATE, max(0.0, seconds - fault.limit))
        await asyncio.gather(*tasks, return_exceptions=True)
    await one.proxy.heal()
    await _well_again(one)


async def _ask(one: Stand, number: int, mid: bool, begun: Callable[[], None]) -> Outcome:
    if mid:  # an answer that is not streamed has no middle that a client sees
        return await ask(one.product.url, chat(str(number), model=MODEL), on_first=begun)
    paths = ("/api/chat", "/api/generate", "/api/embed", "/api/chat")
    bodies = (
        chat(str(number), model=MODEL),
        {"model": MODEL, "prompt": str(number)},
        {"model": MODEL, "input": str(number)},
        chat(str(number), model=MODEL, stream=False),
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
    figure="every request ends, with an error that says so, at most 1 s after the timeout of its phase (connect, first "
    "token, gap between tokens)",
    controls=("timeouts of an hour",),
    untested="the timeouts are scaled down, to 0.3 s (connect) and 1 s (first token, gap) from 2, 300 and 60.",
)
async def no_request_hangs(run: Run) -> None:
    """F02 to F05 and F23 against a host process, many requests at once; afterwards no task and no socket is left."""
    async with stand(run) as one:
        await ask(one.product.url, {"model": MODEL, "input": ""}, "/api/embed")  # opens what stays open
        tasks, files = _tasks(), _descriptors()
        for _ in range(run.scale(short=1, full=8)):
            for fault in _tried(run, one.faults()):
                await batch(run, one, fault, run.scale(short=4, full=8))
        await takes(lambda: _tasks() <= tasks, SETTLE)
        _count(run, "tasks", _tasks() - tasks)
        await takes(lambda: _descriptors() <= files, SETTLE)
        _count(run, "file descriptors", _descriptors() - files)


def _tried(run: Run, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """All of them, but where there are ten seconds: the control then waits for one in vain."""
    if not run.short:
        return faults
    return faults[1:2] if run.off else (faults[0], faults[1], faults[3], faults[5])


def _count(run: Run, what: str, left: int) -> None:
    run.figure(f"{what} left over", max(0, left))
    run.require(left <= 2, f"{left} {what} more than at the start")


def _tasks() -> int:
    """Those that are not the proxy's, whose connections stay open for a while."""
    files = (getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks())
    return sum(code is None or not code.co_filename.endswith("faultproxy.py") for code in files)


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
