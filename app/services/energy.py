"""What this machine has drawn so far, where it counts that: NVIDIA GPUs (NVML) and Intel's or AMD's processor package.

The counters are of the whole machine, so a figure means something only for work that had the machine to itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
NO_COUNTER = "this machine has no energy counter that may be read"
DRIVER_SECONDS = 0.5  # that a GPU's driver is waited for
Counter = Callable[[], float]
"""Joules since some moment in the past."""


class EnergyMeter:
    """Looks for counters at the first reading."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._powercap = powercap
        self._asked: tuple[float, Future[tuple[float, ...] | None]] | None = None  # since when, and the driver's answer

    async def read(self) -> tuple[float, ...] | None:
        """Joules of each counter so far; None where there is none, or where one does not answer. A GPU's driver may
        hang: it is asked in a thread, and one that hangs is waited for once."""
        gpus = await self._gpus()
        try:
            return None if gpus is None else (*(counter() for counter in self._processor), *gpus) or None
        except (OSError, ValueError):
            return None

    def processor(self) -> float | None:
        """Joules of the processor's packages so far; None where they are not told."""
        try:
            return sum(counter() for counter in self._processor) if self._processor else None
        except (OSError, ValueError):
            return None

    async def total(self) -> float | None:
        """Joules of all counters together so far; None as for `read`."""
        read = await self.read()
        return sum(read) if read else None

    async def _gpus(self) -> tuple[float, ...] | None:
        if self._asked is None or self._asked[1].done():
            self._asked = time.monotonic(), Future()
            threading.Thread(target=self._answer, args=(self._asked[1],), name="loupe-energy", daemon=True).start()
        since, answer = self._asked
        left = since + DRIVER_SECONDS - time.monotonic()
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(answer)), max(0.0, left))
        return None

    def _answer(self, future: Future[tuple[float, ...] | None]) -> None:
        try:
            future.set_result(tuple(counter() for counter in self._gpu_counters))
        except Exception:  # whatever a driver's binding thinks of: a figure is missing, and no answer fails
            future.set_result(None)

    @cached_property
    def _gpu_counters(self) -> tuple[Counter, ...]:
        return tuple(_gpus())

    @cached_property
    def _processor(self) -> tuple[Counter, ...]:
        return tuple(self._packages())

    def _packages(self) -> list[Counter]:
        """`intel-rapl:N` are the packages (AMD's too); what stands below one is part of it. Most systems let root
        alone read them."""
        found: list[Counter] = []
        for zone in sorted(self._powercap.glob("intel-rapl:?")):
            with contextlib.suppress(OSError, ValueError):
                counter = _package(zone)
                counter()
                found.append(counter)
        return found


def _package(zone: Path) -> Counter:
    def read() -> float:
        return int((zone / "energy_uj").read_text()) / 1e6

    return read


def _gpus() -> list[Counter]:
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(at) for at in range(pynvml.nvmlDeviceGetCount())]
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return []
    return [_gpu(handle) for handle in handles]


def _gpu(handle: object) -> Counter:
    import pynvml

    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000


def drawn(before: tuple[float, ...] | None, after: tuple[float, ...] | None) -> float | None:
    """Joules between two readings; None where a counter was not there, or began anew in between."""
    if before is None or after is None or len(before) != len(after):
        return None
    steps = [late - early for early, late in zip(before, after, strict=True)]
    return sum(steps) if min(steps) >= 0 and sum(steps) > 0 else None
