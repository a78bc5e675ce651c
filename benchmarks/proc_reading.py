"""The machine as /proc tells of it, read without psutil and without anything of the product: what the product's own
figures are held against. Linux.

A reading has counters; `between` makes of two of them what is comparable. Sources: proc(5) of the kernel's manual.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SECTOR = 512  # bytes: the unit of /proc/diskstats, whatever the disk's own sector is
_JIFFY = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Reading:
    """`at` in monotonic seconds; `cores` (busy, all) jiffies of each core; bytes; `processes` (CPU seconds, resident
    bytes) by pid."""

    at: float
    cores: tuple[tuple[int, int], ...]
    memory_used: int
    swap_used: int
    disk_read: int
    disk_written: int
    network_sent: int
    network_received: int
    processes: Mapping[int, tuple[float, int]]


def read(processes: Iterable[int] = ()) -> Reading:
    """Takes about a millisecond. A process that is gone is left out."""
    memory = _memory()
    told, written = _disks()
    sent, received = _network()
    return Reading(
        time.monotonic(), _cores(), memory["MemTotal"] - memory["MemAvailable"],
        memory["SwapTotal"] - memory["SwapFree"], told, written, sent, received,
        {pid: use for pid in processes if (use := _process(pid)) is not None},
    )  # fmt: skip


def between(before: Reading, now: Reading) -> dict[str, float]:
    """Shares 0 to 1, bytes, bytes/s; `core0` and so on; `process PID` in cores, `resident PID` in bytes."""
    seconds = now.at - before.at
    shares = [
        (busy - old_busy) / max(1, every - old_every)
        for (old_busy, old_every), (busy, every) in zip(before.cores, now.cores, strict=True)
    ]
    found = {
        "cpu": sum(shares) / len(shares), "memory_used": float(now.memory_used), "swap_used": float(now.swap_used),
    } | {f"core{number}": share for number, share in enumerate(shares)}  # fmt: skip
    for name in ("disk_read", "disk_written", "network_sent", "network_received"):
        found[name] = (getattr(now, name) - getattr(before, name)) / seconds
    for pid, (spent, resident) in now.processes.items():
        found[f"resident {pid}"] = float(resident)
        if pid in before.processes:
            found[f"process {pid}"] = (spent - before.processes[pid][0]) / seconds
    return found


def family(top: int) -> tuple[int, ...]:
    """A process and all that it started, by the parents in /proc/PID/stat."""
    parents = {int(one.name): _stat(int(one.name)) for one in PROC.iterdir() if one.name.isdecimal()}
    found = [top]
    for pid in found:
        found += [child for child, stat in parents.items() if stat and int(stat[1]) == pid]
    return tuple(found)


def _cores() -> tuple[tuple[int, int], ...]:
    """Busy is all but idle and waiting for disks; the time of guests is in that of users already."""
    found = []
    for line in (PROC / "stat").read_text().splitlines():
        name, *counts = line.split()
        if name.startswith("cpu") and name != "cpu":
            spent = [int(count) for count in counts[:8]]
            found.append((sum(spent) - spent[3] - spent[4], sum(spent)))
    return tuple(found)


def _memory() -> dict[str, int]:
    rows = (line.split() for line in (PROC / "meminfo").read_text().splitlines())
    return {name.rstrip(":"): int(size) * 1024 for name, size, *_ in rows}


def _disks() -> tuple[int, int]:
    """Of disks, not of their partitions, nor of what lies on other disks (mappings, arrays)."""
    told = written = 0
    for line in (PROC / "diskstats").read_text().splitlines():
        _, _, name, *counts = line.split()
        block = Path("/sys/block", name.replace("/", "!"))
        if block.exists() and not any((block / "slaves").glob("*")):
            told, written = told + int(counts[2]) * SECTOR, written + int(counts[6]) * SECTOR
    return told, written


def _network() -> tuple[int, int]:
    sent = received = 0
    for line in (PROC / "net/dev").read_text().splitlines()[2:]:
        name, _, counts = line.partition(":")
        if name.strip() != "lo":
            columns = counts.split()
            received, sent = received + int(columns[0]), sent + int(columns[8])
    return sent, received


def _process(pid: int) -> tuple[float, int] | None:
    stat = _stat(pid)
    return None if stat is None else ((int(stat[11]) + int(stat[12])) * _JIFFY, int(stat[21]) * _PAGE)


def _stat(pid: int) -> list[str] | None:
    """The fields behind the name, which may hold spaces and brackets: the first is the state."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
