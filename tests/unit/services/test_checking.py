"""Is this machine right? Played machines: each warning says what it costs and what to do, and nothing is a guess."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from app.core.checks import Check, Verdict
from app.core.hardware import Gpu, Gpus
from app.core.hosts import HostAddress, HostState, HostStatus, HostWarning
from app.services.checking import hosts, machine
from app.services.checking.bandwidth import read_bandwidth
from app.services.checking.hosts import VariantPace
from app.services.checking.system import Surroundings, SystemCheck

GIB = 1 << 30
ADDRESS = HostAddress("one", "http://10.0.0.7:11434")


def only(checks: Iterable[Check]) -> Check:
    (check,) = checks
    return check


def cpu(tmp_path: Path, text: str, kind: str = "x86_64") -> Check:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    return machine.processor(file, kind)


@pytest.mark.parametrize(
    ("text", "kind", "status", "found"),
    [
        (
            "model name\t: EPYC\nflags\t: fma f16c avx2 avx512f\n",
            "x86_64",
            Verdict.OK,
            "EPYC: AVX2, FMA, F16C, AVX-512",
        ),
        ("model name\t: Old\nflags\t: sse2 avx\n", "x86_64", Verdict.WARN, "Old: no AVX"),
        ("Features\t: asimd asimddp\n", "aarch64", Verdict.OK, "aarch64: asimd, asimddp"),
    ],
)
def test_a_processor_without_wide_vectors_is_warned_about(
    tmp_path: Path, text: str, kind: str, status: Verdict, found: str
) -> None:
    told = cpu(tmp_path, text, kind)
    assert (told.status, told.found) == (status, found)
    assert machine.processor(tmp_path / "none", "arm64").status is Verdict.UNKNOWN


def test_a_container_that_may_use_less_than_it_sees_is_warned_about(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    quota = tmp_path / "cpu.max"
    quota.write_text("150000 100000\n")
    told = machine.cores(quota)
    assert told.status is Verdict.WARN and "1.5" in told.found and "num_thread" in told.advice
    quota.write_text("max 100000\n")
    assert machine.cores(quota).status is Verdict.OK


def test_memory_is_judged_by_the_smallest_model_that_is_here() -> None:
    assert machine.memory(16 * GIB, 10 * GIB, 4 * GIB).status is Verdict.OK
    assert machine.memory(2 * GIB, 1 * GIB, None).status is Verdict.WARN
    told = machine.memory(16 * GIB, 1 * GIB, 4 * GIB)
    assert told.status is Verdict.FAIL and "4.0 GiB" in told.needed and "smaller model" in told.advice


def test_disk_files_clock_and_sqlite_say_what_they_cost(tmp_path: Path, monkeypatch: Any) -> None:
    room, speed = machine.disk(tmp_path)
    assert room.name == "disk" and speed.name == "disk speed" and "MiB/s" in speed.found
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: type("U", (), {"free": GIB // 2})())
    assert only(machine.disk(tmp_path, measure=False)).status is Verdict.FAIL
    assert next(iter(machine.disk(tmp_path / "none", measure=False))).status is Verdict.FAIL
    assert machine.files(256).status is Verdict.WARN and "ulimit -n" in machine.files(256).advice
    assert machine.files(-1).status is Verdict.OK
    assert machine.clock(lambda: 1e9, built=1.7e9).status is Verdict.WARN
    assert machine.clock(lambda: 1.8e9, built=1.7e9).status is Verdict.OK
    assert machine.sqlite((3, 40, 1)).status is Verdict.WARN and machine.sqlite((3, 52, 0)).status is Verdict.OK


def test_a_gpu_that_is_lost_slowed_or_not_to_be_asked_is_told_apart_from_none() -> None:
    assert only(machine.gpu(Gpus(why="no NVIDIA GPU here"))).status is Verdict.OK
    assert only(machine.gpu(Gpus(why="the NVIDIA driver is not loaded"))).status is Verdict.UNKNOWN
    lost, slow, well = machine.gpu(
        Gpus(
            (Gpu(0, lost="fell off"), Gpu(1, "A", throttled=("power limit",)), Gpu(2, "B", memory_total=24 * GIB)),
            "570",
        )
    )
    assert (lost.status, slow.status, well.status) == (Verdict.FAIL, Verdict.WARN, Verdict.OK)
    assert "slowed by power limit" in slow.found and well.found == "B, 24 GiB, driver 570"


def test_hosts_are_told_with_their_distance_and_their_known_holes() -> None:
    near = HostStatus(ADDRESS, HostState.HEALTHY, "0.33.0", round_trip=0.002)
    far = HostStatus(ADDRESS, HostState.HEALTHY, "0.33.0", round_trip=0.2)
    down = HostStatus(ADDRESS, HostState.OFFLINE, error="does not answer")
    holes = HostStatus(ADDRESS, HostState.HEALTHY, "0.16.0", warnings=(HostWarning("has a hole"),))
    assert only(hosts.hosts([near])) == Check(
        "host one", Verdict.OK, "10.0.0.7:11434: Ollama 0.33.0, 2.0 ms away", "a host that answers"
    )
    assert only(hosts.hosts([far])).status is Verdict.WARN
    assert only(hosts.hosts([down])).status is Verdict.FAIL and "does not answer" in only(hosts.hosts([down])).found
    assert [check.status for check in hosts.hosts([holes])] == [Verdict.OK, Verdict.WARN]
    assert only(hosts.hosts([])).status is Verdict.FAIL


def test_what_memory_allows_is_a_limit_and_what_is_above_it_was_measured_wrongly() -> None:
    variants = [VariantPace("small", GIB, 30.0), VariantPace("new", 2 * GIB), VariantPace("magic", GIB, 200.0)]
    band, new, *measured = hosts.speeds(variants, 40 * GIB)
    assert band.status is Verdict.OK and new.found == "at most 20 tokens/s (memory)"
    by_name = {check.name: check for check in measured}
    assert by_name["speed small"].found == "at most 40 tokens/s (memory), measured 30.0 (75%)"
    assert by_name["speed magic"].status is Verdict.UNKNOWN and "error of measuring" in by_name["speed magic"].advice
    experts = list(hosts.speeds([VariantPace("experts", 8 * GIB, 30.0, reads=GIB)], 40 * GIB))[1]
    assert experts.status is Verdict.OK and experts.found == "at most 40 tokens/s (memory), measured 30.0 (75%)"
    assert [check.status for check in hosts.speeds(variants, None)] == [Verdict.UNKNOWN]
    assert list(hosts.speeds([VariantPace("large", 40 * GIB)], 40 * GIB))[1].status is Verdict.WARN


def test_the_bandwidth_of_this_machine_is_one_that_machines_have() -> None:
    assert 1e8 < read_bandwidth(threads=1, seconds=0.01, block=4 << 20) < 1e13


@pytest.mark.anyio
async def test_a_part_that_raises_costs_only_itself_and_no_home_folder_is_told(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)

    def gpus() -> Gpus:
        raise KeyError("driver")

    async def variants() -> tuple[VariantPace, ...]:
        return (VariantPace("small", GIB),)

    def bandwidth() -> float:
        raise MemoryError

    around = Surroundings(
        tmp_path / "data", gpus, lambda: (), variants, lambda: [("LOUPE_PORT", "1", "LOUPE_PORT")], ["Odd."]
    )
    (tmp_path / "data").mkdir()
    checks = {check.name: check for check in await SystemCheck(around, bandwidth).run()}
    assert checks["GPU"].status is Verdict.UNKNOWN and checks["memory bandwidth"].status is Verdict.UNKNOWN
    assert checks["disk"].found.endswith("free in ~/data")
    assert checks["settings"] == Check("settings", Verdict.WARN, "LOUPE_PORT=1 (LOUPE_PORT)", "", "Odd.")
    assert {"processor", "cores", "memory", "swap", "model host", "open files", "clock", "SQLite"} <= checks.keys()
