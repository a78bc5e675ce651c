"""What the sampler of the hardware stands on, as a machine that can be made to fail: a driver of two GPUs below the
real binding, an energy counter, `/proc` below psutil, a wall clock, and a small disk.

Each fault is staged for as long as a `with` lasts, and says what may not be known meanwhile and in which words.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pynvml

from app.core.hardware import Machine as Read
from app.services.energy import EnergyMeter
from app.services.hardware import GPU_SERIES
from app.services.machine_reading import MachineReader
from proving.small_disk import SmallDisk
from tests.fake_nvml import FakeGpu, FakeLibrary, installed

HOUR = 3600.0
SILENCE = 60.0  # seconds without a word after which whoever follows gives up
DENIED = ("/proc/stat", "/proc/meminfo", "/proc/net/dev")
OF_PROC = ("cpu", "memory_used", "swap_used", "network_sent", "network_received")
OF_GPUS = tuple(f"gpu{index}.{name}" for index in (0, 1) for name in GPU_SERIES)


class Wall:
    """The product's clock: its wall clock may be set."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        return time.time() + self.offset


@dataclass(slots=True)
class Machine:
    """`release`: seconds after which a driver that hangs answers again by itself; for a control that it would stop."""

    folder: Path
    disk: SmallDisk | None = None
    release: float | None = None
    wall: Wall = field(default_factory=Wall)
    library: FakeLibrary = field(default_factory=lambda: FakeLibrary(FakeGpu(), FakeGpu(uuid=b"GPU-1111", busy=70)))

    @property
    def counter(self) -> Path:
        return self.folder / "powercap" / "intel-rapl:0" / "energy_uj"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.counter.parent.mkdir(parents=True)
        self.counter.write_text("1000000\n")
        with installed(self.library):
            try:
                yield
            finally:
                self.library.running.set()  # a thread that hangs in it would be left behind

    def reader(self, data: Path) -> Callable[[], Read]:
        """The real one; with each look the processor has drawn half a joule more."""
        real = MachineReader(data, self.wall, EnergyMeter(self.counter.parents[1]))

        def read() -> Read:
            with contextlib.suppress(OSError):
                self.counter.write_text(f"{int(self.counter.read_text()) + 500_000}\n")
            return real.read()

        return read


Stage = Callable[[Machine], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """`silent`: series (with * for any) of which nothing may be told meanwhile; all others have their figure. `why`:
    words of the reason, by where it stands."""

    name: str
    stage: Stage
    silent: tuple[str, ...] = ()
    why: Mapping[str, str] = field(default_factory=dict)

    def problem(self, seen: View) -> str:
        """What of the fault is not told as it is; "" where all is."""
        told = sorted(name for name in seen.now if self.hides(name))
        if told:
            return f"{self.name}: {told[0]} is told as {seen.now[told[0]]:g}"
        for place, words in self.why.items():
            if words not in seen.unknown.get(place, ""):
                return f"{self.name}: of {place} is said {seen.unknown.get(place, '')!r}, not {words!r}"
        lost = sorted(name for name in (*OF_PROC, "disk_free", "power", *OF_GPUS) if not self.hides(name))
        lost = [name for name in lost if name not in seen.now]
        return f"{self.name}: {lost[0]} is lost, too" if lost else ""

    def hides(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.silent)


@dataclass(slots=True)
class View:
    """What a page knows that follows the feed of all series."""

    at: float = 0.0
    samples: int = 0
    now: dict[str, float] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)

    def take(self, told: Mapping[str, Any]) -> None:
        self.at, self.samples = told["at"], self.samples + 1
        self.now = dict(told["now"]) if "now" in told else self.now | told.get("set", {})
        for name in told.get("gone", ()):
            self.now.pop(name, None)
        self.unknown = told.get("unknown", self.unknown)


@contextlib.asynccontextmanager
async def following(url: str) -> AsyncIterator[View]:
    """A page that watches."""
    view = View()

    async def follow() -> None:
        async with (
            httpx.AsyncClient(base_url=url, timeout=SILENCE) as client,
            client.stream("GET", "/loupe/series/events") as feed,
        ):
            async for line in feed.aiter_lines():
                if line.startswith("data: "):
                    view.take(json.loads(line.removeprefix("data: ")))

    task = asyncio.create_task(follow())
    try:
        yield view
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def _absent(machine: Machine) -> Iterator[None]:
    with installed(None):
        yield


