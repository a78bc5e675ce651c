"""Cost, whole: what is counted while Loupe runs, what is assumed, and what both come to."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from app.core.errors import BadRequest, LoupeError, StoreError
from app.core.generation import Json
from app.core.ports import Clock
from app.services.costing.assumptions import Assumptions, AssumptionsFile
from app.services.costing.ledger import FILE, KEPT_DAYS, Ledger
from app.services.costing.report import PARTS, CostReport, CostRow, machines_of, report
from app.services.costing.values import DAY
from app.services.costing.watch import CostWatch, counters
from app.services.hardware import Hardware
from app.services.telemetry import Telemetry

BY = "variant"
DAYS = 30


@dataclass(frozen=True, slots=True)
class CostView:
    """A report with what it was worked out from. `counters`: what is measured on this machine now, `why` says what
    keeps the rest unknown; `machines`: those that worked in that time, this one first."""

    report: CostReport
    assumed: Assumptions
    counters: tuple[str, ...]
    why: str
    machines: tuple[str, ...]


class Costing:
    """Belongs to the event loop. `here`: whether the host of that name is on this machine. `named` says a principal
    as people know it."""

    def __init__(
        self, telemetry: Telemetry, hardware: Hardware, folder: Path, clock: Clock,
        here: Callable[[str], bool], named: Callable[[str], str] = str,
    ) -> None:  # fmt: skip
        self._hardware, self._folder, self._clock, self._named = hardware, folder, clock, named
        self._file = AssumptionsFile(folder)
        self._watch = CostWatch(telemetry, hardware, Ledger(folder), clock, _surely(here))

    async def start(self) -> None:
        await asyncio.to_thread(self._file.now)
        self._watch.start()

    async def stop(self) -> None:
        await self._watch.stop()

    @property
    def assumed(self) -> Assumptions:
        return self._file.now()

    async def change(self, body: Mapping[str, Json]) -> Assumptions:
        """State assumptions; null takes one back. Raises `BadRequest` or `StoreError`; nothing has changed then."""
        return await asyncio.to_thread(self._file.change, body)

    async def view(self, by: str = BY, days: int = DAYS) -> CostView:
        """Of the last `days` days, today counted. Raises `BadRequest`, or `StoreError` where the books cannot be
        read."""
        if by not in PARTS:
            raise BadRequest(f"by is one of: {', '.join(PARTS)}", "by")
        if not 1 <= days <= KEPT_DAYS:
            raise BadRequest(f"days is a whole number from 1 to {KEPT_DAYS}", "days")
        now = self._clock.now()
        since = int(now // DAY) - days + 1
        try:
            books = await self._watch.books(since)
        except (OSError, sqlite3.Error) as problem:
            raise StoreError(
                f"{self._folder / FILE} cannot be used: {problem}; look at its disk and rights, then try again"
            ) from problem
        told = report(books, self.assumed, by, since, now)
        state = self._hardware.state
        why = "" if counters(state) else state.machine.unknown.get("power") or "not looked yet"
        rows = tuple(replace(row, name=self._word(by, row)) for row in told.rows)
        return CostView(replace(told, rows=rows), self.assumed, counters(state), why, machines_of(books))

    def _word(self, by: str, row: CostRow) -> str:
        if by == "day":
            return datetime.fromtimestamp(int(row.name) * DAY, UTC).date().isoformat()
        return self._named(str(row.name)) if by == "user" else str(row.name)


def _surely(here: Callable[[str], bool]) -> Callable[[str], bool]:
    """A host that is gone was elsewhere: those of this machine come and go with Loupe."""

    def known(name: str) -> bool:
        try:
            return here(name)
        except LoupeError:
            return False

    return known
