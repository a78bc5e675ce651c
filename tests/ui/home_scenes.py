"""States of the Home screen to look at."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from app.core.hardware import Gpu, Gpus, HardwareState, Machine
from app.core.hosts import HostAddress, HostState, HostStatus
from app.models.catalog import CatalogView
from app.services.queueing.views import QueueSnapshot
from tests.ui import dashboard_scenes
from tests.ui.fake_services import EMBEDDED, FakeServices, loaded, smollm2

HOME = "/home"
Q4 = "smollm2:135m-instruct-q4_K_M"
GIB = 2**30
MACHINE = Machine(cpu=0.4, memory_used=9 * GIB, memory_total=16 * GIB, disk_free=200 * GIB, disk_total=500 * GIB)


def looked_at(services: FakeServices, machine: Machine, gpus: Gpus) -> None:
    """Now, and whenever it is looked at again."""
    services.machine, services.gpus = lambda: machine, lambda: gpus
    services.hardware._state = HardwareState(7, time.time(), machine, gpus)


def standing(services: FakeServices, **changes: Any) -> None:
    """A machine that was looked at, a runtime with a model in memory, and a quarter of an hour of answers."""
    looked_at(services, replace(MACHINE, **changes), Gpus(why="no NVIDIA GPU here"))
    services.pool.hosts = (HostStatus(EMBEDDED, HostState.HEALTHY, "0.33.0", loaded=(Q4,)),)
    services.catalog.view = CatalogView((smollm2(q4_K_M={"loaded": loaded(Q4)}),), services.pool.hosts)


def home(services: FakeServices) -> str:
    standing(services)
    dashboard_scenes.past(services)
    dashboard_scenes.latency(services)
    return HOME


def home_busy(services: FakeServices) -> str:
    """Answers, a queue, a GPU; a host that is gone, and a pull that failed."""
    home(services)
    gpus = Gpus((Gpu(0, "NVIDIA Test GPU", memory_used=6 * GIB, memory_total=24 * GIB),), "570.86")
    looked_at(services, MACHINE, gpus)
    away = HostAddress("bench", "http://192.168.1.20:11434")
    services.pool.hosts = (*services.pool.hosts, HostStatus(away, HostState.OFFLINE, error="connection refused"))
    dashboard_scenes.writing(services)
    return HOME


def _gpus(services: FakeServices, number: int, *, busy: bool = False) -> str:
    """A quarter of an hour behind it, with so many GPUs."""
    standing(services)
    looked_at(services, MACHINE, Gpus(tuple(map(dashboard_scenes.rtx, range(number))), "570.86"))
    dashboard_scenes.past(services, number)
    dashboard_scenes.answered(services, ttft=0.42, age=5)
    if busy:
        dashboard_scenes.writing(services)
    return HOME


def home_empty(services: FakeServices) -> str:
    """The first minute: a host, no model, no answer."""
    services.catalog.view = CatalogView((), services.pool.hosts)
    return HOME


def home_low(services: FakeServices) -> str:
    """An alert, and a queue that somebody paused."""
    standing(services)
    services.hold({"disk_free": {"": float(GIB)}, "host_down": {"built-in": 1.0}}, 2)
    services.queue.view = QueueSnapshot(paused=True)
    return HOME


HOME_SCENES: dict[str, Callable[[FakeServices], str]] = {
    "home": home, "home_busy": home_busy, "home_empty": home_empty, "home_low": home_low,
    "home_gpu": partial(_gpus, number=1), "home_gpu_busy": partial(_gpus, number=1, busy=True),
    "home_gpus": partial(_gpus, number=8), "home_gpus_busy": partial(_gpus, number=8, busy=True),
}  # fmt: skip