@contextlib.contextmanager
def _answering(machine: Machine, errors: dict[str, int]) -> Iterator[None]:
    machine.library.errors = errors
    try:
        yield
    finally:
        machine.library.errors = {}


@contextlib.contextmanager
def _gpu_answering(machine: Machine, status: int, what: str = "*") -> Iterator[None]:
    gpu = machine.library.gpus[1]
    gpu.errors[what] = status
    try:
        yield
    finally:
        gpu.errors.clear()


@contextlib.contextmanager
def _strange(machine: Machine) -> Iterator[None]:
    """A binding that raises what it never should."""
    with mock.patch.object(pynvml, "nvmlDeviceGetCount", side_effect=AttributeError("nvmlDeviceGetCount_v9")):
        yield


@contextlib.contextmanager
def _hanging(machine: Machine) -> Iterator[None]:
    machine.library.running.clear()
    if machine.release is not None:
        threading.Timer(machine.release, machine.library.running.set).start()
    try:
        yield
    finally:
        machine.library.running.set()


@contextlib.contextmanager
def _no_counter(machine: Machine) -> Iterator[None]:
    """Root may read a file without rights, so it is none for that time: it fails alike."""
    aside = machine.counter.rename(machine.counter.with_name("aside"))
    machine.counter.mkdir()
    try:
        yield
    finally:
        machine.counter.rmdir()
        aside.rename(machine.counter)


@contextlib.contextmanager
def _denied(machine: Machine) -> Iterator[None]:
    """Below psutil: what it opens of these files is refused, as the kernel would."""
    from psutil import _pslinux as linux

    def refusing(opened: Callable[..., Any]) -> Callable[..., Any]:
        def open_(path: Any, *words: Any, **more: Any) -> Any:
            if str(path) in DENIED:
                raise PermissionError(13, "Permission denied", str(path))
            return opened(path, *words, **more)

        return open_

    with (
        mock.patch.object(linux, "open_binary", refusing(linux.open_binary)),
        mock.patch.object(linux, "open_text", refusing(linux.open_text)),
    ):
        yield


def _clock(hours: float) -> Stage:
    @contextlib.contextmanager
    def set_(machine: Machine) -> Iterator[None]:
        machine.wall.offset = hours * HOUR
        try:
            yield
        finally:
            machine.wall.offset = 0.0

    return set_


@contextlib.contextmanager
def _full(machine: Machine) -> Iterator[None]:
    if machine.disk is None:
        raise RuntimeError("there is no disk to fill")
    machine.disk.fill()
    try:
        yield
    finally:
        machine.disk.empty()


GPUS, ONE = ("gpu*",), ("gpu1.*",)
HANG = Fault("a driver that hangs", _hanging, GPUS, {"gpu": "has not answered for", "gpu0": "has not answered for"})
LOST = Fault(
    "a GPU lost in mid-run", lambda machine: _gpu_answering(machine, pynvml.NVML_ERROR_GPU_IS_LOST), ONE,
    {"gpu1": "fell off the bus"},
)  # fmt: skip
FULL = Fault("a full disk", _full, (), {"history": "not written down"})
FAULTS = (
    Fault("no driver", _absent, GPUS, {"gpu": "the NVIDIA driver is not there any more"}),
    Fault(
        "a driver that may not be asked",
        lambda machine: _answering(machine, {"nvmlDeviceGetCount_v2": pynvml.NVML_ERROR_OPERATING_SYSTEM}), GPUS,
        {"gpu": "the operating system keeps"},
    ),
    Fault("a binding that raises", _strange, GPUS, {"gpu": "could not be read: AttributeError"}),
    Fault(
        "a figure that is refused",
        lambda machine: _gpu_answering(machine, pynvml.NVML_ERROR_UNKNOWN, "nvmlDeviceGetPowerUsage"), ("gpu1.power",),
        {"gpu1.power": "the driver answers: Unknown Error"},
    ),
    HANG, LOST,
    Fault("an energy counter that may not be read", _no_counter, ("power",), {"power": "no energy counter"}),
    Fault("/proc partly denied", _denied, OF_PROC, dict.fromkeys(OF_PROC, "Permission denied")),
    Fault("a clock an hour on", _clock(1)), Fault("a clock an hour back", _clock(-1)), FULL,
)  # fmt: skip
