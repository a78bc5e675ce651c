"""The open loop against hosts of known service time, in virtual time: what it tells is the truth, worked out apart."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.figures import LoadFigures, load_figures
from app.comparison.load_lab.gaps import Gaps
from app.comparison.load_lab.generator import OK, REFUSED, UNFINISHED, UNSENT, Generator, Outcome, Probe
from app.comparison.load_lab.plan import MOST_REQUESTS, Limits, LoadPlan
from app.comparison.load_lab.questions import Shot, shots
from app.core.errors import QueueFull
from app.core.generation import Chunk, Usage
from tests.virtual_time import in_virtual_time, pause, virtual_clock

PREFILL, GAP, TOKENS = 0.040, 0.010, 5
SERVICE = PREFILL + GAP * (TOKENS - 1)
WITHIN = 0.02
SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass
class Host:
    """Answers one question at a time, first come first served, each in `SERVICE` seconds; it stands still between the
    two moments of `stall`."""

    stall: tuple[float, float] = (math.inf, math.inf)
    began: float = field(init=False)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.began = virtual_clock().time()

    async def answer(self, shot: Shot, probe: Probe) -> None:
        async with self.turn:
            await self._rest(PREFILL)
            probe.saw(Chunk(b"", text="t"))
            for _ in range(TOKENS - 1):
                await self._rest(GAP)
                probe.saw(Chunk(b"", text="t"))
            probe.saw(Chunk(b"", done=True, usage=Usage(prompt_tokens=9, output_tokens=TOKENS)))

    async def _rest(self, seconds: float) -> None:
        await pause(seconds)
        now = virtual_clock().time() - self.began
        if self.stall[0] <= now < self.stall[1]:
            await pause(self.stall[1] - now)


def truth(dues: Sequence[float], stall: tuple[float, float] = (math.inf, math.inf)) -> tuple[list[float], list[float]]:
    """(time to first token, whole time) of each request, by Lindley's recursion: no event loop has a part in it."""

    def after(begin: float, seconds: float) -> float:
        end = begin + seconds
        return stall[1] if stall[0] <= end < stall[1] else end

    first, whole, free = [], [], 0.0
    for due in dues:
        token = after(max(due, free), PREFILL)
        first.append(token - due)
        for _ in range(TOKENS - 1):
            token = after(token, GAP)
        free = token
        whole.append(free - due)
    return first, whole


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def plan(**changes: object) -> LoadPlan:
    return LoadPlan(**{"models": {"m": 1.0}, "seed": 7, "limits": Limits(ttft=0.5), **changes}).checked()  # type: ignore[arg-type]


def run(
    asked: LoadPlan, host: Callable[[], Callable[[Shot, Probe], Awaitable[None]]], *, drain: float = 600.0,
    **changes: object,
) -> tuple[Generator, LoadFigures, Sequence[Shot]]:  # fmt: skip
    coming = shots(asked)

    async def work() -> Generator:
        generator = Generator(coming, host(), virtual_clock(), **changes)  # type: ignore[arg-type]
        await generator.run(asked.seconds, drain)
        return generator

    generator = in_virtual_time(work())
    told = load_figures(
        generator.outcomes, generator.gaps, asked.limits, seconds=generator.seconds, peak=generator.peak
    )
    return generator, told, coming


@pytest.mark.parametrize(
    ("arrivals", "rate"), [(Arrivals.CONSTANT, 8.0), (Arrivals.POISSON, 8.0), (Arrivals.RAMP, 2.0)]
)
def test_percentiles_are_those_of_a_host_of_known_service_time(arrivals: Arrivals, rate: float) -> None:
    asked = plan(arrivals=arrivals, rate=rate, to_rate=11.5 if arrivals is Arrivals.RAMP else None, seconds=300.0)
    _, told, coming = run(asked, lambda: Host().answer)
    first, whole = truth([shot.due for shot in coming])
    assert told.answered == len(coming) > 1000
    for name, share in SHARES.items():
        assert told.ttft.at(name) == pytest.approx(quantile(first, share), rel=WITHIN)
        assert told.e2e.at(name) == pytest.approx(quantile(whole, share), rel=WITHIN)
        assert told.tpot.at(name) == pytest.approx(GAP, rel=WITHIN)
        assert told.itl.at(name) == pytest.approx(GAP, rel=WITHIN)
    good = sum(value <= 0.5 for value in first)
    assert told.kept == pytest.approx(good / len(coming), abs=0.001)
    assert told.goodput == pytest.approx(good / told.seconds_all, rel=WITHIN)
    assert told.seconds == pytest.approx(300.0, rel=0.001)


def test_a_host_that_stands_still_is_told_of_by_all_who_would_have_waited() -> None:
    """Coordinated omission: who asks again only after an answer meets the standstill once and calls it an exception."""
    stall = (100.0, 130.0)
    asked = plan(arrivals=Arrivals.CONSTANT, rate=5.0, seconds=300.0)
    _, told, coming = run(asked, lambda: Host(stall).answer)
    first, _ = truth([shot.due for shot in coming], stall)
    for name, share in SHARES.items():
        assert told.ttft.at(name) == pytest.approx(quantile(first, share), rel=WITHIN)

    async def closed_loop() -> list[float]:
        host, clock, waited = Host(stall), virtual_clock(), []
        while (asked_at := clock.time()) < host.began + 300.0:
            async with host.turn:
                await host._rest(SERVICE)
            waited.append(clock.time() - asked_at)
            await pause(max(0.0, 0.2 - SERVICE))
        return waited

    naive = in_virtual_time(closed_loop())
    assert quantile(naive, 0.99) == pytest.approx(SERVICE, rel=WITHIN)
    assert (told.ttft.at("p90") or 0.0) > 100 * quantile(naive, 0.99)


