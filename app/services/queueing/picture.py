"""The queue as it is told: positions, estimates and reasons of those who wait, and what those do who run.

Drawing it costs milliseconds when many wait, so that under load it is done a few times a second, not at each change.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from app.core.ports import Clock
from app.services.queueing.calibration import Calibration
from app.services.queueing.forecast import PLAYED, Played, play, wander
from app.services.queueing.lines import Lane
from app.services.queueing.schedule import Schedule
from app.services.queueing.tickets import Foretold, Ticket
from app.services.queueing.views import Meter, QueueLimits, QueueSnapshot, RunningRow, WaitingRow

AT_ONCE = 24  # so many may wait and every change is drawn
PAUSE = 0.1  # seconds between two drawings when more do
TOLD_KEPT = 64
SURE = 97  # per cent of the outcomes within which all are to have their slot in time
SPARE = 1.08  # times the foretold wait: answers become longer than those that were learned from, several in a row
OVERTAKEN = 1.3  # the same for a flow's further request: it is overtaken by first ones that come later


class Picture:
    """`change` counts what has happened; `longest` is the longest wait foretold, in seconds."""

    def __init__(self, schedule: Schedule, clock: Clock, meter: Meter | None = None) -> None:
        self._schedule, self._clock, self._meter = schedule, clock, meter
        self.calibration = Calibration()
        self.change = 0
        self.longest = 0.0
        self._fresh: Played | None = None  # what was just played for one that came, and may be let in
        self._rows: tuple[WaitingRow, ...] = ()
        self._drawn_at, self._rows_at = 0.0, 0.0
        self._news: asyncio.Event | None = None  # while somebody looks

    def snapshot(
        self, running: Sequence[Ticket], limits: QueueLimits, *, paused: bool, draining: bool
    ) -> QueueSnapshot:
        now = self._clock.monotonic()
        waiting = tuple(replace(row, waited=row.waited + now - self._rows_at) for row in self._rows)
        return QueueSnapshot(waiting, tuple(_running(ticket, now) for ticket in running), limits, paused, draining)

    def changed(self, running: Sequence[Ticket], *, paused: bool) -> None:
        """Something has happened: draw now, or soon."""
        self.change += 1
        if not len(self._schedule.lines):
            self._rows, self.longest = (), 0.0
        elif len(self._schedule.lines) <= AT_ONCE or time.perf_counter() - self._drawn_at >= PAUSE:
            self.draw(running, paused=paused)
        self._fresh = None
        if self._news is not None:
            self._news.set()
            self._news = None

    async def changes(self) -> None:
        self._news = self._news or asyncio.Event()
        await self._news.wait()

    def foretell(self, ticket: Ticket, running: Sequence[Ticket], longest: float) -> float:
        """Seconds after which a ticket that has just come has its slot, as is likely and in nearly all outcomes; 0
        while nothing was measured.

        Where it would overtake somebody who would then wait longer than `longest`, it is that one's wait. Those are not
        counted of whom their own flow has two or more further ones before them than the newcomer's.
        """
        if not self._schedule.pace.known:
            return 0.0
        now, seen, wait = self._clock.monotonic(), Counter[Lane](), None
        played = self._fresh = play(self._schedule, running, now)
        for position, (one, moments, _) in enumerate(played, start=1):
            seen[one.lane] += 1
            if one is ticket:
                if not moments:  # too far behind to be played, or no host is there
                    return self.longest * 2
                likely = self.calibration.eta(position, *self.calibration.estimate(moments)).likely
                wait = max(likely, sorted(moments)[SURE * len(moments) // 100])
                wait *= OVERTAKEN if seen[one.lane] > 1 else SPARE
            elif wait is not None and moments and one.priority is ticket.priority:
                theirs = now - one.entered + sorted(moments)[SURE * len(moments) // 100]
                further = seen[one.lane] - seen[ticket.lane]
                theirs *= OVERTAKEN if further > 0 else SPARE
                if theirs > longest and further <= 1:
                    return max(wait, theirs)
        return wait or 0.0

    def draw(self, running: Sequence[Ticket], *, paused: bool) -> None:
        """Number everyone who waits, and say when and why."""
        now = self._clock.monotonic()
        self._drawn_at, self._rows_at = time.perf_counter(), now
        played, self._fresh = self._fresh, None
        if played is None:
            played = play(self._schedule, running, now) if len(self._schedule.lines) else []
        if self._schedule.pace.known:
            played = wander(self._schedule, running, now, played)
        rows, self.longest = [], 0.0
        for position, (ticket, moments, warm) in enumerate(played, start=1):
            self._number(ticket, position, moments, now)
            if paused:
                ticket.told.clear()  # nobody knows for how long
            ticket.why = _why(ticket, position, paused=paused, served=bool(moments), warm=warm)
            self.longest = max(self.longest, ticket.eta.likely if ticket.eta else 0.0)
            rows.append(
                WaitingRow(
                    ticket.ask.id, ticket.flow, ticket.ask.principal, ticket.ask.model, ticket.priority, position,
                    now - ticket.entered, None if paused else ticket.eta, ticket.why,
                )
            )  # fmt: skip
        self._rows = tuple(rows)

    def _number(self, ticket: Ticket, position: int, moments: Sequence[float], now: float) -> None:
        moved, ticket.position = ticket.position != position, position
        if not (moments and self._schedule.pace.known):
            ticket.eta = None
            return
        likely, middle = self.calibration.estimate(moments)
        ticket.eta = self.calibration.eta(position, likely, middle)
        if moved and len(ticket.told) < TOLD_KEPT:
            ticket.told.append(Foretold(position, now, likely, middle, ticket.eta))

    def refused(self) -> None:
        """The one that came was not let in."""
        self._fresh = None

    def served(self, ticket: Ticket, now: float) -> None:
        """It has its slot: what was foretold is compared with what came."""
        self._fresh = None
        for told in ticket.told:
            self.calibration.learn(told.position, told.likely, told.middle, now - told.at)
            if self._meter is not None:
                self._meter.foretold(told.position, told.eta, now - told.at)
        ticket.told.clear()


def _running(ticket: Ticket, now: float) -> RunningRow:
    ask, host = ticket.ask, ticket.lease.address.name if ticket.lease else ticket.host
    since = now - ticket.began if ticket.began is not None else 0.0
    return RunningRow(
        ask.id, ask.flow, ask.principal, ask.model, ticket.priority, host, ask.phase(), since, ticket.tokens
    )


def _why(ticket: Ticket, position: int, *, paused: bool, served: bool, warm: bool) -> str:
    """Why it waits, in one short sentence."""
    if paused:
        return "dispatch is paused"
    if not served:
        return "no host can take it yet" if position <= PLAYED else "many others go first"
    if ticket.avoid:
        return f"{ticket.avoid} failed, and it waits for another host"
    others = (
        "it is next" if position == 1 else f"{position - 1} others go first" if position > 2 else "one other goes first"
    )
    return others if warm else f"{others}, then its model has to be loaded"
