"""The sweep of slots: up the ladder until past the knee, to and fro until the knee is sure, then batches at the knee.

The first round goes up and finds how far there is anything to gain; the further ones visit small and large steps next
to each other, to and fro, so that a load that comes or goes meanwhile slows both alike. Where the knee comes out within
two steps of the end after all, further steps are visited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from app.comparison.batching import knee as curve
from app.comparison.batching.frame import Frame
from app.comparison.batching.site import WAVES, Site
from app.comparison.batching.study import LADDER, BatchTried, Knee, Point, Shape
from app.comparison.batching.waves import Visit, point_of
from app.comparison.intervals import paired_ratio
from app.comparison.speed import log_t
from app.core.errors import HostRefused
from app.core.runtime_setup import RuntimeSetup

LEAST_ROUNDS = 3  # where so many may be made
BEYOND = 2  # steps past the knee that are measured
ALONE = 4  # waves of one request, which are short
LEAST_CLIMB = 8  # slots that the first round goes up to: kernels for several rows may begin there, after a flat part
BATCH_ROUNDS = 3
WORTH = 1.03  # times the rate that another batch has to bring before it is named
FALLS_SHORT = 0.8  # of the sweep's rate, below which the confirmation is remarked upon


class SlotsRun:
    def __init__(self, frame: Frame) -> None:
        self._frame, self._asked = frame, frame.asked
        self._visits: dict[Shape, dict[int, list[Visit]]] = {shape: {} for shape in self._asked.shapes}
        self._seen: dict[Shape, list[tuple[int, float]]] = {shape: [] for shape in self._asked.shapes}  # in their order
        self._known: dict[Shape, tuple[int, curve.Found]] = {}  # of so many visits
        self._climbed: dict[Shape, bool] = {}  # the first round is over; whether the host was full then
        self._most = self._asked.most

    async def run(self) -> None:
        """Leaves points, knees, batches and the confirmation in the frame's study."""
        least = min(LEAST_ROUNDS, self._asked.rounds)
        self._frame.total = least * len(self._visits) * sum(self._asked.ladder)
        site = await self._opened()
        for shape in self._visits:
            await self._climb(site, shape)
        self._frame.total = self._frame.done + (least - 1) * sum(sum(levels) for levels in self._visits.values())
        for number in range(1, self._asked.rounds):
            if number >= least and all([(await self._found(shape)).sure for shape in self._visits]):
                break
            self._frame.total = max(
                self._frame.total, self._frame.done + sum(sum(levels) for levels in self._visits.values())
            )
            await self._again(site, number)
        await site.unload(self._asked.model)
        if self._asked.batches:
            await self._batches()
        if self._frame.own:
            await self._confirm()

    async def _opened(self) -> Site:
        """With as many slots as there is memory for."""
        while True:
            setup = self._asked.base.under(RuntimeSetup(slots=self._most))
            site = await self._frame.site(setup, self._asked.context)
            try:
                await site.ready()
                return site
            except HostRefused as refused:
                if not self._frame.own or self._most < 4:
                    raise
                note = f"{self._most} slots could not be had ({refused.message}); the sweep ends at {self._most // 2}."
                self._most //= 2
                await self._frame.tell(notes=(*self._frame.study.notes, note))

    async def _climb(self, site: Site, shape: Shape) -> None:
        full = False
        for count, level in enumerate(self._ladder, 1):
            await self._visit(site, shape, level)
            full = not self._frame.own and self._host_is_full(shape, self._ladder[:count])
            if full or (level >= LEAST_CLIMB and (await self._found(shape)).place <= count - 1 - BEYOND):
                break
        self._climbed[shape] = full
        await self._told()

    @property
    def _ladder(self) -> tuple[int, ...]:
        return tuple(step for step in self._asked.ladder if step <= self._most)

    async def _found(self, shape: Shape) -> curve.Found:
        """Curves are followed past the last step, so that a knee which lies there is seen to. In a thread: it takes
        tens of milliseconds, and people chat meanwhile."""
        seen = tuple(self._seen[shape])
        known = self._known.get(shape)
        if known is None or known[0] != len(seen):
            further = tuple(step for step in LADDER if step > self._ladder[-1])
            ladder = (*self._ladder, *(further or (2 * self._ladder[-1],)))
            known = self._known[shape] = len(seen), await asyncio.to_thread(curve.found, ladder, seen)
        return known[1]

    def _host_is_full(self, shape: Shape, levels: Sequence[int]) -> bool:
        """Whether it runs no more at once than it did at the step before."""
        if len(levels) < 2:
            return False
        now, before = (self._at_once(shape, level) for level in (levels[-1], levels[-2]))
        return now < levels[-1] and now <= before

    def _at_once(self, shape: Shape, level: int) -> int:
        return point_of(shape, level, self._visits[shape][level]).at_once

    async def _again(self, site: Site, number: int) -> None:
        for shape, levels in self._visits.items():
            for level in round_order(levels, number):
                await self._visit(site, shape, level)
            while not self._climbed[shape] and len(levels) < len(self._ladder):
                if (await self._found(shape)).place <= len(levels) - 1 - BEYOND:
                    break
                await self._visit(site, shape, self._ladder[len(levels)])
            await self._told()

    async def _visit(self, site: Site, shape: Shape, level: int) -> None:
        self._frame.step(0, f"{level} at once, {shape.told}")
        visit = await site.visit(shape, level, waves=max(WAVES, ALONE // level))
        self._seen[shape].append((level, visit.rate))
        self._visits[shape].setdefault(level, []).append(visit)
        self._frame.step(level, f"{level} at once, {shape.told}")
        await self._told()

    async def _told(self) -> None:
        await self._frame.tell(points=tuple(self._points()), knees=tuple(await self._knees()))

    def _points(self) -> list[Point]:
        return [
            point_of(shape, level, visits)
            for shape, levels in self._visits.items() for level, visits in sorted(levels.items())
        ]  # fmt: skip

    async def _knees(self) -> list[Knee]:
        """Of those shapes whose first round has ended."""
        knees = []
        for shape, full in self._climbed.items():
            levels, found = sorted(self._visits[shape]), await self._found(shape)
            slots, bound = levels[found.place], "most" if found.place == len(levels) - 1 else ""
            at_once = max(self._at_once(shape, level) for level in levels)
            if full and slots >= at_once:
                slots, bound = max(level for level in levels if level <= at_once), "host"
            knees.append(Knee(shape, slots, found.confidence, found.near, bound))
        return knees

    # -- batches, and the setting itself --------------------------------------------------------------------------

    @property
    def _knee(self) -> int:
        """The smallest one: past it, one of the shapes gains nothing."""
        return min(knee.slots for knee in self._frame.study.knees)

    async def _batches(self) -> None:
        """At the knee, with the longest prompts: those are what a batch is for."""
        shape = max(self._asked.shapes, key=lambda one: one.prompt)
        usual = self._asked.base.batch
        batches = sorted({*self._asked.batches, *([usual] if usual else [])})
        sites = {
            batch: await self._frame.site(
                self._asked.base.under(RuntimeSetup(slots=self._knee, batch=batch)), self._asked.context
            )
            for batch in batches
        }
        visits: dict[int, list[Visit]] = {batch: [] for batch in batches}
        self._frame.total = self._frame.done + BATCH_ROUNDS * len(batches) * self._knee
        for number in range(BATCH_ROUNDS):
            for batch in batches if number % 2 == 0 else reversed(batches):
                self._frame.step(0, f"batch {batch}, {self._knee} at once")
                visits[batch].append(await sites[batch].visit(shape, self._knee, waves=1))
                await sites[batch].unload(self._asked.model)
                self._frame.step(self._knee, f"batch {batch}, {self._knee} at once")
        rates = {batch: [visit.rate for visit in made] for batch, made in visits.items()}
        base = rates.get(usual or 0)
        await self._frame.tell(batches=tuple(
            BatchTried(
                batch, log_t(rates[batch]),
                paired_ratio(base, rates[batch]) if base and batch != usual else None,
                point_of(shape, self._knee, made).pause,
            )
            for batch, made in visits.items()
        ))  # fmt: skip

    async def _confirm(self) -> None:
        """The setting that comes out, as it would be applied: so many slots and no more."""
        shape = self._asked.shapes[0]
        change = RuntimeSetup(slots=self._knee, batch=best_batch(self._frame.study.batches))
        site = await self._frame.site(self._asked.base.under(change), self._asked.context)
        self._frame.step(0, f"once more as it would be set: {change.told}")
        found = point_of(shape, self._knee, [await site.visit(shape, self._knee) for _ in range(2)])
        await site.unload(self._asked.model)
        swept = next(one for one in self._frame.study.points if (one.shape, one.slots) == (shape, self._knee))
        notes = self._frame.study.notes
        if found.rate.value < FALLS_SHORT * swept.rate.value:
            notes = (*notes, "Set so, it was slower than in the sweep: something else may have been at work.")
        await self._frame.tell(confirmed=replace(found, slots=self._knee), notes=notes)


def best_batch(tried: Sequence[BatchTried]) -> int | None:
    """The batch that is faster than the one in force beyond doubt and by enough; None where that one stays."""
    better = [
        one for one in tried
        if one.ratio is not None and one.ratio.low is not None and one.ratio.low > 1 and one.ratio.value >= WORTH
    ]  # fmt: skip
    return max(better, key=lambda one: one.ratio.value if one.ratio else 0.0).batch if better else None


def round_order(levels: Iterable[int], number: int) -> list[int]:
    """Smallest, largest, second smallest …, and every other round the other way."""
    ranked = sorted(levels)
    order = [ranked[place // 2 if place % 2 == 0 else -1 - place // 2] for place in range(len(ranked))]
    return order if number % 2 else order[::-1]
