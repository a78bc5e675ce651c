"""Free memory, where control groups allow less than the machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.models.machine_memory import MachineMemory, machine_memory

MIB = 1 << 20


def group(folder: Path, limit: str, usage: int, *, inactive: int = 0, active: int = 0, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    prefix = "" if version == 2 else "total_"
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    stat = {"anon": usage, f"{prefix}inactive_file": inactive, f"{prefix}active_file": active, "shmem": 5}
    (folder / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in stat.items()))


def read(tmp_path: Path, membership: str) -> MachineMemory:
    told = tmp_path / "membership"
    told.write_text(membership)
    return machine_memory(tmp_path / "cgroup", told)


def test_without_a_group_it_is_the_machines(tmp_path: Path):
    bare = machine_memory(tmp_path / "none", tmp_path / "none")
    assert bare.total > bare.free > 0


def test_a_group_of_version_2_allows_less_and_its_page_cache_counts_as_free(tmp_path: Path):
    group(tmp_path / "cgroup" / "box", str(512 * MIB), 300 * MIB, inactive=100 * MIB, active=50 * MIB)
    assert read(tmp_path, "0::/box\n") == MachineMemory(512 * MIB, 362 * MIB)


def test_the_tightest_of_the_groups_above_counts(tmp_path: Path):
    root = tmp_path / "cgroup"
    group(root / "outer" / "inner", "max", 10 * MIB)
    group(root / "outer", str(256 * MIB), 20 * MIB)
    group(root, str(128 * MIB), 0)
    assert read(tmp_path, "0::/outer/inner\n") == MachineMemory(128 * MIB, 128 * MIB)


def test_version_1_has_its_memory_in_a_hierarchy_of_its_own(tmp_path: Path):
    group(tmp_path / "cgroup" / "memory" / "box", str(512 * MIB), 300 * MIB, inactive=100 * MIB, version=1)
    membership = "5:cpu,cpuacct:/elsewhere\n4:memory:/box\n0::/\n"
    assert read(tmp_path, membership) == MachineMemory(512 * MIB, 312 * MIB)


def test_in_a_container_that_does_not_see_its_own_path_the_root_is_read(tmp_path: Path):
    group(tmp_path / "cgroup", str(64 * MIB), 32 * MIB)
    assert read(tmp_path, "0::/docker/0123456789\n") == MachineMemory(64 * MIB, 32 * MIB)


def test_a_group_over_its_limit_has_nothing_free(tmp_path: Path):
    group(tmp_path / "cgroup", str(64 * MIB), 65 * MIB)
    assert read(tmp_path, "0::/\n").free == 0


@pytest.mark.parametrize("text", ["", "lots", "12 apples"])
def test_files_that_cannot_be_read_are_passed_over(tmp_path: Path, text: str):
    group(tmp_path / "cgroup", text, 1)
    assert read(tmp_path, "0::/\n").total > 64 * MIB