def test_what_the_generator_was_late_itself_counts_as_waiting_and_is_told() -> None:
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        clock = virtual_clock()
        if not paused and clock.time() > 1010.0:
            paused.append(clock.time())
            await pause(5.0)  # this process was held up
        await pause(seconds)

    asked = plan(arrivals=Arrivals.CONSTANT, rate=10.0, seconds=60.0)

    async def at_once(shot: Shot, probe: Probe) -> None:
        probe.saw(Chunk(b"", text="t"))

    generator, told, _ = run(asked, lambda: at_once, sleep=sleep)
    late = [one.late or 0.0 for one in generator.outcomes]
    assert sum(value > 0.05 for value in late) == pytest.approx(50, abs=2)
    assert told.ttft.at("p99") == pytest.approx(quantile(late, 0.99), rel=WITHIN)
    assert told.generator_late
    assert (told.ttft_sent.at("p99") or 0.0) < 0.001


def test_what_is_given_up_at_the_end_counts_as_slower_than_all_that_came() -> None:
    asked = plan(arrivals=Arrivals.CONSTANT, rate=20.0, seconds=100.0)  # a host for 12.5 a second
    _, told, coming = run(asked, lambda: Host().answer, drain=10.0)
    assert told.unfinished == len(coming) - told.answered > 300
    assert told.ttft.at("p50") == pytest.approx(quantile(truth([shot.due for shot in coming])[0], 0.5), rel=WITHIN)
    p99 = told.ttft.percentiles["p99"]
    assert p99.value is None
    assert p99.above is not None and p99.above <= quantile(truth([shot.due for shot in coming])[0], 0.99)
    assert told.ttft.mean is None


def test_refusals_and_what_was_too_much_at_once_are_counted_apart() -> None:
    async def refuse(shot: Shot, probe: Probe) -> None:
        if shot.index % 2:
            raise QueueFull(64, 64)
        await pause(1000.0)

    asked = plan(arrivals=Arrivals.CONSTANT, rate=10.0, seconds=10.0)
    generator, told, _ = run(asked, lambda: refuse, drain=1.0, most_at_once=20)
    states = [one.status for one in generator.outcomes]
    assert (told.asked, told.answered, told.peak) == (100, 0, 20)
    assert (states.count(REFUSED), states.count(UNFINISHED), states.count(UNSENT)) == (
        told.refused, told.unfinished, told.unsent,
    )  # fmt: skip
    assert told.unfinished == 20
    assert told.kept == 0.0
    assert not told.errors


def test_what_was_under_way_when_a_run_was_cut_is_held_against_no_limit() -> None:
    done = Outcome(0, "m", 0.0, 8, 4, OK, 0.0, 0.1, 0.4, output_tokens=4)
    under_way = [replace(done, index=at, due=1.0 * at, status=UNFINISHED, first=None, end=4.0) for at in (1, 2, 3)]
    for cut, kept in ((True, 1.0), (False, 0.25)):
        told = load_figures([done, *under_way], Gaps(), Limits(ttft=0.5), seconds=4.0, peak=3, cut=cut)
        assert (told.asked, told.kept) == (4, kept)
    assert load_figures(under_way, Gaps(), Limits(ttft=0.5), seconds=4.0, peak=3, cut=True).kept is None


def test_a_run_that_ends_with_its_last_question_has_the_rate_of_the_gaps_between_them() -> None:
    asked = plan(arrivals=Arrivals.CONSTANT, rate=4.0, seconds=60.0, count=5)
    moments = asked.moments(random.Random(1))
    assert asked.counted(5) and not asked.counted(4) and asked.lasts(moments) == 1.0
    outcomes = [Outcome(at, "m", due, 8, 4, OK, due, due, due) for at, due in enumerate(moments)]
    assert load_figures(outcomes, Gaps(), Limits(), seconds=1.0, peak=1, counted=True).offered == 4.0


def test_a_run_that_would_have_more_requests_than_one_may_ends_with_the_last_of_them() -> None:
    asked = plan(arrivals=Arrivals.CONSTANT, rate=1000.0, seconds=3600.0)
    moments = asked.moments(random.Random(1))
    assert (len(moments), asked.lasts(moments)) == (MOST_REQUESTS, pytest.approx(20.0, abs=0.01))


def test_a_run_that_is_to_stop_stops_between_two_questions() -> None:
    asked = plan(arrivals=Arrivals.CONSTANT, rate=0.1, seconds=3600.0)
    stops: list[bool] = []
    generator, told, _ = run(asked, lambda: Host().answer, stop=lambda: virtual_clock().time() > 1100.0 and not stops)
    assert generator.stopped
    assert told.asked == 10
    assert [one.status for one in generator.outcomes] == [OK] * 10
    assert told.seconds == pytest.approx(100.0, abs=1.0)
