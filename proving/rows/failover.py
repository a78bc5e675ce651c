"""Row 12: a host that is killed takes no request with it that had not begun to answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from app.bootstrap import Services
from proving.host_process import HostProcess, host_process
from proving.promises import Run, promise
from proving.stand import Loupe, Outcome, ask, chat, loupe, until

REQUESTS, SLOTS = 12, 2  # of a trial, arriving over SPAN; so many that a fifth of them may be tried again
SPAN = 0.3
PREFILL, RATE = 0.05, 60
ERROR_SECONDS = 2.0
WHOLE = {"a1 a2 a3 a4 ", "b1 b2 b3 b4 "}
ENDED = "kill to the error line of an answer that had begun, s"
MOVED = "an answer in whose time a host was killed, s"


@dataclass(frozen=True, slots=True)
class Stand:
    run: Run
    product: Loupe
    hosts: tuple[HostProcess, HostProcess]

    async def trial(self) -> None:
        """One kill -9 while requests arrive; then the host comes back."""
        victim = self.hosts[self.run.random.randrange(2)]
        moment = self.run.random.uniform(0, SPAN) if not self.run.off else SPAN / 2
        began = time.monotonic()
        asking = [asyncio.create_task(self._ask(number)) for number in range(REQUESTS)]
        await asyncio.sleep(moment)
        killed = time.monotonic()
        await victim.kill()
        ends = await asyncio.gather(*asking)
        lost = [told for told in (self._wrong(outcome, end - killed) for outcome, end in ends) if told]
        self.run.trial(not lost, f"killed {killed - began:.3f} s after the first request: {'; '.join(lost)}")
        await victim.start()

    async def recovered(self) -> None:
        await until(lambda: self.product.services.pool.slots == 2 * SLOTS, 20, "the host to be used again")

    async def _ask(self, number: int) -> tuple[Outcome, float]:
        await asyncio.sleep(number * SPAN / REQUESTS)
        outcome = await ask(self.product.url, chat(str(self.run.random.random())))
        return outcome, time.monotonic()

    def _wrong(self, outcome: Outcome, after: float) -> str:
        """What is wrong with how a request ended, `after` seconds from the kill."""
        if outcome.complete:
            if 0 < after < outcome.seconds:
                self.run.measure(MOVED, outcome.seconds)
            return "" if outcome.text in WHOLE else f"a complete answer of {outcome.text!r}"
        if not outcome.text:
            return f"failed before its first piece: {outcome.last or outcome}"
        self.run.measure(ENDED, after)
        errors = sum(b'"error"' in line for line in outcome.lines)
        if outcome.broken or errors != 1 or "error" not in outcome.last:
            return f"begun, and no one error line at its end: {outcome.lines[-1:]!r}"
        return "" if after <= ERROR_SECONDS else f"the error line came {after:.1f} s after the kill"


def _without_failover(services: Services) -> None:
    services.chat._may_try_again = lambda *_, **__: False  # type: ignore[method-assign]


async def _stand(run: Run, number: int, trials: int, starting: asyncio.Lock) -> None:
    """`starting`: the migrations of the history know one start at a time in a process."""
    folder = run.folder / str(number)
    folder.mkdir()
    # Without failover every answer is long in beginning: the one kill of the short form is then sure to meet one.
    pace = ("--prefill", str(PREFILL if not run.off else SPAN), "--rate", str(RATE))
    await starting.acquire()
    async with (
        host_process(f"127.0.{number}.2", "--pieces", "a1 ,a2 ,a3 ,a4 ", *pace) as one,
        host_process(f"127.0.{number}.3", "--pieces", "b1 ,b2 ,b3 ,b4 ", *pace) as two,
        loupe(
            folder, [f"one={one.url};slots={SLOTS}", f"two={two.url};slots={SLOTS}"],
            prepare=_without_failover if run.off else None,
        ) as product,
    ):  # fmt: skip
        starting.release()
        stand = Stand(run, product, (one, two))
        for trial in range(trials):
            if trial:
                await stand.recovered()
            await stand.trial()


@promise(
    12,
    "Failover is invisible before the first byte",
    section="hosts",
    figure="kill -9 of one of two hosts fails 0 requests that had not begun to answer; those that had end with one "
    "error line within 2 s",
    controls=("no failover",),
)
async def failover_is_invisible(run: Run) -> None:
    """F09: kill -9 of a host process at a random moment, while twelve requests arrive at both hosts."""
    stands = run.scale(short=1, full=6)
    trials = run.scale(short=2, full=50) if not run.off else 1
    starting = asyncio.Lock()
    await asyncio.gather(*(_stand(run, number, trials, starting) for number in range(stands)))
    run.require(run.quantile(ENDED, 1) <= ERROR_SECONDS or not run.samples.get(ENDED), "an error line came late")
