"""NVIDIA's GPUs, read by the real binding over a library that answers as drivers do, and as they fail."""

from __future__ import annotations

import pynvml
import pytest

from app.backends.nvml import AGAIN_SECONDS, NO_GPU, PCIE_A_LOOK, NvidiaGpus
from app.core.hardware import GpuProcess
from tests.fake_nvml import FakeGpu, FakeLibrary, installed
from tests.fakes import FakeClock

NOT_TOLD = {
    "nvmlDeviceGetUtilizationRates": "utilisation",
    "nvmlDeviceGetMemoryInfo_v2": "memory_used",
    "nvmlDeviceGetTemperatureV": "temperature",
    "nvmlDeviceGetPowerUsage": "power",
    "nvmlDeviceGetEnforcedPowerLimit": "power_limit",
    "nvmlDeviceGetClockInfo": "clock",
    "nvmlDeviceGetCurrentClocksEventReasons": "throttled",
    "nvmlDeviceGetPcieThroughput": "pcie_sent",
    "nvmlDeviceGetTotalEnergyConsumption": "energy",
    "nvmlDeviceGetComputeRunningProcesses_v3": "processes",
    "nvmlDeviceGetMigMode": "mig",
}


def test_a_gpu_tells_all_that_its_driver_knows_in_the_units_of_people() -> None:
    gpu = FakeGpu(processes=[(4321, 5 << 30), (77, pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value)])
    with installed(FakeLibrary(gpu)):
        gpus = NvidiaGpus().read()
    (told,) = gpus.devices
    assert (gpus.driver, gpus.why, told.unknown) == ("570.86", "", {})
    assert (told.name, told.uuid, told.utilisation) == ("NVIDIA Test GPU", "GPU-0000", 0.4)
    assert (told.memory_used, told.memory_total, told.temperature) == (6 << 30, 24 << 30, 61)
    assert (told.power, told.power_limit, told.energy) == (180.5, 350, 123_456.789)
    assert (told.clock, told.memory_clock, told.pcie_sent, told.pcie_received) == (1950, 10501, 1200 << 10, 34000 << 10)
    assert told.processes == (GpuProcess(77, None), GpuProcess(4321, 5 << 30))
    assert told.mig is False and told.throttled == ()


@pytest.mark.parametrize(("function", "name"), NOT_TOLD.items())
@pytest.mark.parametrize(
    ("status", "why"),
    [
        (pynvml.NVML_ERROR_NOT_SUPPORTED, "this GPU does not tell"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "may not be asked from here"),
        (pynvml.NVML_ERROR_UNKNOWN, "the driver answers: Unknown Error"),
        (4711, "the driver answers: "),
    ],
)
def test_what_a_gpu_does_not_tell_is_unknown_with_a_reason_and_the_rest_is_there(
    function: str, name: str, status: int, why: str
) -> None:
    with installed(FakeLibrary(FakeGpu(errors={function: status}))):
        (told,) = NvidiaGpus().read().devices
    assert getattr(told, name) is None and told.unknown[name].startswith(why)
    known = {"utilisation", "power", "temperature", "energy"} - {name}
    assert all(getattr(told, other) is not None for other in known)


def test_an_old_driver_is_asked_in_the_way_that_it_knows() -> None:
    class Old(FakeLibrary):
        _nvmlDeviceGetMemoryInfo_v2 = None  # type: ignore[assignment]
        _nvmlDeviceGetTemperatureV = None  # type: ignore[assignment]
        _nvmlDeviceGetCurrentClocksEventReasons = None  # type: ignore[assignment]

    with installed(Old(FakeGpu(reasons=pynvml.nvmlClocksEventReasonSwPowerCap))):
        (told,) = NvidiaGpus().read().devices
    assert (told.memory_used, told.temperature, told.throttled) == (6 << 30, 61, ("power limit",))


