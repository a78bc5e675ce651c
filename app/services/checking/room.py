"""Memory that this process can really have: the machine's, or less where its container allows less (cgroup v2)."""

from __future__ import annotations

from pathlib import Path

import psutil

GROUP = Path("/sys/fs/cgroup")


def memory_here(group: Path = GROUP) -> tuple[int, int]:
    """(total, free) in bytes."""
    machine = psutil.virtual_memory()
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no limit ("max"), or no such group
        return machine.total, machine.available
    cached = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
    return min(machine.total, limit), max(0, min(machine.available, limit - used + cached))
