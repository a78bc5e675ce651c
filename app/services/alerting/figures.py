"""What the rules look at, gathered from everywhere: the machine, its GPUs, the hosts, the queue, the last requests.

A figure that is not known is left out: it neither raises an alert nor ends one at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from app.core.alerts import Figures
from app.core.errors import LoupeError
from app.core.generation import Priority
from app.core.hardware import Gpu, HardwareState
from app.core.hosts import HostState
from app.core.ports import Clock
from app.services.alerting.baselines import Baselines, as_figures, company_of
from app.services.hardware import GPU_SERIES, MACHINE_SERIES, Hardware
from app.services.hardware import figures as hardware_figures
from app.services.host_pool import HostPool
from app.services.latency import quantile
from app.services.request_queue import RequestQueue
from app.services.request_trace import FinishedRequest
from app.services.service_figures import LOADED, LOADED_GPU
from app.services.telemetry import Telemetry

WINDOW = 300.0  # seconds of requests that a figure is of
READ = 2000  # requests that are looked at, at most
ANSWERS, REQUESTS = 10, 10  # from how many on a percentile, or a share, means something
HARMFUL = ("temperature", "temperature (hardware)", "power brake", "hardware slowdown")  # a power limit is a choice
AWAY = (HostState.OFFLINE, HostState.MISCONFIGURED)
KNOWN = (
    "ttft_p95_5min", "failure_rate_5min", "queue_wait", "queue_waiting", "queue_running", "host_down",
    "host_round_trip", "speed_share", "memory_share", "swap_share", "disk_free_share", "gpu.memory_share",
    "gpu.throttled", "gpu.lost", "tokens_per_second", "hosts_down", "ttft_p50", "ttft_p95", "queue_wait_p95",
    "cache_hit_rate", "error_rate", "loaded", "loaded_gpu",
    *MACHINE_SERIES, *(f"gpu.{name}" for name in GPU_SERIES),
)  # fmt: skip
_OF_GPU = re.compile(r"gpu(\d+)\.(.+)")
More = Callable[[], Mapping[str, float]]


class Watched:
    """Belongs to the event loop. `more`: further series by name."""

    def __init__(
        self, hardware: Hardware, telemetry: Telemetry, queue: RequestQueue, pool: HostPool, clock: Clock,
        more: More = dict,
    ) -> None:  # fmt: skip
        self._hardware, self._telemetry, self._queue, self._pool = hardware, telemetry, queue, pool
        self._clock, self._more = clock, more
        self._newest = ""  # id of the newest request that was learned from
        self.baselines = Baselines()
        self.learned = False
        """Set when the baselines have something new to keep."""

    def look(self) -> Figures:
        now = self._clock.now()
        recent = self._telemetry.log.recent(READ)
        self._learn(recent)
        within = [one for one in recent if now - WINDOW <= one.started_at + one.seconds]
        found = {
            **of_machine(self._hardware.state), **of_requests(within), **self._of_queue(), **self._of_hosts(),
            **as_figures(self.baselines.shares(now)),
        }  # fmt: skip
        return {**_by_series(self._more()), **found}

    def _learn(self, recent: Sequence[FinishedRequest]) -> None:
        fresh = next((place for place, one in enumerate(recent) if one.id == self._newest), len(recent))
        for place in reversed(range(fresh)):
            around = recent[max(0, place - 32) : place + 32]
            self.learned |= self.baselines.add(recent[place], company_of(recent[place], around))
        if recent:
            self._newest = recent[0].id

    def _of_queue(self) -> dict[str, dict[str, float]]:
        queue = self._queue.snapshot()
        waits = [row.waited for row in queue.waiting if row.priority is Priority.INTERACTIVE]
        return {
            "queue_wait": {"": max(waits, default=0.0)}, "queue_waiting": {"": float(len(queue.waiting))},
            "queue_running": {"": float(len(queue.running))},
        }  # fmt: skip

    def _of_hosts(self) -> dict[str, dict[str, float]]:
        statuses = self._pool.statuses()
        return {
            "host_down": {
                status.address.name: float(status.state in AWAY)
                for status in statuses
                if status.state not in (HostState.UNKNOWN, HostState.WARMING) and not status.draining
            },
            "host_round_trip": {
                status.address.name: status.round_trip for status in statuses if status.round_trip is not None
            },
        }  # fmt: skip


def of_machine(state: HardwareState) -> dict[str, dict[str, float]]:
    """The series of the machine and its GPUs, and the shares that limits go by."""
    found = {name: dict(values) for name, values in _by_series(hardware_figures(state)).items()}
    machine = state.machine
    shares = {
        "memory_share": _share(machine.memory_used, machine.memory_total),
        "swap_share": _share(machine.swap_used, machine.swap_total),
        "disk_free_share": _share(machine.disk_free, machine.disk_total),
    }
    found |= {name: {"": share} for name, share in shares.items() if share is not None}
    for gpu in state.gpus.devices:
        for name, value in _of_gpu(gpu):
            found.setdefault(f"gpu.{name}", {})[f"GPU {gpu.index}"] = value
    return found


def of_requests(records: Sequence[FinishedRequest]) -> dict[str, dict[str, float]]:
    """Of finished requests of one window."""
    found: dict[str, dict[str, float]] = {}
    firsts = sorted(one.ttft for one in records if one.measured and one.ttft is not None)
    if len(firsts) >= ANSWERS:
        found["ttft_p95_5min"] = {"": quantile(firsts, 0.95)}
    theirs = clients_faults()
    counted = [one.status for one in records if one.status not in theirs]
    if len(counted) >= REQUESTS:
        found["failure_rate_5min"] = {"": sum(status != "ok" for status in counted) / len(counted)}
    return found


def clients_faults() -> frozenset[str]:
    """Codes of what a client did wrong or wanted to end: none of it says anything about us."""
    kinds, unread = set(), [LoupeError]
    while unread:
        kind = unread.pop()
        kinds.add(kind)
        unread += kind.__subclasses__()
    ours = {kind.code for kind in kinds if kind.status >= 500}
    return frozenset({"cancelled", "reader_too_slow", *(kind.code for kind in kinds if kind.code not in ours)})


def _of_gpu(gpu: Gpu) -> Iterator[tuple[str, float]]:
    yield "lost", float(bool(gpu.lost))
    if gpu.throttled is not None:
        yield "throttled", float(any(reason in HARMFUL for reason in gpu.throttled))
    share = _share(gpu.memory_used, gpu.memory_total)
    if share is not None:
        yield "memory_share", share


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _by_series(flat: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """`gpu0.power` is the series gpu.power of the subject GPU 0, `loaded.NAME` the series loaded of that model."""
    found: dict[str, dict[str, float]] = {}
    for name, value in flat.items():
        if gpu := _OF_GPU.fullmatch(name):
            series, subject = f"gpu.{gpu[2]}", f"GPU {gpu[1]}"
        elif name.startswith((LOADED, LOADED_GPU)):
            series, _, subject = name.partition(".")
        else:
            series, subject = name, ""
        found.setdefault(series, {})[subject] = value
    return found
