"""Energy counters as this machine's kernel shows them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.services import energy
from app.services.energy import EnergyMeter, drawn
from tests.fake_nvml import FakeGpu, FakeLibrary, installed

pytestmark = pytest.mark.anyio


def zone(folder: Path, name: str, text: str) -> Path:
    (folder / name).mkdir(parents=True)
    file = folder / name / "energy_uj"
    file.write_text(text)
    return file


async def test_packages_are_added_and_what_is_part_of_one_is_not(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "intel-rapl:0", "1000000\n"), zone(tmp_path, "intel-rapl:1", "5000000\n")
    zone(tmp_path, "intel-rapl:0:0", "900000\n")
    meter = EnergyMeter(tmp_path)
    before = await meter.read()
    assert before is not None and before[:2] == (1.0, 5.0)
    first.write_text("3500000\n")
    second.write_text("6000000\n")
    after = await meter.read()
    assert after is not None and drawn(before[:2], after[:2]) == pytest.approx(3.5)


async def test_a_gpu_is_a_counter_too(tmp_path: Path) -> None:
    with installed(FakeLibrary(FakeGpu(millijoules=1500))):
        assert await EnergyMeter(tmp_path).read() == (1.5,)


@pytest.mark.parametrize("problem", [999, AttributeError("nvmlX"), ValueError("no text")])
async def test_a_driver_that_answers_nonsense_is_no_counter(tmp_path: Path, problem: int | Exception) -> None:
    class Strange(FakeLibrary):
        def _nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu, joules: Any) -> int:  # type: ignore[override]
            if isinstance(problem, Exception):
                raise problem
            return problem

    with installed(Strange(FakeGpu())):
        assert await EnergyMeter(tmp_path).read() is None


async def test_a_driver_that_hangs_is_waited_for_once_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, meter = FakeLibrary(FakeGpu(millijoules=1500)), EnergyMeter(tmp_path)
    monkeypatch.setattr(energy, "DRIVER_SECONDS", 0.05)
    library.running.clear()
    with installed(library):
        try:
            async with asyncio.timeout(30):
                assert await meter.read() is None
                monkeypatch.setattr(energy, "DRIVER_SECONDS", -1.0)
                assert await meter.read() is None
        finally:
            library.running.set()
        monkeypatch.setattr(energy, "DRIVER_SECONDS", 30.0)
        async with asyncio.timeout(30):
            while await meter.read() != (1.5,):
                await asyncio.sleep(0)


def test_without_a_counter_there_is_no_figure(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "nonsense")
    assert EnergyMeter(tmp_path)._packages() == []
    assert drawn(None, (1.0,)) is None


@pytest.mark.parametrize(("before", "after"), [((5.0,), (1.0,)), ((1.0,), (1.0,)), ((1.0,), (2.0, 3.0))])
def test_a_counter_that_began_anew_or_stands_still_tells_nothing(
    before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    assert drawn(before, after) is None
