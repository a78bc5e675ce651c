"""How much memory there is and how much of it is free: the machine's, or less where a control group allows less.

Source: Linux' cgroup v2 (memory.max, memory.current, memory.stat) and v1 (memory.limit_in_bytes, …). What a group holds
in its page cache counts as free: the kernel takes it back before it kills.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from app.models.control_groups import CGROUPS, MEMBERSHIP, group_folders


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """Bytes. `free` can be taken without swapping."""

    total: int
    free: int


@dataclass(frozen=True, slots=True)
class _Files:
    """Names of a hierarchy's files, and of the entries of memory.stat that can be taken back."""

    limit: str
    usage: str
    cache: tuple[str, ...]


_FILES = {
    2: _Files("memory.max", "memory.current", ("inactive_file", "active_file")),
    1: _Files("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
}


def machine_memory(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> MachineMemory:
    """What this process and its children can have now."""
    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    for folder, version in group_folders("memory", cgroups, membership):
        if (group := _group(folder, _FILES[version])) is not None:
            total, free = min(total, group.total), min(free, group.free)
    return MachineMemory(total, max(0, free))


def _group(folder: Path, files: _Files) -> MachineMemory | None:
    """None where there is no limit ("max"), or (in a container, which does not see its own path) no such folder."""
    try:
        limit, usage = (int((folder / name).read_text()) for name in (files.limit, files.usage))
        pairs = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cache = sum(int(value) for name, value in pairs if name in files.cache)
    except (OSError, ValueError):
        return None
    return MachineMemory(limit, limit - usage + cache)
