"""What this machine has drawn so far, where it counts that: NVIDIA GPUs (NVML) and Intel's or AMD's processor package.

The counters are of the whole machine, so a figure means something only for work that had the machine to itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
NO_COUNTER = "this machine has no energy counter that may be read"
Counter = Callable[[], float]
"""Joules since some moment in the past."""


class EnergyMeter:
    """Looks for counters at the first reading. Blocks for well under a millisecond."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._powercap = powercap

    def read(self) -> tuple[float, ...] | None:
        """Joules of each counter so far; None where there is none."""
        try:
            return tuple(counter() for counter in self._counters) or None
        except (OSError, ValueError, RuntimeError):
            return None

    def processor(self) -> float | None:
        """Joules of the processor's packages so far; None where they are not told."""
        try:
            return sum(counter() for counter in self._processor) if self._processor else None
        except (OSError, ValueError):
            return None

    def total(self) -> float | None:
        """Joules of all counters together so far; None where there is none."""
        read = self.read()
        return sum(read) if read else None

    @cached_property
    def _counters(self) -> tuple[Counter, ...]:
        return (*self._processor, *_gpus())

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

    def read() -> float:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
        except pynvml.NVMLError as error:
            raise RuntimeError(str(error)) from error

    return read


def drawn(before: tuple[float, ...] | None, after: tuple[float, ...] | None) -> float | None:
    """Joules between two readings; None where a counter was not there, or began anew in between."""
    if before is None or after is None or len(before) != len(after):
        return None
    steps = [late - early for early, late in zip(before, after, strict=True)]
    return sum(steps) if min(steps) >= 0 and sum(steps) > 0 else None
