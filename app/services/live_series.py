"""Everything that is watched, once a second on one time axis: what the machine does, what the service does, and what
happened. One sample a second is made for all who watch; each is told what changed.

A sample is made on the event loop when the hardware's thread has looked, and kept by that thread at its next look, so
that no disk is touched on the way of a request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from app.core.generation import Json
from app.core.hardware import HardwareState
from app.services.gpu_programs import holders
from app.services.happenings import Happening, Happenings
from app.services.hardware import Hardware
from app.services.hardware import figures as hardware_figures
from app.services.series_store import SeriesStore
from app.services.service_figures import ServiceFigures

UNKEPT = 600  # samples that wait for the disk at most
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sample:
    """One second. `figures` by series, `limits` what they are measured against (bytes), `names` what GPUs are called,
    `holders` who holds memory of each, `unknown` why a figure is missing, `happened` what came about since the sample
    before."""

    number: int = 0
    at: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    holders: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    happened: tuple[Happening, ...] = ()


class LiveSeries:
    """Belongs to one event loop; `newest` may be read from any thread, `keep` is for one thread at a time."""

    def __init__(
        self, hardware: Hardware, service: ServiceFigures, happenings: Happenings, store: SeriesStore
    ) -> None:  # fmt: skip
        self._hardware, self._service, self._happenings, self._store = hardware, service, happenings, store
        self._sample = Sample()
        self._delta: tuple[int, Json] = (0, None)
        self._unkept: deque[Sample] = deque(maxlen=UNKEPT)
        self._listeners: list[Callable[[Sample], None]] = []
        self._watchers: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None
        hardware.on_look(lambda _: self.keep())

    @property
    def newest(self) -> Sample:
        return self._sample

    def on_sample(self, listener: Callable[[Sample], None]) -> None:
        """Call `listener` on the event loop with every sample. What it raises is logged and costs nobody else."""
        self._listeners.append(listener)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="live series")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def keep(self) -> None:
        """Write down what has come since the last call. Blocks."""
        while self._unkept:
            sample = self._unkept.popleft()
            self._store.add(sample.at, sample.figures)
            for happening in sample.happened:
                self._store.mark(happening)

    async def watch(self) -> AsyncGenerator[Json, None]:
        """The whole sample, then of each new one what is different (see `delta`)."""
        came = asyncio.Event()
        self._watchers.add(came)
        told: Sample | None = None
        try:
            while True:
                came.clear()
                now = self._sample
                if told is None or now.number != told.number:
                    yield whole(now) if told is None or now.number != told.number + 1 else self._shared(told, now)
                    told = now
                await came.wait()
        finally:
            self._watchers.discard(came)

    def _shared(self, told: Sample, now: Sample) -> Json:
        """Made once for all who watch."""
        number, made = self._delta
        if number != now.number:
            made = delta(told, now)
            self._delta = now.number, made
        return made

    async def _run(self) -> None:
        async with contextlib.aclosing(self._hardware.watch()) as looks:
            async for state in looks:
                if state.number:
                    try:
                        self._take(state)
                    except Exception:
                        log.warning("series not taken", exc_info=True)

    def _take(self, state: HardwareState) -> None:
        figures = {name: _short(value) for name, value in (hardware_figures(state) | self._service.look()).items()}
        happened = self._happenings.since_last(state.at)
        limits, names = _limits(state)
        unknown = _unknown(state) | ({"history": self._store.problem} if self._store.problem else {})
        held = {f"gpu{gpu.index}": words for gpu in state.gpus.devices if (words := holders(gpu))}
        sample = Sample(self._sample.number + 1, state.at, figures, limits, names, held, unknown, happened)
        self._sample = sample
        self._unkept.append(sample)
        for came in self._watchers:
            came.set()
        for listener in self._listeners:
            try:
                listener(sample)
            except Exception:
                log.warning("sample not taken", exc_info=True)


def whole(sample: Sample) -> dict[str, Json]:
    """A sample in JSON's types: what somebody who begins to watch needs."""
    return {
        "at": round(sample.at, 3), "now": dict(sample.figures), "limits": dict(sample.limits),
        "names": dict(sample.names), "holders": dict(sample.holders), "unknown": dict(sample.unknown),
        "happened": [told(happening) for happening in sample.happened],
    }  # fmt: skip


def delta(before: Sample, now: Sample) -> dict[str, Json]:
    """What is different: `set` are figures that changed, `gone` those that are not known any more; the rest is there
    only where it changed."""
    changed: dict[str, Json] = {"at": round(now.at, 3)}
    if fresh := {name: value for name, value in now.figures.items() if before.figures.get(name) != value}:
        changed["set"] = dict(fresh)
    if gone := sorted(before.figures.keys() - now.figures.keys()):
        changed["gone"] = list(gone)
    for name in ("limits", "names", "holders", "unknown"):
        if getattr(now, name) != getattr(before, name):
            changed[name] = dict(getattr(now, name))
    if now.happened:
        changed["happened"] = [told(happening) for happening in now.happened]
    return changed


def told(happening: Happening) -> dict[str, Json]:
    return {"at": round(happening.at, 3), "kind": happening.kind, "text": happening.text}


def _limits(state: HardwareState) -> tuple[dict[str, float], dict[str, str]]:
    """(bytes and watts that figures are measured against, names of the GPUs), by series."""
    machine, limits, names = state.machine, {}, {}
    for name in ("memory", "swap", "disk"):
        if (total := getattr(machine, f"{name}_total")) is not None:
            limits[f"{name}_total"] = float(total)
    for gpu in state.gpus.devices:
        names[f"gpu{gpu.index}"] = gpu.name
        for name in ("memory_total", "power_limit"):
            if (most := getattr(gpu, name)) is not None:
                limits[f"gpu{gpu.index}.{name}"] = float(most)
    return limits, names


def _unknown(state: HardwareState) -> dict[str, str]:
    """Why a figure is missing, by series; `gpu` where there is none at all."""
    found = dict(state.machine.unknown)
    if state.gpus.why:
        found["gpu"] = state.gpus.why
    for gpu in state.gpus.devices:
        if gpu.lost:
            found[f"gpu{gpu.index}"] = gpu.lost
        found |= {f"gpu{gpu.index}.{name}": why for name, why in gpu.unknown.items()}
    return found


def _short(value: float) -> float:
    """Five digits are more than a curve shows, and what does not change in them is not told again."""
    return float(f"{value:.5g}")
