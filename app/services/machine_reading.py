"""Processor, memory, disk and network of this machine by psutil, and what our own processes take of it.

Rates are taken between two readings, so the first one knows none. A part that may not be read is unknown and costs the
other parts nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from app.core.hardware import MODEL, Machine, ProcessUse
from app.core.ports import Clock
from app.models.machine_memory import machine_memory
from app.services.energy import NO_COUNTER, EnergyMeter

FAMILY_LOOKS = 5  # looks between two searches for processes of ours
FIRST = "known from the second look on"
BLOCK_DEVICES = Path("/sys/block")
NO_DISKS = ("loop", "ram", "zram")  # what these carry lies in a file, or in memory
_UNREADABLE = (OSError, RuntimeError, ValueError, AttributeError, NotImplementedError, psutil.Error)


class MachineReader:
    """Blocks for some milliseconds. Not for two threads at once. `folder`: whose disk is looked at."""

    def __init__(self, folder: Path, clock: Clock, energy: EnergyMeter | None = None) -> None:
        self._folder, self._clock = folder, clock
        self._energy = energy or EnergyMeter()
        self._counters: dict[str, tuple[float, float]] = {}  # by name: when, and how much by then
        self._ours: dict[int, psutil.Process] = {}
        self._looks = 0
        self._asked_in = 0  # the thread that has asked how busy the processor is

    def read(self) -> Machine:
        unknown: dict[str, str] = {}
        values: dict[str, Any] = {}
        for names, ask in self._parts.items():
            try:
                answers = ask()
            except _UNREADABLE as error:
                unknown |= dict.fromkeys(names, f"the system does not tell: {_short(error)}")
                continue
            for name, answer in zip(names, answers, strict=True):
                if isinstance(answer, _Unknown):
                    unknown[name] = answer.why
                else:
                    values[name] = answer
        return Machine(**values, unknown=unknown)

    @property
    def _parts(self) -> dict[tuple[str, ...], Callable[[], tuple[Any, ...]]]:
        return {
            ("cpu", "cores"): self._processor,
            ("memory_used", "memory_total"): _memory,
            ("swap_used", "swap_total"): _swap,
            ("disk_free", "disk_total"): self._disk,
            ("disk_read", "disk_written"): self._traffic_of_disks,
            ("network_sent", "network_received"): self._network,
            ("power",): self._power,
            ("processes",): self._processes,
        }

    def _processor(self) -> tuple[Any, Any]:
        """The first answer that a thread gets of psutil is a zero that means nothing."""
        cores = tuple(share / 100 for share in psutil.cpu_percent(percpu=True))
        if self._asked_in != threading.get_ident():
            self._asked_in = threading.get_ident()
            return (_Unknown(FIRST),) * 2
        return sum(cores) / max(1, len(cores)), cores

    def _disk(self) -> tuple[int, int]:
        usage = psutil.disk_usage(str(self._folder))
        return usage.free, usage.total

    def _traffic_of_disks(self) -> tuple[Any, Any]:
        counted = psutil.disk_io_counters(perdisk=True)
        if not counted:
            return (_Unknown("this system counts no disk traffic"),) * 2
        disks = [one for name, one in counted.items() if _whole_disk(name)]
        read, written = (sum(getattr(one, key) for one in disks) for key in ("read_bytes", "write_bytes"))
        return self._rate("read", read), self._rate("written", written)

    def _network(self) -> tuple[Any, Any]:
        """Of all interfaces but the loopback, whose traffic never leaves the machine."""
        counted = {name: one for name, one in psutil.net_io_counters(pernic=True).items() if not _loopback(name)}
        sent, received = (sum(getattr(one, key) for one in counted.values()) for key in ("bytes_sent", "bytes_recv"))
        return self._rate("sent", sent), self._rate("received", received)

    def _power(self) -> tuple[Any]:
        joules = self._energy.processor()
        return (_Unknown(NO_COUNTER) if joules is None else self._rate("joules", joules),)

    def _rate(self, name: str, count: float) -> float | _Unknown:
        """Per second since the last reading; a counter that began anew tells nothing."""
        now = self._clock.monotonic()
        when, before = self._counters.get(name, (now, count))
        self._counters[name] = (now, count)
        if now <= when or count < before:
            return _Unknown(FIRST)
        return (count - before) / (now - when)

    def _processes(self) -> tuple[tuple[ProcessUse, ...]]:
        """This process and all that it started, found anew at every fifth look: for that the system's whole list is
        read. psutil tells a process's share of a core since it was last asked."""
        known = dict(self._ours)
        if self._looks % FAMILY_LOOKS == 0:
            top = known.get(os.getpid()) or psutil.Process()
            self._ours = {one.pid: known.get(one.pid, one) for one in (top, *top.children(recursive=True))}
        self._looks += 1
        uses = (_use(one, asked_before=pid in known) for pid, one in self._ours.items())
        return (tuple(use for use in uses if use),)


class _Unknown:
    def __init__(self, why: str) -> None:
        self.why = why


def _memory() -> tuple[int, int]:
    """In a container, of what it may have."""
    memory = machine_memory()
    return memory.total - memory.free, memory.total


def _swap() -> tuple[int, int]:
    swap = psutil.swap_memory()
    return swap.used, swap.total


def _use(process: psutil.Process, *, asked_before: bool) -> ProcessUse | None:
    try:
        with process.oneshot():
            cpu = process.cpu_percent() / 100
            return ProcessUse(
                process.pid, _name(process.cmdline()), cpu if asked_before else None, process.memory_info().rss
            )
    except psutil.Error:
        return None  # it has just ended


def _name(words: list[str]) -> str:
    """What a process of ours is for, from its command line."""
    said = " ".join(words)
    if "worker.py" in said:
        return MODEL
    if "-m app runtime" in said or "app.runtime" in said:
        return "runtime"
    return "loupe" if "-m app" in said else Path(words[0]).name if words else "?"


def _whole_disk(name: str) -> bool:
    """Whether it is a disk of its own: no partition, and no mapping or array, whose bytes the disks below count, too.
    Where the system does not show that, each one counts."""
    if not BLOCK_DEVICES.is_dir():
        return True
    device = BLOCK_DEVICES / name.replace("/", "!")
    return device.is_dir() and not name.startswith(NO_DISKS) and not any((device / "slaves").glob("*"))


def _loopback(name: str) -> bool:
    return name == "lo" or name.startswith(("lo0", "Loopback"))


def _short(error: BaseException) -> str:
    told = error.strerror if isinstance(error, OSError) else ""
    return (told or str(error) or type(error).__name__).splitlines()[0][:120]
