"""What a control group (a container, a service of systemd, a batch system) keeps this process to.

Source: Linux' cgroup v2 (cpu.max, pids.max) and v1 (cpu.cfs_quota_us, cpu.cfs_period_us, pids.max).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.checks import Check, Verdict
from app.models.control_groups import CGROUPS, MEMBERSHIP, group_folders

GIB = 1 << 30
TASKS = 256  # processes and threads of Loupe with two models loaded, on a machine with many cores


@dataclass(frozen=True, slots=True)
class Limits:
    """Cores, and processes and threads together; None where there is no limit."""

    cores: float | None = None
    tasks: int | None = None


def limits(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Limits:
    """The tightest of all groups."""
    quotas = (_quota(*found) for found in group_folders("cpu", cgroups, membership))
    tasks = (_tasks(folder) for folder, _ in group_folders("pids", cgroups, membership))
    return Limits(
        min((quota for quota in quotas if quota is not None), default=None),
        min((most for most in tasks if most is not None), default=None),
    )


def container(allowed: Limits, memory: int, machine: int) -> Check:
    """`memory`: bytes that this process may have of the `machine`'s."""
    told = ", ".join(_told(allowed, memory, machine))
    if allowed.tasks is not None and allowed.tasks < TASKS:
        return Check(
            "container limits",
            Verdict.WARN,
            told,
            f"{TASKS} processes and threads",
            "Models fail to load once no thread can be begun: raise the limit (docker run --pids-limit, TasksMax of "
            "systemd).",
        )
    return Check("container limits", Verdict.OK, told or "none that is below the machine's own")


def _told(allowed: Limits, memory: int, machine: int) -> Iterator[str]:
    if memory < machine:
        yield f"{memory / GIB:.1f} GiB of the machine's {machine / GIB:.1f} GiB memory"
    if allowed.cores is not None:
        yield f"{allowed.cores:g} cores"
    if allowed.tasks is not None:
        yield f"{allowed.tasks} processes and threads"


def _quota(folder: Path, version: int) -> float | None:
    try:
        if version == 2:
            most, period = (folder / "cpu.max").read_text().split()
        else:
            most, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return None if most in ("max", "-1") else int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _tasks(folder: Path) -> int | None:
    try:
        return int((folder / "pids.max").read_text())
    except (OSError, ValueError):  # no such folder, or "max"
        return None
