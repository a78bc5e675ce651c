"""The check of a machine, whole: in the order in which one mends what is wrong. Takes about three seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from app.core.checks import Check, Verdict
from app.core.errors import LoupeError
from app.core.hardware import Gpus
from app.core.hosts import HostStatus
from app.models.machine_memory import machine_memory
from app.services.checking import hosts as host_checks
from app.services.checking import machine
from app.services.checking.bandwidth import read_bandwidth
from app.services.checking.container import container, limits
from app.services.checking.gpus import gpus
from app.services.checking.hosts import VariantPace
from app.services.checking.ports import Ports, ports

BUSY = 0.4  # of the processor: less memory bandwidth is left than there is
DEFAULTS = "all as they come: nobody set anything"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the check is given to look at. `settings`: what somebody set, as (variable, value, by whom), without
    secrets; `warnings`: what looks like a mistake in them. `ports`: None where nobody could look. `processor`: the
    share of it that was busy of late."""

    folder: Path
    gpus: Callable[[], Gpus]
    statuses: Callable[[], Sequence[HostStatus]]
    variants: Callable[[], Awaitable[Sequence[VariantPace]]]
    settings: Callable[[], Sequence[tuple[str, str, str]]] = tuple
    warnings: Sequence[str] = ()
    ports: Callable[[], Awaitable[Ports]] | None = None
    processor: Callable[[], float | None] = lambda: None


class SystemCheck:
    def __init__(self, around: Surroundings, bandwidth: Callable[[], float] = read_bandwidth) -> None:
        self._around, self._bandwidth = around, bandwidth
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> tuple[Check, ...]:
        """Raises nothing that a part of it could: what cannot be looked at is unknown, with the reason."""
        async with self._one_at_a_time:  # two at once would measure each other
            busy = (self._around.processor() or 0.0) > BUSY  # before the check itself keeps it busy
            variants, seen = await self._around.variants(), await self._ports()
            found = await asyncio.to_thread(lambda: tuple(self._looked(variants, seen, busy)))
        return tuple(_private(check) for check in found)

    def _looked(self, variants: Sequence[VariantPace], seen: Ports | None, busy: bool) -> Iterator[Check]:
        statuses = self._around.statuses()
        parts: tuple[tuple[str, Callable[[], Sequence[Check]]], ...] = (
            ("processor", lambda: [machine.processor(), machine.cores(limits().cores)]),
            ("memory", lambda: [_memory(variants, statuses), machine.swap()]),
            ("container limits", lambda: [_container()]),
            ("GPU", lambda: list(gpus(self._around.gpus(), statuses))),
            ("disk", lambda: list(machine.disk(self._around.folder))),
            ("model hosts", lambda: list(host_checks.hosts(statuses))),
            ("ports", lambda: list(ports(seen, statuses)) if seen else []),
            ("memory bandwidth", lambda: list(host_checks.speeds(variants, self._measured(), busy=busy))),
            ("system", lambda: [machine.system(), machine.files(), machine.clock(), machine.sqlite()]),
            ("settings", lambda: [self._settings()]),
        )
        for name, look in parts:
            try:
                yield from look()
            except Exception as error:  # whatever a strange system thinks of: the other parts are told all the same
                yield Check(name, Verdict.UNKNOWN, f"could not be looked at: {type(error).__name__}")

    async def _ports(self) -> Ports | None:
        try:
            return await self._around.ports() if self._around.ports else None
        except (OSError, LoupeError):
            return None

    def _measured(self) -> float | None:
        try:
            return self._bandwidth()
        except (OSError, MemoryError, AttributeError):
            return None

    def _settings(self) -> Check:
        told = ", ".join(
            f"{variable}={value} ({'environment' if source.upper() == variable.upper() else source})"
            for variable, value, source in self._around.settings()
        )
        if self._around.warnings:
            return Check("settings", Verdict.WARN, told or DEFAULTS, "", " ".join(self._around.warnings))
        return Check("settings", Verdict.OK, told or DEFAULTS)


def _memory(variants: Sequence[VariantPace], statuses: Sequence[HostStatus]) -> Check:
    here = machine_memory()
    loaded = any(status.loaded for status in statuses if status.address.here)
    return machine.memory(here.total, here.free, min((one.size for one in variants), default=None), loaded)


def _container() -> Check:
    return container(limits(), machine_memory().total, psutil.virtual_memory().total)


def _private(check: Check) -> Check:
    """Whose machine it is, is nobody's business: the home folder stands as ~."""
    home = str(Path.home())
    if len(home) < 2:
        return check
    return replace(check, found=check.found.replace(home, "~"), advice=check.advice.replace(home, "~"))
