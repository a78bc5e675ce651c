"""NVIDIA's GPUs through NVML (`nvidia-ml-py`), the library that `nvidia-smi` asks as well.

Nothing here raises: what the driver does not tell is None, with the reason. A driver may hang, and this with it, so
whoever reads does it in a thread of its own (`services.hardware`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from app.core.hardware import Gpu, GpuProcess, Gpus, without_figures

AGAIN_SECONDS = 30.0  # between two tries to reach a driver that is not there, or a GPU that is lost
PCIE_A_LOOK = 4  # GPUs whose traffic one look asks for: the driver counts for 20 ms in each direction (H100, 580.159)
NO_GPU, GONE = "no NVIDIA GPU here", "the NVIDIA driver is not there any more"


class NvidiaGpus:
    """Keeps the driver's library open. Not for two threads at once."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._driver: str | None = None  # None: the library is not open
        self._why = ""
        self._seen = Gpus()  # when they last answered
        self._tried = float("-inf")
        self._looks = 0
        self._traffic: dict[str, _Answers] = {}  # by uuid: the newest, of an earlier look where more than four share

    def read(self) -> Gpus:
        """Blocks for 6 ms for each GPU, and for 42 more for each of the four whose turn it is to tell its traffic."""
        import pynvml

        try:
            if self._driver is None and not self._open():
                return self._without()
            devices = self._devices(pynvml.nvmlDeviceGetCount())
        except pynvml.NVMLError as error:
            self._close(_why(error))
            return self._without()
        if any(gpu.lost for gpu in devices) and self._monotonic() - self._tried >= AGAIN_SECONDS:
            self._close("")  # a GPU that came back is seen after a new start of the library alone
            self._tried = float("-inf")
        self._seen = Gpus(devices, self._driver or "", "" if devices else NO_GPU)
        return self._seen

    def _without(self) -> Gpus:
        """GPUs that were there are not forgotten when their driver goes."""
        return without_figures(self._seen, GONE if self._seen.devices and self._why == NO_GPU else self._why)

    def _devices(self, count: int) -> tuple[Gpu, ...]:
        turns = -(-count // PCIE_A_LOOK) or 1
        self._looks += 1
        return tuple(_device(index, self._traffic, asked=(index - self._looks) % turns == 0) for index in range(count))

    def _open(self) -> bool:
        import pynvml

        if self._monotonic() - self._tried < AGAIN_SECONDS:
            return False
        self._tried = self._monotonic()
        try:
            pynvml.nvmlInit()
            self._driver = _text(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError as error:
            self._why = _why(error)
        return self._driver is not None

    def _close(self, why: str) -> None:
        import pynvml

        self._driver, self._why = None, why
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _why(error: Any) -> str:
    """A sentence for what keeps all GPUs from being read."""
    import pynvml

    return {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: NO_GPU,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
        pynvml.NVML_ERROR_NO_PERMISSION: "the NVIDIA driver may not be asked from here (a container without rights?)",
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver was updated under way: restart the machine",
        pynvml.NVML_ERROR_OPERATING_SYSTEM: "the operating system keeps the NVIDIA driver from answering",
    }.get(error.value, f"the NVIDIA driver answers: {error}")


_Answers = tuple[dict[str, Any], dict[str, str]]
"""What is known, and why the rest is not, by name."""


def _device(index: int, traffic: dict[str, _Answers], *, asked: bool) -> Gpu:
    """`asked`: whether it is this GPU's turn to tell its traffic; else what it told last stands."""
    import pynvml

    name = uuid = ""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        name, uuid = _text(pynvml.nvmlDeviceGetName(handle)), _text(pynvml.nvmlDeviceGetUUID(handle))
        values, unknown = _answers(handle, _QUESTIONS)
        if asked or uuid not in traffic:
            traffic[uuid] = _answers(handle, _TRAFFIC)
    except pynvml.NVMLError as error:
        return Gpu(index, name, uuid, lost=_lost(error))
    if values.get("mig") and "utilisation" in unknown:
        unknown["utilisation"] = "MIG is on: the driver does not tell how busy a part of the GPU is"
    counted, uncounted = traffic[uuid]
    return Gpu(index, name, uuid, unknown=unknown | uncounted, **values, **counted)


def _answers(handle: Any, questions: _Questions) -> _Answers:
    """Raises NVMLError where the GPU answers nothing any more."""
    import pynvml

    values: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for names, ask in questions.items():
        try:
            answers = ask(pynvml, handle)
        except pynvml.NVMLError as error:
            if error.value in (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED):
                raise
            unknown |= dict.fromkeys(names, _reason(error))
        else:
            values |= zip(names, answers, strict=True)
    return values, unknown


def _lost(error: Any) -> str:
    import pynvml

    if error.value == pynvml.NVML_ERROR_RESET_REQUIRED:
        return "the GPU has to be reset (nvidia-smi --gpu-reset, or restart the machine)"
    if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
        return "the GPU may not be asked from here"
    if error.value in (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_GPU_NOT_FOUND):
        return "the GPU does not answer any more: it fell off the bus or lost its power; restart the machine"
    return f"the driver answers: {error}"


def _reason(error: Any) -> str:
    """Why one figure is not known."""
    import pynvml

    return {
        pynvml.NVML_ERROR_NOT_SUPPORTED: "this GPU does not tell",
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "this driver is too old to tell",
        pynvml.NVML_ERROR_NO_PERMISSION: "may not be asked from here",
    }.get(error.value, f"the driver answers: {error}")


def _utilisation(nvml: Any, handle: Any) -> tuple[float]:
    return (nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,)


def _memory(nvml: Any, handle: Any) -> tuple[int, int]:
    """What the driver itself keeps is not free and not used by anybody: `nvidia-smi` shows it apart, too."""
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        info = nvml.nvmlDeviceGetMemoryInfo(handle)
    return int(info.used), int(info.total)


def _temperature(nvml: Any, handle: Any) -> tuple[float]:
    try:
        return (float(nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU)),)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        return (float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),)


