"""What this machine is doing, as values. What is not known is None, with the reason in `unknown`; never a zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MODEL = "model"  # what a process of ours is called that runs a model


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """`memory` in bytes; None where the driver does not tell (containers, Windows). `name` of the program and the
    `variant` it holds there, "" where unknown."""

    pid: int
    memory: int | None
    name: str = ""
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as its driver tells of it.

    `utilisation` is the share (0 to 1) of the last sample period in which anything ran, which is not how much of the
    GPU was used. Bytes, °C, W, MHz, J and bytes/s. `throttled`: what slows the clocks now. `lost`: why it does not
    answer any more; nothing else is known then.
    """

    index: int
    name: str = ""
    uuid: str = ""
    utilisation: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature: float | None = None
    power: float | None = None
    power_limit: float | None = None
    clock: int | None = None
    memory_clock: int | None = None
    throttled: tuple[str, ...] | None = None
    pcie_sent: int | None = None
    pcie_received: int | None = None
    energy: float | None = None
    processes: tuple[GpuProcess, ...] | None = None
    mig: bool | None = None
    lost: str = ""
    unknown: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gpus:
    """`why`: a sentence where there is none, or where nobody may ask."""

    devices: tuple[Gpu, ...] = ()
    driver: str = ""
    why: str = ""


def without_figures(gpus: Gpus, why: str) -> Gpus:
    """The same GPUs, of none of which anything is known now."""
    lost = tuple(Gpu(gpu.index, gpu.name, gpu.uuid, lost=why) for gpu in gpus.devices)
    return Gpus(lost, gpus.driver, why)


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """One of our processes: `cpu` in cores (1.0 is one core busy), `memory` is its resident set in bytes."""

    pid: int
    name: str
    cpu: float | None
    memory: int


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, memory, disk and network. Shares are 0 to 1, sizes bytes, rates bytes/s; `power` in W.

    `memory_used` is what cannot be given to another program: total less available.
    """

    cpu: float | None = None
    cores: tuple[float, ...] = ()
    memory_used: int | None = None
    memory_total: int | None = None
    swap_used: int | None = None
    swap_total: int | None = None
    disk_free: int | None = None
    disk_total: int | None = None
    disk_read: float | None = None
    disk_written: float | None = None
    network_sent: float | None = None
    network_received: float | None = None
    power: float | None = None
    processes: tuple[ProcessUse, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def cpu_models(self) -> float | None:
        """The share of all cores that our models take; None where none of them runs here as a process of ours."""
        return self._share_of([use for use in self.processes if use.name == MODEL])

    @property
    def cpu_loupe(self) -> float | None:
        """The share of all cores that everything of ours takes but the models."""
        return self._share_of([use for use in self.processes if use.name != MODEL])

    def _share_of(self, uses: Sequence[ProcessUse]) -> float | None:
        told = [use.cpu for use in uses if use.cpu is not None]
        return sum(told) / len(self.cores) if told and self.cores else None


@dataclass(frozen=True, slots=True)
class HardwareState:
    """One look at everything. `at` in seconds since the epoch; `number` counts the looks."""

    number: int = 0
    at: float = 0.0
    machine: Machine = field(default_factory=Machine)
    gpus: Gpus = field(default_factory=Gpus)
