"""Row 31: the wall clock may jump; what is timed goes on as if it had not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from proving.promises import Run, promise
from proving.raw_host import Cut, RawHost, listening
from proving.stand import Loupe, Outcome, ask, chat, loupe, until

HOUR = 3600.0
FIRST, STALL, SLACK = 1.0, 1.0, 1.0  # seconds
PIECES = tuple(f"t{number} " for number in range(12))
LATE = "timeout after it was due, s"


@dataclass(slots=True)
class WallClock:
    """`time.time` of this process, which jumps; everything in it sees the same."""

    offset: float = 0.0

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        real = time.time
        time.time = lambda: real() + self.offset
        try:
            yield
        finally:
            time.time = real


class ProductClock:
    """The product's clock; with the defence off it measures by the wall."""

    def __init__(self, by_the_wall: bool) -> None:
        self._by_the_wall = by_the_wall

    def monotonic(self) -> float:
        return time.time() if self._by_the_wall else time.monotonic()

    def now(self) -> float:
        return time.time()


@dataclass(slots=True)
class Trial:
    run: Run
    product: Loupe
    host: RawHost
    wall: WallClock
    cut: Cut = field(default_factory=Cut)

    def next_cut(self) -> Cut:
        cut, self.cut = self.cut, Cut()
        return cut

    def jump(self, seconds: float) -> None:
        self.wall.offset += seconds

    def check(self, ok: bool, what: str) -> None:
        self.run.trial(ok, f"{what} after a jump to {self.wall.offset / HOUR:+.0f} h")

    async def answering_and_waiting(self, seconds: float) -> None:
        """One answer runs, one waits, one is in the cache; then the clock jumps."""
        kept = chat("kept", temperature=0, seed=1)
        await ask(self.product.url, kept)
        await until(lambda: len(self.product.services.telemetry.snapshot().recent) > 0, 5)
        began = time.monotonic()
        begun = asyncio.Event()
        running = asyncio.create_task(ask(self.product.url, chat("runs"), on_first=begun.set))
        await begun.wait()
        waiting = asyncio.create_task(ask(self.product.url, chat("waits")))
        await until(lambda: self.product.waiting == 1, 5, "a request to wait")
        self.jump(seconds)
        entered = max((view.waited for view in self.product.services.queue.snapshot().waiting), default=0.0)
        self.check(abs(entered) <= time.monotonic() - began + SLACK, f"a request waits for {entered:.0f} s")
        for name, outcome in (("the running", await running), ("the waiting", await waiting)):
            self.check(outcome.complete and outcome.text == "".join(PIECES), f"{name} answer ended as {outcome.last}")
        again = await ask(self.product.url, kept)
        self.check(again.headers.get("x-loupe-cache", "").startswith("hit"), "the cached answer was gone")
        self._check_figures(time.monotonic() - began)

    def _check_figures(self, took: float) -> None:
        """What the request records say of these seconds."""
        seconds = [record.seconds for record in self.product.services.telemetry.snapshot().recent[:3]]
        self.check(all(-0.001 <= one <= took + SLACK for one in seconds), f"requests are said to have taken {seconds}")

    async def silence(self, seconds: float) -> None:
        """The host falls silent in mid-answer; the clock jumps; the timeout comes when it is due."""
        self.cut = Cut(len(self.host.parts()[0]), "stall")
        fell_silent: list[float] = []
        asking = asyncio.create_task(
            ask(self.product.url, chat("silence"), on_first=lambda: fell_silent.append(time.monotonic()))
        )
        await until(lambda: fell_silent, 5, "the answer to begin")
        self.jump(seconds)
        outcome: Outcome = await asking
        beyond = time.monotonic() - fell_silent[0] - STALL
        self.run.measure(LATE, beyond)
        self.check("error" in outcome.last and -0.1 <= beyond <= SLACK, f"the timeout came {beyond:+.1f} s late")

    def hosts_are_well(self) -> None:
        self.check(self.product.services.pool.slots == 1, "the host is not used any more")


@promise(
    31,
    "Time jumps are harmless",
    section="time",
    figure="with the wall clock an hour on or back, timeouts come at most 1 s early or late, nobody who waits is "
    "dropped, and no cached answer expires",
    controls=("durations measured by the wall clock",),
    untested="the clock of the machine itself is not set: the process is given another one.",
)
async def time_jumps_are_harmless(run: Run) -> None:
    """F48: while one answers, one waits and one is silent, the clock jumps an hour, forth and back."""
    wall = WallClock()
    host = RawHost(PIECES, rate=40)
    with wall.installed():
        async with (
            listening(host) as url,
            loupe(
                run.folder, [url], clock=ProductClock(bool(run.off)), first_token_seconds=FIRST, stall_seconds=STALL
            ) as product,
        ):  # fmt: skip
            trial = Trial(run, product, host, wall)
            host.cut = trial.next_cut
            for number in range(run.scale(short=2, full=20)):
                hours = (1 if number % 2 == 0 else -1) * run.random.choice((1, 1, 2, 24))
                await trial.answering_and_waiting(hours * HOUR)
                await trial.silence(-hours * HOUR if number % 3 else hours * HOUR)
                trial.hosts_are_well()