def _throttled(nvml: Any, handle: Any) -> tuple[tuple[str, ...]]:
    """What slows it: an idle GPU's low clocks are nobody's concern."""
    try:
        bits = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    named = {
        nvml.nvmlClocksEventReasonSwPowerCap: "power limit",
        nvml.nvmlClocksEventReasonSwThermalSlowdown: "temperature",
        nvml.nvmlClocksEventReasonHwThermalSlowdown: "temperature (hardware)",
        nvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power brake",
        nvml.nvmlClocksEventReasonHwSlowdown: "hardware slowdown",
    }
    return (tuple(word for bit, word in named.items() if bits & bit),)


def _processes(nvml: Any, handle: Any) -> tuple[tuple[GpuProcess, ...]]:
    running: dict[int, int | None] = {}
    for listed in (nvml.nvmlDeviceGetGraphicsRunningProcesses, nvml.nvmlDeviceGetComputeRunningProcesses):
        running |= {int(one.pid): one.usedGpuMemory for one in listed(handle)}
    return (tuple(GpuProcess(pid, memory) for pid, memory in sorted(running.items())),)


_Questions = dict[tuple[str, ...], Callable[[Any, Any], tuple[Any, ...]]]
_QUESTIONS: _Questions = {
    ("mig",): lambda nvml, handle: (nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE,),
    ("utilisation",): _utilisation,
    ("memory_used", "memory_total"): _memory,
    ("temperature",): _temperature,
    ("power",): lambda nvml, handle: (nvml.nvmlDeviceGetPowerUsage(handle) / 1000,),
    ("power_limit",): lambda nvml, handle: (nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,),
    ("clock",): lambda nvml, handle: (nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),),
    ("memory_clock",): lambda nvml, handle: (nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),),
    ("throttled",): _throttled,
    ("energy",): lambda nvml, handle: (nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000,),
    ("processes",): _processes,
}
_TRAFFIC: _Questions = {
    ("pcie_sent",): lambda nvml, h: (nvml.nvmlDeviceGetPcieThroughput(h, nvml.NVML_PCIE_UTIL_TX_BYTES) * 1024,),
    ("pcie_received",): lambda nvml, h: (nvml.nvmlDeviceGetPcieThroughput(h, nvml.NVML_PCIE_UTIL_RX_BYTES) * 1024,),
}
"""NVML's byte counters (field values 197 and 198) have 32 bits: they begin anew many times a second at full speed."""


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
