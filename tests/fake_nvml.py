"""NVIDIA's library as a stand-in below `pynvml`: its real binding, structures and error classes run on top of it.

Only its functions are replaced, each of which fills in what a caller's pointers lead to and returns a status, as the
shared library's do. What a GPU has and lacks is said as plain attributes.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pynvml


@dataclass
class FakeGpu:
    """`errors`: by NVML function, the status that it returns instead of an answer."""

    name: bytes = b"NVIDIA Test GPU"
    uuid: bytes = b"GPU-0000"
    busy: int = 40
    used: int = 6 << 30
    total: int = 24 << 30
    celsius: int = 61
    milliwatts: int = 180_500
    limit_milliwatts: int = 350_000
    clocks: tuple[int, int] = (1_950, 10_501)
    reasons: int = 0
    pcie: tuple[int, int] = (1_200, 34_000)  # KiB/s sent, received
    millijoules: int = 123_456_789
    processes: list[tuple[int, int]] = field(default_factory=list)
    mig: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class FakeLibrary:
    """`errors`: for functions that are about no GPU. `hang`: while it is clear, every call waits."""

    def __init__(self, *gpus: FakeGpu, errors: dict[str, int] | None = None) -> None:
        self.gpus: list[FakeGpu] = list(gpus)
        self.errors: dict[str, int] = errors or {}
        self.running = threading.Event()
        self.running.set()
        self.inits = 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        answer = getattr(type(self), f"_{name}", None)
        if answer is None:
            raise AttributeError(name)  # an old driver

        def call(*words: Any) -> int:
            self.running.wait()
            if status := self.errors.get(name):
                return status
            if words and isinstance(words[0], pynvml.c_nvmlDevice_t):
                gpu = self.gpus[(ctypes.cast(words[0], ctypes.c_void_p).value or 0) - 1]
                return gpu.errors.get(name) or gpu.errors.get("*") or answer(self, gpu, *words[1:]) or 0
            return answer(self, *words) or 0

        return call

    def _nvmlInitWithFlags(self, flags: int) -> None:
        self.inits += 1

    def _nvmlShutdown(self) -> None: ...

    def _nvmlSystemGetDriverVersion(self, text: Any, length: Any) -> None:
        text.value = b"570.86"

    def _nvmlDeviceGetCount_v2(self, count: Any) -> None:
        count._obj.value = len(self.gpus)

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int | None:
        gpu = self.gpus[index.value]
        status: int = gpu.errors.get("handle", 0)
        if status:
            return status
        ctypes.c_void_p.from_buffer(handle._obj).value = index.value + 1  # opaque to the binding
        return None

    def _nvmlDeviceGetName(self, gpu: FakeGpu, text: Any, length: Any) -> None:
        text.value = gpu.name

    def _nvmlDeviceGetUUID(self, gpu: FakeGpu, text: Any, length: Any) -> None:
        text.value = gpu.uuid

    def _nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu, rates: Any) -> None:
        rates._obj.gpu, rates._obj.memory = gpu.busy, 10

    def _nvmlDeviceGetMemoryInfo_v2(self, gpu: FakeGpu, memory: Any) -> None:
        memory._obj.total, memory._obj.used = gpu.total, gpu.used

    def _nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu, memory: Any) -> None:
        memory._obj.total, memory._obj.used = gpu.total, gpu.used

    def _nvmlDeviceGetTemperatureV(self, gpu: FakeGpu, temperature: Any) -> None:
        temperature._obj.temperature = gpu.celsius

    def _nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: Any, temperature: Any) -> None:
        temperature._obj.value = gpu.celsius

    def _nvmlDeviceGetPowerUsage(self, gpu: FakeGpu, power: Any) -> None:
        power._obj.value = gpu.milliwatts

    def _nvmlDeviceGetEnforcedPowerLimit(self, gpu: FakeGpu, power: Any) -> None:
        power._obj.value = gpu.limit_milliwatts

    def _nvmlDeviceGetClockInfo(self, gpu: FakeGpu, kind: Any, clock: Any) -> None:
        clock._obj.value = gpu.clocks[kind.value == pynvml.NVML_CLOCK_MEM]

    def _nvmlDeviceGetCurrentClocksEventReasons(self, gpu: FakeGpu, reasons: Any) -> None:
        reasons._obj.value = gpu.reasons

    def _nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: FakeGpu, reasons: Any) -> None:
        reasons._obj.value = gpu.reasons

    def _nvmlDeviceGetPcieThroughput(self, gpu: FakeGpu, counter: Any, rate: Any) -> None:
        rate._obj.value = gpu.pcie[counter.value]

    def _nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu, energy: Any) -> None:
        energy._obj.value = gpu.millijoules

    def _nvmlDeviceGetMigMode(self, gpu: FakeGpu, current: Any, pending: Any) -> None:
        current._obj.value = pending._obj.value = gpu.mig

    def _nvmlDeviceGetComputeRunningProcesses_v3(self, gpu: FakeGpu, count: Any, rows: Any) -> int:
        if rows is None:
            count._obj.value = len(gpu.processes)
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE if gpu.processes else 0
        for row, (pid, memory) in zip(rows, gpu.processes, strict=False):
            row.pid, row.usedGpuMemory = pid, memory
        count._obj.value = len(gpu.processes)
        return 0

    def _nvmlDeviceGetGraphicsRunningProcesses_v3(self, gpu: FakeGpu, count: Any, rows: Any) -> int:
        return 0


@contextmanager
def installed(library: FakeLibrary | None) -> Iterator[None]:
    """`pynvml` over this library; with None over one that cannot be found."""
    kept = pynvml.nvmlLib, dict(pynvml._nvmlGetFunctionPointer_cache), pynvml.CDLL

    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.CDLL = missing
    try:
        yield
    finally:
        pynvml.nvmlLib, cached, pynvml.CDLL = kept
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml._nvmlGetFunctionPointer_cache.update(cached)
