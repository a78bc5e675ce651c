"""Counts what each answer took of its machine: time, and energy where a counter tells.

Once a second, with each look at the hardware, the time since the last one is divided among the answers that were being
made (`sharing`), and with it the joules that were drawn. What nobody ran in is rest. Counters are of the whole machine
that Loupe runs on, so hosts on it are one; of a host elsewhere only the time is known.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress

import structlog

from app.core.hardware import Gpu, HardwareState
from app.core.ports import Clock
from app.services.costing.ledger import Ledger
from app.services.costing.sharing import shares
from app.services.costing.values import DAY, HERE, Books, Rested, UsageKey, Used
from app.services.hardware import Hardware
from app.services.telemetry import FinishedRequest, Telemetry, Trace

WRITE_SECONDS = 10.0
_ON_A_HOST = ("connect", "loading", "prefill", "decode")
_NO_MODEL_RAN = ("hit", "joined")
log = structlog.get_logger(__name__)


class CostWatch:
    """Belongs to the event loop. `here`: whether a host of that name runs on this machine."""

    def __init__(
        self, telemetry: Telemetry, hardware: Hardware, ledger: Ledger, clock: Clock, here: Callable[[str], bool]
    ) -> None:
        self._telemetry, self._hardware, self._ledger, self._clock, self._here = (
            telemetry, hardware, ledger, clock, here,
        )  # fmt: skip
        self._since = clock.monotonic()
        self._seen: HardwareState | None = None
        self._ended: list[tuple[float, float, UsageKey]] = []
        self._used: dict[UsageKey, Used] = {}
        self._rested: dict[int, Rested] = {}
        self._watching: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._failed = False
        telemetry.on_end(self.ended)

    def start(self) -> None:
        self._since = self._clock.monotonic()
        self._watching = asyncio.create_task(self._watch(), name="cost")

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None
        with suppress(OSError, sqlite3.Error):
            await self.flush()
        await asyncio.to_thread(self._ledger.close)

    async def books(self, since: int) -> Books:
        """Of that day and later, up to now. Raises OSError or sqlite3.Error where the file cannot be used."""
        await self.flush()
        return await asyncio.to_thread(self._ledger.read, since)

    async def flush(self) -> None:
        """Write what was counted since. Raises OSError or sqlite3.Error; it is kept for the next time then."""
        async with self._writing:
            used, rested = self._used, self._rested
            if not used and not rested:
                return
            self._used, self._rested = {}, {}
            try:
                await asyncio.to_thread(self._ledger.add, used, rested, self._day)
            except BaseException:
                for key, one in used.items():
                    self._add(key, one)
                for day, rest in rested.items():
                    self._rest(day, rest)
                raise

    # What happens

    def ended(self, record: FinishedRequest) -> None:
        """A request has ended: its tokens are known. Its last seconds are counted with the next look."""
        key = self._key(record.model, record.principal, record.route.alias if record.route else "", record.host)
        usage = record.usage
        if record.cache.outcome in _NO_MODEL_RAN:
            used = self._of(key)
            used.cached += 1
            if usage is not None:
                used.cached_prompt_tokens += usage.prompt_tokens
                used.cached_output_tokens += usage.output_tokens
            return
        began = self._clock.monotonic() - record.seconds
        ran = [(began + span.start, began + span.end, key) for span in record.spans if span.name == "host"]
        if not ran:  # refused, or given up before it came to a host
            return
        used = self._of(key)
        used.requests += 1
        self._ended += [stretch for stretch in ran if stretch[1] > self._since]
        if usage is not None:
            used.prompt_tokens += usage.prompt_tokens
            used.output_tokens += usage.output_tokens
        elif record.pace:  # broken off: hosts send a piece for each token
            used.output_tokens += record.pace[-1][1]

    def look(self, state: HardwareState) -> None:
        """Divide the time since the last look, and what was drawn in it."""
        since, until = self._since, self._clock.monotonic()
        joules = drawn(self._seen, state, until - since) if self._seen is not None else None
        self._since, self._seen = until, state
        stretches = [*self._ended, *self._running(until)]
        self._ended = []
        for machine in {HERE, *(key.machine for _, _, key in stretches)}:
            mine = [stretch for stretch in stretches if stretch[2].machine == machine]
            taken, rest = shares(mine, since, until)
            power = joules / (until - since) if machine == HERE and joules is not None and until > since else None
            for key, seconds in taken.items():
                used = self._of(key)
                used.seconds += seconds
                if power is not None:
                    used.joules += power * seconds
                    used.measured += seconds
            if machine == HERE:
                measured = 0.0 if power is None else rest
                now = self._clock.now()
                self._rest(int(now // DAY), Rested(now, rest, (power or 0.0) * measured, measured))

    # Inside

    async def _watch(self) -> None:
        written = self._clock.monotonic()
        async with aclosing(self._hardware.watch()) as looks:
            async for state in looks:
                if state.number and state is not self._seen:
                    self._looked(state)
                if self._since - written >= WRITE_SECONDS:
                    written = self._since
                    await self._write()

    def _looked(self, state: HardwareState) -> None:
        try:
            self.look(state)
        except Exception:  # what is wrong with one second is no reason to count no other
            log.warning("cost not counted", exc_info=True)

    async def _write(self) -> None:
        try:
            await self.flush()
            self._failed = False
        except (OSError, sqlite3.Error) as error:
            if not self._failed:
                log.warning("the figures of cost cannot be written", error=str(error))
            self._failed = True

    def _running(self, until: float) -> Iterator[tuple[float, float, UsageKey]]:
        for trace in self._telemetry.running():
            if trace.cache.outcome not in _NO_MODEL_RAN and trace.phase.name in _ON_A_HOST:
                key = self._key(trace.model, trace.principal, trace.route.alias if trace.route else "", trace.host)
                yield _admitted(trace, self._since), until, key

    @property
    def _day(self) -> int:
        return int(self._clock.now() // DAY)

    def _key(self, model: str, principal: str, alias: str, host: str) -> UsageKey:
        return UsageKey(self._day, model, principal, alias, HERE if not host or self._here(host) else host)

    def _of(self, key: UsageKey) -> Used:
        found = self._used.get(key)
        if found is None:
            found = self._used[key] = Used()
        return found

    def _add(self, key: UsageKey, used: Used) -> None:
        found = self._of(key)
        found += used

    def _rest(self, day: int, rested: Rested) -> None:
        found = self._rested.setdefault(day, Rested(rested.began))
        found += rested


def _admitted(trace: Trace, otherwise: float) -> float:
    """When it was given to a host: the end of its last waiting, by the monotonic clock."""
    waited = [span.end for span in trace.spans if span.name == "queue"]
    return trace.began + waited[-1] if waited else otherwise


def drawn(before: HardwareState, now: HardwareState, seconds: float) -> float | None:
    """Joules between two looks, by all counters that tell: processor packages and GPUs. None where none does."""
    parts = [now.machine.power * seconds] if now.machine.power is not None else []
    earlier = {gpu.uuid or str(gpu.index): gpu for gpu in before.gpus.devices}
    for gpu in now.gpus.devices:
        joules = _of_gpu(earlier.get(gpu.uuid or str(gpu.index)), gpu, seconds)
        if joules is not None:
            parts.append(joules)
    return sum(parts) if parts else None


def _of_gpu(before: Gpu | None, now: Gpu, seconds: float) -> float | None:
    """By its counter of energy, else by its power now."""
    if before is not None and before.energy is not None and now.energy is not None and now.energy >= before.energy:
        return now.energy - before.energy
    return None if now.power is None else now.power * seconds


def counters(state: HardwareState) -> tuple[str, ...]:
    """What can be measured here: "processor", "GPU 0", …"""
    found = ["processor"] if state.machine.power is not None else []
    for gpu in state.gpus.devices:
        if gpu.energy is not None or gpu.power is not None:
            found.append(f"GPU {gpu.index}")
    return tuple(found)
