"""Row 33: of three hosts one is killed and one stalls, and nobody who had no byte yet notices."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.bootstrap import Services
from proving.host_process import host_process
from proving.promises import Run, promise
from proving.runtimes import runtimes
from proving.stand import chat, loupe
from proving.three_hosts import ERROR_SECONDS, KILLED, NAMES, STALLED, Trial, Victim

SLOTS, AT_ONCE = 2, 9
STALL = 1.0  # seconds; LOUPE_STALL_SECONDS, scaled down
LATE = {KILLED: "kill to error line, s", STALLED: "end of the stall time-out to error line, s"}
MODEL = "smollm2:135m-instruct-q2_K"


def _without_failover(services: Services) -> None:
    services.chat._may_try_again = lambda *_, **__: False  # type: ignore[method-assign]


@asynccontextmanager
async def _pretended() -> AsyncIterator[list[Victim]]:
    async with contextlib.AsyncExitStack() as stack:
        words = ("--pieces", "a1 ,a2 ,a3 ,a4 ,a5 ,a6 ", "--prefill", "0.1", "--rate", "25")
        yield [await stack.enter_async_context(host_process(f"127.0.33.{n}", *words)) for n in (2, 3, 4)]


@promise(
    33,
    "Three hosts, one killed and one stalled",
    section="hosts",
    figure="0 requests fail that had not begun; those that had end with one error line within 2 s of the kill, "
    "or of the stall time-out",
    controls=("no failover",),
)
async def three_hosts(run: Run) -> None:
    """F05 and F09 at once. The full form has three embedded runtimes and two hundred requests."""
    real = not (run.short or run.off)
    requests = run.scale(short=24, full=200)
    stall = STALL if not real else 4 * STALL
    async with runtimes(run.folder, "q2_K", NAMES) if real else _pretended() as hosts:
        words = [f"{name}={host.url};slots={SLOTS}" for name, host in zip(NAMES, hosts, strict=True)]
        async with loupe(
            run.folder, words, prepare=_without_failover if run.off else None, stall_seconds=stall,
            queue_limit=1000, queue_per_client=1000, queue_wait_seconds=600,
        ) as product:  # fmt: skip
            trial = Trial(product, hosts, requests, AT_ONCE, stall, unbegun=not real, few=8 if real else 3)
            if real:
                trial.body = lambda number: chat(f"Count from {number} on.", model=MODEL, num_predict=16, num_ctx=256)
            await trial.run()
            wrong = [trial.wrong_with(ending) for ending in trial.endings]
            for told in wrong:
                run.trial(not told, told)
            for ending in trial.cut():
                run.measure(LATE[ending.host], max(0.0, trial.late(ending))) if ending.host in LATE else None
            run.require(bool(trial.cut()), "the faults met no answer under way")
            run.figure("answers that had begun and were cut", len(trial.cut()))
            if not run.off:
                run.figure("resumed to used again, s", await trial.back())
    run.require(all(run.quantile(name, 1) <= ERROR_SECONDS for name in run.samples), "an error line came late")
