"""The control groups that this process is in, by which Linux keeps a container or a service to less than the machine.

Source: Linux' cgroup v2 (one hierarchy) and v1 (one for each controller, by whose name its folder goes).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def group_folders(
    controller: str, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP
) -> Iterator[tuple[Path, int]]:
    """The folder of every group that limits this process, from its own to the root of what can be seen, each with the
    version of its files. Some do not exist: a container does not see its own path. None where the system is no Linux.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, version = cgroups, 2
        elif controller in controllers.split(","):
            root, version = cgroups / controller, 1
        else:
            continue
        folder = root / path.strip("/")
        for level in (folder, *folder.parents):
            yield level, version
            if level == root:
                break
