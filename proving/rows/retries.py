"""Row 9: where nothing works, trying again does not make it worse."""

from __future__ import annotations

import asyncio
import time

from app.bootstrap import Services
from proving.promises import Run, promise
from proving.raw_host import Cut, RawHost, listening
from proving.stand import Outcome, ask, chat, loupe

RATE = 20  # requests a second, on time whatever became of the earlier ones
SHARE, FLOOR_SECONDS, SAVED = 0.2, 10.0, 3


def _without_budget(services: Services) -> None:
    services.chat._budget.spend = lambda: True  # type: ignore[method-assign]


@promise(
    9,
    "Retries cannot amplify",
    section="hosts",
    figure="in a total outage hosts are asked at most 1.2 times as often as Loupe (and once more in 10 s, up to 3 of "
    "which can be saved up)",
    controls=("no budget of retries",),
)
async def retries_cannot_amplify(run: Run) -> None:
    """F28, the worst kind: both hosts pass their health checks, and reset every chat before the first byte."""
    hosts = [RawHost(("never ",), lambda: Cut(0, "reset")) for _ in range(2)]
    seconds = run.scale(short=3, full=60)
    async with (
        listening(hosts[0]) as one,
        listening(hosts[1], "127.0.0.2") as two,
        loupe(
            run.folder, [f"one={one};slots=8", f"two={two};slots=8"], prepare=_without_budget if run.off else None
        ) as product,
    ):  # fmt: skip
        began, asking = time.monotonic(), []
        for number in range(seconds * RATE):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            asking.append(asyncio.create_task(ask(product.url, chat(str(number)))))
        outcomes = await asyncio.gather(*asking)
        lasted = time.monotonic() - began
    for outcome in outcomes:
        run.trial(_told(outcome), f"ended as {outcome}")
        run.measure("time until the error was told, s", outcome.seconds)
    attempts, requests = sum(host.asked for host in hosts), len(outcomes)
    allowed = requests * (1 + SHARE) + lasted / FLOOR_SECONDS + SAVED
    run.figure("attempts upstream for each request", attempts / requests)
    run.require(attempts <= allowed, f"{attempts} attempts for {requests} requests, allowed are {allowed:.0f}")


def _told(outcome: Outcome) -> bool:
    return not outcome.broken and outcome.status >= 500 and "error" in outcome.last
