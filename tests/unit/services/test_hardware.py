"""Looking at the machine: nothing that goes wrong there goes further than a sentence."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from app.core.hardware import Gpu, Gpus, HardwareState, Machine
from app.models.machine_memory import MachineMemory
from app.services import hardware as hardware_module
from app.services import machine_reading
from app.services.hardware import Hardware, figures
from app.services.machine_reading import FIRST, MachineReader, _name
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio
SECONDS = 30  # a deadline


def idle() -> Machine:
    return Machine(cpu=0.25, memory_used=1 << 30)


def one_gpu() -> Gpus:
    return Gpus((Gpu(0, "test", utilisation=0.5),), "1")


@asynccontextmanager
async def looking(machine: Any = idle, gpus: Any = one_gpu) -> AsyncIterator[Hardware]:
    hardware = Hardware(machine, gpus, FakeClock(), every=0.01)
    hardware.start()
    try:
        yield hardware
    finally:
        await hardware.close()


async def until(hardware: Hardware, seen: Any) -> HardwareState:
    async with asyncio.timeout(SECONDS):
        async for state in hardware.watch():
            if seen(state):
                return state
    raise AssertionError


async def test_every_look_reaches_those_who_watch() -> None:
    async with looking() as hardware:
        state = await until(hardware, lambda state: state.number >= 3 and state.gpus.devices)
    assert state.machine.cpu == 0.25
    assert figures(state) == {"cpu": 0.25, "memory_used": float(1 << 30), "gpu0.utilisation": 0.5}


@pytest.mark.parametrize("error", [RuntimeError("driver"), MemoryError(), KeyError("x"), OSError(5, "I/O")])
async def test_a_reading_that_raises_is_unknown_and_the_next_one_is_tried(error: Exception) -> None:
    failing = threading.Event()
    failing.set()

    def machine() -> Machine:
        if failing.is_set():
            raise error
        return idle()

    async with looking(machine=machine) as hardware:
        state = await until(hardware, lambda state: state.machine.unknown)
        assert state.machine.cpu is None and type(error).__name__ in state.machine.unknown["cpu"]
        assert "cpu" not in figures(state)
        failing.clear()
        await until(hardware, lambda state: state.machine.cpu == 0.25)


async def test_a_driver_that_hangs_costs_the_gpus_alone_and_the_page_says_since_when(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware_module, "SILENT", 0.05)
    answers = threading.Event()
    answers.set()

    def gpus() -> Gpus:
        answers.wait()
        return one_gpu()

    async with looking(gpus=gpus) as hardware:
        await until(hardware, lambda state: state.gpus.devices)
        answers.clear()
        state = await until(hardware, lambda state: "has not answered" in state.gpus.why)
        (lost,) = state.gpus.devices
        assert lost.name == "test" and lost.utilisation is None and lost.lost == state.gpus.why
        assert state.machine.cpu == 0.25 and figures(state).keys() == {"cpu", "memory_used"}
        answers.set()
        await until(hardware, lambda state: state.gpus.devices and not state.gpus.devices[0].lost)


async def test_what_keeps_the_figures_may_fail() -> None:
    kept: list[HardwareState] = []

    def failing(state: HardwareState) -> None:
        kept.append(state)
        raise OSError(28, "no space")

    hardware = Hardware(idle, one_gpu, FakeClock(), every=0.01)
    hardware.on_look(failing)
    hardware.start()
    await until(hardware, lambda state: state.number >= 3)
    await hardware.close()
    assert len(kept) >= 3


def test_slow_readings_come_more_rarely() -> None:
    reading = hardware_module._Reading("x", idle, Machine(), lambda before, why: Machine())
    assert reading.wait(1.0) == 1.0
    reading.took = 0.2
    assert reading.wait(1.0) == pytest.approx(0.8)  # the second is kept
    reading.took = 1.0
    assert reading.wait(1.0) == pytest.approx(4.0)  # a fifth of the time at most


def test_this_machine_is_read_as_psutil_tells_it(tmp_path: Any) -> None:
    clock = FakeClock()
    reader = MachineReader(tmp_path, clock)
    first = reader.read()
    assert first.unknown["network_sent"] == FIRST and first.network_sent is None
    assert first.unknown["cpu"] == FIRST and first.cpu is None and not first.cores
    clock.advance(1)
    second = reader.read()
    assert 0 < (second.memory_total or 0) <= psutil.virtual_memory().total and second.disk_total
    assert len(second.cores) == psutil.cpu_count() and 0 <= (second.cpu or 0) <= 1
    assert second.network_sent is not None and second.network_sent >= 0
    ours = {use.pid: use for use in second.processes}
    assert ours[psutil.Process().pid].memory > 1 << 20 and ours[psutil.Process().pid].cpu is not None


def test_in_a_container_memory_is_what_it_may_have(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_reading, "machine_memory", lambda: MachineMemory(4 << 30, 1 << 30))
    machine = MachineReader(tmp_path, FakeClock()).read()
    assert (machine.memory_used, machine.memory_total) == (3 << 30, 4 << 30)


def test_a_part_that_may_not_be_read_is_unknown_and_the_rest_is_there(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", "/proc/net/dev")

    monkeypatch.setattr(psutil, "net_io_counters", denied)
    monkeypatch.setattr(psutil, "swap_memory", denied)
    machine = MachineReader(tmp_path, FakeClock()).read()
    assert machine.swap_used is None and "Permission denied" in machine.unknown["swap_used"]
    assert machine.network_sent is None and machine.memory_total and machine.disk_total


def test_the_traffic_of_disks_counts_no_byte_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition, a mapping on it, a file that is mounted and memory that is one: the bytes are those of the disk."""
    for name in ("sda", "dm-0", "loop0", "zram0", "cciss!c0d0"):
        (tmp_path / "block" / name / "slaves").mkdir(parents=True)
    (tmp_path / "block/dm-0/slaves/sda1").touch()
    moved = dict.fromkeys(("sda", "sda1", "dm-0", "loop0", "zram0", "cciss/c0d0"), 0)

    def counted(perdisk: bool) -> dict[str, SimpleNamespace]:
        return {name: SimpleNamespace(read_bytes=count, write_bytes=2 * count) for name, count in moved.items()}

    monkeypatch.setattr(psutil, "disk_io_counters", counted)
    monkeypatch.setattr(machine_reading, "BLOCK_DEVICES", tmp_path / "block")
    clock = FakeClock()
    reader = MachineReader(tmp_path, clock)
    reader.read()
    moved.update(dict.fromkeys(moved, 1000))
    clock.advance(2)
    told = reader.read()
    assert (told.disk_read, told.disk_written) == (1000, 2000)  # two disks, in two seconds


def test_a_counter_that_began_anew_gives_no_rate_below_zero(tmp_path: Any) -> None:
    clock = FakeClock()
    reader = MachineReader(tmp_path, clock)
    assert [reader._rate("x", count) for count in (100.0,)][0].why == FIRST  # type: ignore[union-attr]
    clock.advance(2)
    assert reader._rate("x", 300.0) == 100.0
    clock.advance(1)
    assert reader._rate("x", 5.0).why == FIRST  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("python -I /x/app/runtime/worker.py 4744", "model"),
        ("python -m app runtime --port 0", "runtime"),
        ("python -m app serve", "loupe"),
        ("/usr/bin/llama-quantize a b", "llama-quantize"),
        ("", "?"),
    ],
)
def test_a_process_of_ours_is_named_by_what_it_is_for(line: str, name: str) -> None:
    assert _name(line.split()) == name
