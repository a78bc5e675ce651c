"""Is this machine right? Played machines: each warning says what it costs and what to do, and nothing is a guess."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from app.core.checks import Check, Verdict
from app.core.hardware import Gpu, GpuProcess, Gpus
from app.core.hosts import HostAddress, HostState, HostStatus, HostWarning
from app.services.checking import hosts, machine
from app.services.checking.bandwidth import read_bandwidth
from app.services.checking.container import Limits, container, limits
from app.services.checking.gpus import gpus
from app.services.checking.hosts import VariantPace
from app.services.checking.ports import Ports, ports
from app.services.checking.system import Surroundings, SystemCheck
from app.services.checking.telling import in_short

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


def test_a_container_that_may_use_less_than_it_sees_is_warned_about(monkeypatch: Any) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    told = machine.cores(1.5)
    assert told.status is Verdict.WARN and "1.5" in told.found and "num_thread" in told.advice
    assert machine.cores(None).status is Verdict.OK
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    assert machine.cores(None).status is Verdict.WARN and "a second one" in machine.cores(None).advice


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/box\n", {"box/cpu.max": "150000 100000", "cpu.max": "400000 100000", "box/pids.max": "max"}, (1.5, None)),
        ("0::/box\n", {"box/cpu.max": "max 100000", "pids.max": "512"}, (None, 512)),
        (
            "3:pids:/box\n1:cpu,cpuacct:/box\n",
            {"cpu/box/cpu.cfs_quota_us": "50000", "cpu/box/cpu.cfs_period_us": "100000", "pids/box/pids.max": "99"},
            (0.5, 99),
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, (None, None)),
        ("0::/\n", {"cpu.max": "lots", "pids.max": ""}, (None, None)),
    ],
)
def test_the_limits_of_a_container_are_the_tightest_of_its_groups_in_both_versions(
    tmp_path: Path, membership: str, files: dict[str, str], expected: tuple[float | None, int | None]
) -> None:
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(f"{text}\n")
    assert limits(tmp_path / "cgroup", tmp_path / "membership") == Limits(*expected)
    assert limits(tmp_path / "cgroup", tmp_path / "no Linux") == Limits()


def test_what_a_container_allows_is_told_and_too_few_threads_are_warned_about() -> None:
    assert container(Limits(), 16 * GIB, 16 * GIB).found == "none that is below the machine's own"
    told = container(Limits(1.5, 4096), 4 * GIB, 64 * GIB)
    assert told.found == "4.0 GiB of the machine's 64.0 GiB memory, 1.5 cores, 4096 processes and threads"
    few = container(Limits(tasks=100), 16 * GIB, 16 * GIB)
    assert (told.status, few.status) == (Verdict.OK, Verdict.WARN) and "--pids-limit" in few.advice


@pytest.mark.parametrize(
    ("seen", "status", "found"),
    [
        (Ports(8501, "127.0.0.1", ours=True), Verdict.OK, "Loupe, on 127.0.0.1"),
        (Ports(8501, "127.0.0.1", ours=False), Verdict.OK, "free for Loupe"),
        (Ports(8501, "127.0.0.1", ours=False, taken=True), Verdict.WARN, "another program listens there"),
    ],
)
def test_the_port_of_loupe_is_its_own_free_or_taken(seen: Ports, status: Verdict, found: str) -> None:
    own, _ = ports(seen, [])
    assert (own.name, own.status, own.found) == ("port 8501", status, found)
    assert bool(own.advice) is (status is Verdict.WARN)


@pytest.mark.parametrize(
    ("usual_taken", "ollama", "embedded", "status", "found"),
    [
        (False, "", True, Verdict.OK, "free: no Ollama is there"),
        (True, "0.33.0", True, Verdict.WARN, "an Ollama 0.33.0 that is none of the hosts"),
        (True, "0.33.0", False, Verdict.OK, "an Ollama 0.33.0 that is none of the hosts"),
        (True, "", True, Verdict.WARN, "a program that is no Ollama listens there"),
    ],
)
def test_an_ollama_that_nobody_uses_and_a_stranger_at_its_port_are_told(
    usual_taken: bool, ollama: str, embedded: bool, status: Verdict, found: str
) -> None:
    host = HostStatus(HostAddress("other", "http://127.0.0.1:40000", embedded=embedded), HostState.HEALTHY)
    seen = Ports(8501, "127.0.0.1", ours=True, usual_taken=usual_taken, ollama=ollama)
    _, usual = ports(seen, [host])
    assert (usual.name, usual.status, usual.found) == ("port 11434", status, found)
    assert bool(usual.advice) is (status is Verdict.WARN)
    used = HostStatus(HostAddress("ollama", "http://127.0.0.1:11434"), HostState.HEALTHY)
    assert len(list(ports(seen, [used]))) == 1  # the line of that host tells


def test_memory_is_judged_by_the_smallest_model_that_is_here() -> None:
    assert machine.memory(16 * GIB, 10 * GIB, 4 * GIB).status is Verdict.OK
    assert machine.memory(2 * GIB, 1 * GIB, None).status is Verdict.WARN
    told = machine.memory(16 * GIB, 1 * GIB, 4 * GIB)
    assert told.status is Verdict.FAIL and "4.0 GiB" in told.needed and "smaller model" in told.advice
    second = machine.memory(16 * GIB, 1 * GIB, 4 * GIB, loaded=True)
    assert second.status is Verdict.WARN and "beside what is loaded" in second.advice


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
    assert only(gpus(Gpus(why="no NVIDIA GPU here"))).status is Verdict.OK
    assert only(gpus(Gpus(why="the NVIDIA driver is not loaded"))).status is Verdict.UNKNOWN
    lost, slow, well = gpus(
        Gpus(
            (
                Gpu(0, lost="fell off"),
                Gpu(1, "A", throttled=("power limit",)),
                Gpu(2, "B", memory_total=24 * GIB, mig=True),
            ),
            "570",
        )
    )
    assert (lost.status, slow.status, well.status) == (Verdict.FAIL, Verdict.WARN, Verdict.OK)
    assert "slowed by power limit" in slow.found and well.found == "B, 24 GiB, driver 570, split up by MIG"
    assert "restart" in lost.advice


def test_a_gpu_that_the_models_of_this_machine_do_not_use_is_warned_about() -> None:
    own = HostStatus(HostAddress("built-in", "http://127.0.0.1:40000", embedded=True), HostState.HEALTHY)
    ollama = HostStatus(ADDRESS, HostState.HEALTHY)
    _, unused = gpus(Gpus((Gpu(0, "A"),), "570"), [own])
    assert unused.status is Verdict.WARN and "install Ollama" in unused.advice
    assert only(gpus(Gpus((Gpu(0, "A"),), "570"), [own, ollama])).name == "GPU 0"
    assert only(gpus(Gpus(why="no NVIDIA GPU here"), [own])).name == "GPU"


def test_what_other_programs_hold_of_a_gpu_is_told_with_their_names() -> None:
    def memory(*processes: GpuProcess) -> Check:
        gpu = Gpu(0, "A", memory_used=20 * GIB, memory_total=24 * GIB, processes=processes)
        return list(gpus(Gpus((gpu,), "570")))[1]

    model = GpuProcess(7, 12 * GIB, "ollama", "qwen3:8b")
    crowded = memory(GpuProcess(9, 8 * GIB, "python3"), model)
    assert crowded.status is Verdict.WARN and "end them" in crowded.advice
    assert crowded.found == "held by qwen3:8b 12.0 GiB, python3 8.0 GiB"
    assert memory(model, GpuProcess(8, 8 * GIB, "ollama")).status is Verdict.OK
    assert memory(model, GpuProcess(8, None)).found == "held by qwen3:8b 12.0 GiB, process 8"
    assert only(gpus(Gpus((Gpu(0, "A", memory_used=3 * GIB, memory_total=24 * GIB),), "570"))).found == (
        "A, 24 GiB (3.0 of it taken), driver 570"
    )


def test_hosts_are_told_with_their_distance_and_their_known_holes() -> None:
    near = HostStatus(ADDRESS, HostState.HEALTHY, "0.33.0", round_trip=0.002)
    far = HostStatus(ADDRESS, HostState.HEALTHY, "0.33.0", round_trip=0.2)
    down = HostStatus(ADDRESS, HostState.OFFLINE, error="does not answer")
    holes = HostStatus(ADDRESS, HostState.HEALTHY, "0.16.0", warnings=(HostWarning("has a hole"),))
    assert only(hosts.hosts([near])) == Check(
        "host one", Verdict.OK, "10.0.0.7:11434: Ollama 0.33.0, 2.0 ms away", "a host that answers"
    )
    assert only(hosts.hosts([far])).status is Verdict.WARN
    proxied = HostStatus(ADDRESS, HostState.HEALTHY, "0.33.0", "nginx")
    assert only(hosts.hosts([proxied])).found == "10.0.0.7:11434: Ollama 0.33.0, by way of nginx"
    here = HostAddress("own", "http://127.0.0.1:1", embedded=True)
    own = HostStatus(here, HostState.HEALTHY, "0.33.0", "loupe-runtime/1")
    assert only(hosts.hosts([own])).found == "built in: loupe-runtime/1"
    assert only(hosts.hosts([down])).status is Verdict.FAIL and "does not answer" in only(hosts.hosts([down])).found
    spare = list(hosts.hosts([near, down]))[1]
    assert spare.status is Verdict.WARN and "What it alone has" in spare.advice
    stranger = only(hosts.hosts([HostStatus(ADDRESS, HostState.MISCONFIGURED, error="not JSON")]))
    assert stranger.status is Verdict.FAIL and "no Ollama" in stranger.advice and "start it" not in stranger.advice
    starting = only(hosts.hosts([HostStatus(here, HostState.WARMING)]))
    assert starting.status is Verdict.UNKNOWN and "in a moment" in starting.advice
    behind = HostStatus(HostAddress("far", "https://llm.example.org"), HostState.OFFLINE)
    assert only(hosts.hosts([behind])).found == "llm.example.org:443: offline"
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
    slow, busy = next(iter(hosts.speeds([], 5e9))), next(iter(hosts.speeds([], 5e9, busy=True)))
    assert (slow.status, busy.status) == (Verdict.WARN, Verdict.UNKNOWN) and "look again" in busy.advice
    assert list(hosts.speeds([VariantPace("large", 40 * GIB)], 40 * GIB))[1].status is Verdict.WARN


def test_the_bandwidth_of_this_machine_is_one_that_machines_have() -> None:
    assert 1e8 < read_bandwidth(threads=1, seconds=0.01, block=4 << 20) < 1e13


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ((Verdict.OK, Verdict.UNKNOWN), "This machine is right for Loupe."),
        ((Verdict.WARN,), "Works; one thing could be better: c0."),
        ((Verdict.WARN, Verdict.OK, Verdict.WARN), "Works; 2 things could be better: c0, c2."),
        ((Verdict.FAIL,), "One thing does not work: c0."),
        ((Verdict.FAIL, Verdict.WARN, Verdict.FAIL), "2 things do not work: c0, c2; one thing could be better: c1."),
    ],
)
def test_one_sentence_says_what_does_not_work_and_what_could_be_better(
    verdicts: tuple[Verdict, ...], told: str
) -> None:
    assert in_short([Check(f"c{number}", verdict, "") for number, verdict in enumerate(verdicts)]) == told


@pytest.mark.anyio
async def test_a_part_that_raises_costs_only_itself_and_no_home_folder_is_told(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)

    def broken() -> Gpus:
        raise KeyError("driver")

    async def variants() -> tuple[VariantPace, ...]:
        return (VariantPace("small", GIB),)

    def bandwidth() -> float:
        raise MemoryError

    around = Surroundings(
        tmp_path / "data", broken, lambda: (), variants, lambda: [("LOUPE_PORT", "1", "LOUPE_PORT")], ["Odd."]
    )
    (tmp_path / "data").mkdir()
    checks = {check.name: check for check in await SystemCheck(around, bandwidth).run()}
    assert checks["GPU"].status is Verdict.UNKNOWN and checks["memory bandwidth"].status is Verdict.UNKNOWN
    assert checks["disk"].found.endswith("free in ~/data")
    assert checks["settings"] == Check("settings", Verdict.WARN, "LOUPE_PORT=1 (environment)", "", "Odd.")
    assert {"processor", "cores", "memory", "swap", "model host", "open files", "clock", "SQLite"} <= checks.keys()
    assert {"container limits", "system"} <= checks.keys() and checks["system"].status is Verdict.OK
