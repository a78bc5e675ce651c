"""Row 11: a host that dies is noticed in time, whatever way it dies, and one that is back is used again in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from app.core.errors import HostTimeout, HostUnreachable
from app.services import watched_host
from app.services.watched_host import WatchedHost
from proving.host_process import HostProcess, host_process
from proving.promises import Run, promise
from proving.stand import Loupe, ask, chat, loupe, quiet, takes, until
from proving.virtual_time import LoopClock, VirtualLoop
from tests.fakes import FakeBackend

NOTICED, BACK = 17.0, 12.0  # 3 checks of 5 s and one time-out of 2 s; two checks of 1 s would do
DOWN_VIRTUAL, BACK_VIRTUAL = "dead to given up, on the fake clock, s", "back to used again, on the fake clock, s"
DOWN_REAL, BACK_REAL = (
    "stopped to given up, on sockets, s at full scale",
    "resumed to used again, on sockets, s at full scale",
)
UNCHECKED = "no health checks"
UNREPORTED = "failed requests say nothing about their host"
SLACK = 0.6  # seconds that a busy machine may add to what is measured on sockets


async def _refused() -> None:
    raise HostUnreachable("one", "connection refused")


async def _blackhole() -> None:
    await asyncio.sleep(2.0)
    raise HostTimeout("one", "connect", 2.0)


async def _silent() -> None:
    await asyncio.Event().wait()


FAULTS: dict[str, Callable[[], Awaitable[None]]] = {
    "F01 refused": _refused, "F02 SYN blackhole": _blackhole, "F03 silence": _silent,
}  # fmt: skip


class Dying(FakeBackend):
    """A host in memory that dies and comes back on demand."""

    fault: Callable[[], Awaitable[None]] | None = None

    async def version(self) -> tuple[str, str]:
        if self.fault is not None:
            await self.fault()
        return await super().version()


async def _deaths(run: Run, trials: int) -> None:
    """On a virtual loop: the fault comes and goes at random moments between checks."""
    backend = Dying()
    host = WatchedHost(backend, LoopClock(), lambda: None)
    await host.check()
    with _clocks(run, 1.0):
        watching = asyncio.create_task(host.watch())
        await _die_and_return(run, backend, host, trials)
        watching.cancel()


async def _die_and_return(run: Run, backend: Dying, host: WatchedHost, trials: int) -> None:
    loop = asyncio.get_running_loop()
    for number in range(trials):
        name = list(FAULTS)[number % len(FAULTS)]
        await asyncio.sleep(run.random.uniform(20, 40))
        if not run.trial(host.up, f"{name}: not up before it died"):
            break
        began, backend.fault = loop.time(), FAULTS[name]
        down = await _when(lambda: not host.up, began)
        run.measure(DOWN_VIRTUAL, down)
        run.trial(down <= NOTICED, f"{name}: given up after {down:.1f} s")
        await asyncio.sleep(run.random.uniform(0, 30))
        began, backend.fault = loop.time(), None
        back = await _when(lambda: host.up, began)
        run.measure(BACK_VIRTUAL, back)
        run.trial(back <= BACK, f"{name}: used again after {back:.1f} s")


async def _when(check: Callable[[], bool], began: float) -> float:
    loop = asyncio.get_running_loop()
    while not check() and loop.time() - began < 60:
        await asyncio.sleep(0.05)
    return loop.time() - began


@contextlib.contextmanager
def _clocks(run: Run, scale: float) -> Iterator[None]:
    """The times of the checks, scaled; and what a control takes away."""
    names = ("CHECK_SECONDS", "CHECK_TIMEOUT", "RECOVERY_SECONDS")
    before = {name: getattr(watched_host, name) for name in names}
    look, report = WatchedHost._look, WatchedHost.report

    async def blind(host: WatchedHost) -> None:
        """Never looks again."""

    for name, value in before.items():
        setattr(watched_host, name, value * scale)
    if run.off == UNCHECKED:
        WatchedHost._look = blind  # type: ignore[method-assign, assignment]
    if run.off == UNREPORTED:
        WatchedHost.report = lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(watched_host, name, value)
        WatchedHost._look, WatchedHost.report = look, report  # type: ignore[method-assign]


async def _on_sockets(run: Run, folder: Path, scale: float, trials: int) -> None:
    """F05 by SIGSTOP without any traffic, then F01 by kill -9 under requests that come one after the other."""
    async with (
        host_process("127.0.11.2", "--pieces", "a ,b ") as one,
        host_process("127.0.11.3", "--pieces", "a ,b ") as two,
        loupe(folder, [f"one={one.url}", f"two={two.url}"]) as product,
    ):
        seats, look = product.services.pool.seats, product.services.pool.look_again
        await until(lambda: len(seats()) == 2, 20, "both hosts")
        with _clocks(run, scale):
            look()  # ends the pauses that are longer
            for _ in range(trials):
                await until(lambda: len(seats()) == 2, 20, "both hosts")
                await _stopped(run, product, one, scale)
                await _killed(run, product, {"one": one, "two": two})


async def _stopped(run: Run, product: Loupe, host: HostProcess, scale: float) -> None:
    seats = product.services.pool.seats
    host.stop()
    down = await takes(lambda: len(seats()) == 1, (NOTICED + 3) * scale + SLACK)
    run.trial(down <= NOTICED * scale + SLACK, f"F05: given up after {down:.1f} s")
    run.measure(DOWN_REAL, min(down, 2 * NOTICED * scale) / scale)
    host.resume()
    back = await takes(lambda: len(seats()) == 2, BACK * scale + SLACK)
    run.trial(back <= BACK * scale + SLACK, f"F05: used again after {back:.1f} s")
    run.measure(BACK_REAL, min(back, 2 * BACK * scale) / scale)


async def _killed(run: Run, product: Loupe, hosts: dict[str, HostProcess]) -> None:
    """Ten requests after the death of the host that would have had them: at most one may have gone there first."""
    name = (await ask(product.url, chat("before the kill"))).headers["x-loupe-host"]
    before = _failed_at(product, name)
    await hosts[name].kill()
    for number in range(10):
        outcome = await ask(product.url, chat(f"after the kill {number}"))
        run.trial(outcome.complete, f"F01: a request failed: {outcome.last}")
    run.trial(_failed_at(product, name) - before <= 1, "F01: more than one request went to a dead host")
    await hosts[name].start()


def _failed_at(product: Loupe, name: str) -> float:
    return product.services.telemetry.metrics.upstream._values.get((name, "failed"), 0.0)


@promise(
    11,
    "A dead host is noticed",
    section="hosts",
    figure="by requests: at most one goes to it; by checks: given up within 17 s; back: used again within 12 s",
    controls=(UNCHECKED, UNREPORTED),
)
def dead_hosts_are_noticed(run: Run) -> None:
    """F01, F02, F03 on a fake clock at random moments; F05 and F01 on sockets, five times as fast in the short form."""
    quiet()
    scale = 0.2 if run.short or run.off else 1.0
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_deaths(run, run.scale(short=30, full=1000)))
    with asyncio.Runner() as runner:
        runner.run(_on_sockets(run, run.folder, scale, run.scale(short=1, full=10)))