@pytest.mark.parametrize(("gpus", "looks"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_of_many_gpus_four_tell_their_traffic_in_a_look_since_each_takes_its_time(gpus: int, looks: int) -> None:
    library = FakeLibrary(*(FakeGpu(uuid=f"GPU-{at}".encode()) for at in range(gpus)))
    reader = NvidiaGpus()
    with installed(library):
        assert {gpu.pcie_sent for gpu in reader.read().devices} == {1_200 << 10}  # at first of all: none is unknown
        for gpu in library.gpus:
            gpu.pcie = (7, 8)
        seen: list[int] = []
        for _ in range(looks):
            told = [gpu.pcie_sent for gpu in reader.read().devices]
            seen.append(told.count(7 << 10))
    assert seen[-1] == gpus and seen[0] <= PCIE_A_LOOK
    assert told == [7 << 10] * gpus


def test_only_what_slows_a_gpu_counts_as_throttling() -> None:
    idle = FakeGpu(reasons=pynvml.nvmlClocksEventReasonGpuIdle | pynvml.nvmlClocksEventReasonApplicationsClocksSetting)
    hot = FakeGpu(reasons=pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonHwThermalSlowdown)
    with installed(FakeLibrary(idle, hot)):
        devices = NvidiaGpus().read().devices
    assert [told.throttled for told in devices] == [(), ("power limit", "temperature (hardware)")]


def test_mig_is_named_as_the_reason_why_nobody_tells_how_busy_it_is() -> None:
    refused = {"nvmlDeviceGetUtilizationRates": pynvml.NVML_ERROR_NOT_SUPPORTED}
    with installed(FakeLibrary(FakeGpu(mig=1, errors=refused))):
        (told,) = NvidiaGpus().read().devices
    assert told.mig is True and told.unknown["utilisation"].startswith("MIG is on")


@pytest.mark.parametrize(
    ("errors", "why"),
    [
        ({"nvmlInitWithFlags": pynvml.NVML_ERROR_DRIVER_NOT_LOADED}, "the NVIDIA driver is not loaded"),
        ({"nvmlInitWithFlags": pynvml.NVML_ERROR_NO_PERMISSION}, "the NVIDIA driver may not be asked from here"),
        ({"nvmlInitWithFlags": pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH}, "the NVIDIA driver was updated under way"),
        ({"nvmlDeviceGetCount_v2": pynvml.NVML_ERROR_UNKNOWN}, "the NVIDIA driver answers: Unknown Error"),
    ],
)
def test_a_driver_that_cannot_be_asked_is_told_in_a_sentence(errors: dict[str, int], why: str) -> None:
    with installed(FakeLibrary(FakeGpu(), errors=errors)):
        gpus = NvidiaGpus().read()
    assert gpus.devices == () and gpus.why.startswith(why)


def test_without_a_driver_or_without_a_gpu_there_is_no_gpu_and_it_is_looked_for_again_later() -> None:
    clock = FakeClock()
    reader = NvidiaGpus(clock.monotonic)
    with installed(None):
        assert reader.read().why == NO_GPU
    library = FakeLibrary()
    with installed(library):
        assert reader.read().why == NO_GPU and library.inits == 0  # not every second
        clock.advance(AGAIN_SECONDS)
        assert reader.read().why == NO_GPU and library.inits == 1
        library.gpus.append(FakeGpu())
        assert len(reader.read().devices) == 1


def test_a_gpu_that_is_lost_in_mid_run_is_said_to_be_and_the_others_go_on() -> None:
    clock = FakeClock()
    reader = NvidiaGpus(clock.monotonic)
    library = FakeLibrary(FakeGpu(), FakeGpu(uuid=b"GPU-1111"))
    with installed(library):
        assert not any(gpu.lost for gpu in reader.read().devices)
        library.gpus[0].errors["*"] = pynvml.NVML_ERROR_GPU_IS_LOST
        first, second = reader.read().devices
        assert "fell off the bus" in first.lost and first.utilisation is None
        assert second.lost == "" and second.utilisation == 0.4
        library.gpus[0].errors["*"] = pynvml.NVML_ERROR_RESET_REQUIRED
        assert "has to be reset" in reader.read().devices[0].lost
        library.gpus[0].errors.clear()
        clock.advance(AGAIN_SECONDS)
        assert reader.read().devices[0].lost == "" and library.inits == 1
        library.gpus[0].errors["handle"] = pynvml.NVML_ERROR_GPU_IS_LOST
        reader.read()
        library.gpus[0].errors.clear()
        assert reader.read().devices[0].lost == "" and library.inits == 2  # the library was begun anew for it
