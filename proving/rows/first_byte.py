"""Row 10: once a piece of an answer was passed on, no other host has a part in it."""

from __future__ import annotations

from typing import Any

from app.bootstrap import Services
from app.core.errors import LoupeError
from proving.promises import Run, promise
from proving.raw_host import Cut, RawHost, listening
from proving.stand import Outcome, ask, chat, loupe

PIECES = (("a1 ", "a2 ", "a3 ", "a4 "), ("b1 ", "b2 ", "b3 ", "b4 "))
CARELESS = "a retry also where pieces were passed on"


class Plot:
    """The first host that is asked in a trial breaks off; the second one, if it is asked, answers whole."""

    def __init__(self) -> None:
        self.hosts = [RawHost(pieces, self.next_cut) for pieces in PIECES]
        self._cuts: list[Cut] = []

    def begin(self, cut: Cut) -> None:
        self._cuts = [cut]
        for host in self.hosts:
            host.asked = 0

    def next_cut(self) -> Cut:
        return self._cuts.pop() if self._cuts else Cut()

    @property
    def asked(self) -> int:
        return sum(host.asked for host in self.hosts)


def _careless(error: LoupeError, ticket: Any, lease: Any, attempt: int, *, begun: bool = False) -> bool:
    """`ChatService._may_try_again` without its care for what was passed on already."""
    return attempt < 2


def _prepare(run: Run, services: Services) -> None:
    services.chat._budget.spend = lambda: True  # type: ignore[method-assign]  # hundreds of failures in a minute
    if run.off:
        services.chat._may_try_again = _careless  # type: ignore[method-assign]


def fault(outcome: Outcome, plot: Plot, *, stream: bool) -> str:
    """What is wrong with how a trial ended; "" where nothing is."""
    seen = outcome.text
    whole = ["".join(pieces) for pieces in PIECES]
    if not any(text.startswith(seen) for text in whole):
        return f"spliced or doubled: {seen!r}"
    if outcome.complete:
        return "" if seen in whole else f"complete, but {seen!r}"
    if outcome.broken or "error" not in outcome.last:
        return "no clean error at its end"
    if seen and plot.asked > 1:
        return "another host was asked after the first piece"
    return "" if seen or not stream else "nothing was passed on, and yet no other host answered"


@promise(
    10,
    "No retry after the first forwarded byte",
    section="hosts",
    figure="0 doubled or spliced answers, wherever a connection breaks",
    controls=(CARELESS,),
)
async def no_retry_after_the_first_byte(run: Run) -> None:
    """F07: the first host's connection ends, by FIN and by RST, at every byte of its answer from the status line on."""
    plot, retried = Plot(), 0
    length = len(plot.hosts[0].answer())
    step = run.scale(short=59, full=1)
    async with (
        listening(plot.hosts[0]) as first,
        listening(plot.hosts[1], "127.0.0.2") as second,
        loupe(run.folder, [first, second], prepare=lambda services: _prepare(run, services)) as product,
    ):
        for after in range(run.random.randrange(step), length + 1, step):
            for how in ("reset", "close"):
                for stream in (True, False) if after % 5 == 0 or step > 1 else (True,):
                    plot.begin(Cut(after, how))
                    outcome = await ask(product.url, chat(f"{after} {how} {stream}", stream=stream))
                    wrong = fault(outcome, plot, stream=stream)
                    retried += plot.asked > 1
                    run.trial(not wrong, f"{how} after {after} of {length} bytes: {wrong}")
                    run.require(plot.asked in (1, 2), f"{plot.asked} attempts")
                    await ask(product.url, chat("a host that answers is a good host"))
    run.figure("bytes of an answer", length)
    run.figure("trials with a failover", retried)
    run.require(retried > 0, "no trial had a failover")
