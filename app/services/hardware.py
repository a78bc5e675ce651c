"""What this machine does, looked at once a second in threads of its own: nothing that happens here touches a chat.

Processor and GPUs are read apart, since a GPU driver may hang: then the rest goes on, and the page says since when the
driver is silent. A look that takes long makes the next one come later, so that watching never costs more than a share.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

import structlog

from app.core.hardware import Gpus, HardwareState, Machine, without_figures
from app.core.ports import Clock

EVERY = 1.0  # seconds between two looks
BUDGET = 0.2  # seconds that one look may take; what takes longer is done more rarely
SILENT = 5.0  # seconds after which a reading that has not come back is said to hang
FIRST_SECONDS = 3.0  # a driver that has to be woken takes so long
_JOIN_SECONDS = 2.0
Value = TypeVar("Value")
MACHINE_SERIES = (
    "cpu", "memory_used", "swap_used", "disk_free", "disk_read", "disk_written", "network_sent", "network_received",
    "power", "cpu_models", "cpu_loupe",
)  # fmt: skip
GPU_SERIES = ("utilisation", "memory_used", "temperature", "power", "clock", "pcie_sent", "pcie_received")
log = structlog.get_logger(__name__)


class Hardware:
    """`read_machine` and `read_gpus` block; whatever they raise is logged once and shown as unknown."""

    def __init__(
        self, read_machine: Callable[[], Machine], read_gpus: Callable[[], Gpus], clock: Clock, every: float = EVERY
    ) -> None:
        self._clock, self._every = clock, every
        self._gpus = _Reading("GPU", read_gpus, Gpus(why="not looked yet"), without_figures)
        self._machine = _Reading("machine", read_machine, Machine(), _nothing_known)
        self._state = HardwareState()
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._keep: list[Callable[[HardwareState], None]] = []
        self._watchers: set[asyncio.Event] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def on_look(self, keep: Callable[[HardwareState], None]) -> None:
        """Called with every look, in the sampler's thread; before `start`."""
        self._keep.append(keep)

    def start(self) -> None:
        """From the event loop whose coroutines watch."""
        self._loop = asyncio.get_running_loop()
        for name, work in (("hardware", self._look), ("gpus", self._look_at_gpus)):
            thread = threading.Thread(target=self._repeat, args=(work,), name=f"loupe-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    async def close(self) -> None:
        """A thread whose driver hangs is left behind: it is a daemon's, and ends with the process."""
        self._ending.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, _JOIN_SECONDS if not self._gpus.silent() else 0.1)

    @property
    def state(self) -> HardwareState:
        """The newest look; safe from every thread."""
        return self._state

    def gpus(self, seconds: float = FIRST_SECONDS) -> Gpus:
        """The GPUs; just after the start they are waited for, so long at most. Blocks."""
        self._gpus.seen.wait(seconds)
        return self._seen_gpus()

    async def watch(self) -> AsyncGenerator[HardwareState, None]:
        """The newest look, and each new one."""
        looked = asyncio.Event()
        self._watchers.add(looked)
        try:
            while True:
                looked.clear()
                yield self._state
                await looked.wait()
        finally:
            self._watchers.discard(looked)

    def _repeat(self, work: Callable[[], float]) -> None:
        while not self._ending.wait(work()):
            pass

    def _look_at_gpus(self) -> float:
        self._gpus.read()
        return self._gpus.wait(self._every)

    def _look(self) -> float:
        """Seconds until the next look."""
        machine = self._machine.read()
        self._state = HardwareState(self._state.number + 1, self._clock.now(), machine, self._seen_gpus())
        for keep in self._keep:
            _kept(keep, self._state)
        self._tell()
        return self._machine.wait(self._every)

    def _seen_gpus(self) -> Gpus:
        """Old figures are not shown as new ones: each GPU is there, and why nothing is known of it."""
        silent = self._gpus.silent()
        return without_figures(self._gpus.value, _hangs(silent)) if silent else self._gpus.value

    def _tell(self) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            self._ending.set()  # the loop is closed

    def _wake(self) -> None:
        for looked in self._watchers:
            looked.set()


def figures(state: HardwareState) -> dict[str, float]:
    """The series of a look that have a figure, by name: `cpu`, `memory_used`, `gpu0.power`, …"""
    found = {name: getattr(state.machine, name) for name in MACHINE_SERIES}
    for gpu in state.gpus.devices:
        found |= {f"gpu{gpu.index}.{name}": getattr(gpu, name) for name in GPU_SERIES}
    return {name: float(value) for name, value in found.items() if value is not None}


class _Reading(Generic[Value]):
    """The newest value of something that is read again and again, how long that took, and whether it hangs."""

    def __init__(
        self, what: str, read: Callable[[], Value], first: Value, failed: Callable[[Value, str], Value]
    ) -> None:  # fmt: skip
        """`failed` gives what is shown instead of a value that was seen before, with the reason."""
        self._what, self._read, self._failed = what, read, failed
        self.value, self.took = first, 0.0
        self.seen = threading.Event()  # set when there was a first reading
        self._began: float | None = None
        self._told = ""

    def read(self) -> Value:
        self._began = began = time.monotonic()
        try:
            self.value = self._read()
        except Exception as error:  # whatever a driver's binding thinks of: telemetry's failures stay here
            why = f"could not be read: {type(error).__name__}"
            self.value = self._failed(self.value, why)
            if why != self._told:
                self._told = why
                log.warning("hardware not read", what=self._what, exc_info=True)
        self.took, self._began = time.monotonic() - began, None
        self.seen.set()
        return self.value

    def wait(self, every: float) -> float:
        """So long until the next reading that readings take at most a fifth of the time."""
        return max(every, self.took * every / BUDGET) - min(self.took, every)

    def silent(self) -> float:
        """Seconds for which a reading has not come back; 0 unless that is too long."""
        began = self._began
        silent = 0.0 if began is None else time.monotonic() - began
        return silent if silent >= SILENT else 0.0


def _nothing_known(before: Machine, why: str) -> Machine:
    return Machine(unknown=dict.fromkeys(MACHINE_SERIES, why))


def _hangs(seconds: float) -> str:
    return f"the GPU driver has not answered for {seconds:.0f} s"


def _kept(keep: Callable[[HardwareState], None], state: HardwareState) -> None:
    try:
        keep(state)
    except Exception:
        log.warning("hardware not kept", exc_info=True)
