"""The check of a machine, whole: in the order in which one mends what is wrong. Takes about three seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.core.checks import Check, Verdict
from app.core.hardware import Gpus
from app.core.hosts import HostStatus
from app.models.machine_memory import machine_memory
from app.services.checking import hosts as host_checks
from app.services.checking import machine
from app.services.checking.bandwidth import read_bandwidth
from app.services.checking.hosts import VariantPace


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the check is given to look at. `settings`: what somebody set, as (variable, value, by whom), without
    secrets; `warnings`: what looks like a mistake in them."""

    folder: Path
    gpus: Callable[[], Gpus]
    statuses: Callable[[], Sequence[HostStatus]]
    variants: Callable[[], Awaitable[Sequence[VariantPace]]]
    settings: Callable[[], Sequence[tuple[str, str, str]]] = tuple
    warnings: Sequence[str] = ()


class SystemCheck:
    def __init__(self, around: Surroundings, bandwidth: Callable[[], float] = read_bandwidth) -> None:
        self._around, self._bandwidth = around, bandwidth
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> tuple[Check, ...]:
        """Raises nothing that a part of it could: what cannot be looked at is unknown, with the reason."""
        async with self._one_at_a_time:  # two at once would measure each other
            variants = await self._around.variants()
            found = await asyncio.to_thread(lambda: tuple(self._looked(variants)))
        return tuple(_private(check) for check in found)

    def _looked(self, variants: Sequence[VariantPace]) -> Iterator[Check]:
        parts: tuple[tuple[str, Callable[[], Sequence[Check]]], ...] = (
            ("processor", lambda: [machine.processor(), machine.cores()]),
            ("memory", lambda: [_memory(variants), machine.swap()]),
            ("GPU", lambda: list(machine.gpu(self._around.gpus()))),
            ("disk", lambda: list(machine.disk(self._around.folder))),
            ("model hosts", lambda: list(host_checks.hosts(self._around.statuses()))),
            ("memory bandwidth", lambda: list(host_checks.speeds(variants, self._measured()))),
            ("system", lambda: [machine.files(), machine.clock(), machine.sqlite()]),
            ("settings", lambda: [self._settings()]),
        )
        for name, look in parts:
            try:
                yield from look()
            except Exception as error:  # whatever a strange system thinks of: the other parts are told all the same
                yield Check(name, Verdict.UNKNOWN, f"could not be looked at: {type(error).__name__}")

    def _measured(self) -> float | None:
        try:
            return self._bandwidth()
        except (OSError, MemoryError, AttributeError):
            return None

    def _settings(self) -> Check:
        told = ", ".join(f"{variable}={value} ({source})" for variable, value, source in self._around.settings())
        if self._around.warnings:
            return Check("settings", Verdict.WARN, told or "defaults", "", " ".join(self._around.warnings))
        return Check("settings", Verdict.OK, told or "defaults")


def _memory(variants: Sequence[VariantPace]) -> Check:
    here = machine_memory()
    return machine.memory(here.total, here.free, min((one.size for one in variants), default=None))


def _private(check: Check) -> Check:
    """Whose machine it is, is nobody's business: the home folder stands as ~."""
    home = str(Path.home())
    if len(home) < 2:
        return check
    return replace(check, found=check.found.replace(home, "~"), advice=check.advice.replace(home, "~"))
