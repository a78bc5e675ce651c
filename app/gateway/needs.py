"""What the gateway is given: the services it uses, and whether the process is going down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from starlette.types import Scope

from app.comparison.batching.lab import BatchingLab
from app.comparison.comparisons import Comparisons
from app.comparison.load_lab.lab import LoadLab
from app.comparison.pictures import Pictures
from app.comparison.teaching import Teaching
from app.config import Settings
from app.core.errors import Draining
from app.core.ports import Clock
from app.services.access_keys import LOCAL, OWNER, AccessKeys, Visitor
from app.services.alerting.alerts import Alerts
from app.services.aliases import Aliases
from app.services.batches.batches import Batches
from app.services.batches.files import BatchFiles
from app.services.chat import ChatService
from app.services.checking.system import SystemCheck
from app.services.costing.service import Costing
from app.services.hardware import Hardware
from app.services.history_backups import HistoryBackups
from app.services.host_admin import HostAdmin
from app.services.host_pool import HostPool
from app.services.jobs import Jobs
from app.services.key_usage import KeyUsage
from app.services.live_series import LiveSeries
from app.services.model_jobs import ModelJobs
from app.services.overview import Overview
from app.services.request_queue import RequestQueue
from app.services.response_cache import ResponseCache
from app.services.runtime_tuning import RuntimeTuning
from app.services.series_store import SeriesStore
from app.services.telemetry import Telemetry


class GatewayServices(Protocol):
    """The part of `bootstrap.Services` that HTTP routes use."""

    @property
    def settings(self) -> Settings: ...
    @property
    def chat(self) -> ChatService: ...
    @property
    def cache(self) -> ResponseCache: ...
    @property
    def pool(self) -> HostPool: ...
    @property
    def hosts(self) -> HostAdmin: ...
    @property
    def aliases(self) -> Aliases: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def queue(self) -> RequestQueue: ...
    @property
    def batches(self) -> Batches: ...
    @property
    def batch_files(self) -> BatchFiles: ...
    @property
    def jobs(self) -> Jobs: ...
    @property
    def comparisons(self) -> Comparisons: ...
    @property
    def load_lab(self) -> LoadLab: ...
    @property
    def batching(self) -> BatchingLab: ...
    @property
    def tuning(self) -> RuntimeTuning: ...
    @property
    def pictures(self) -> Pictures: ...
    @property
    def model_jobs(self) -> ModelJobs: ...
    @property
    def backups(self) -> HistoryBackups: ...
    @property
    def telemetry(self) -> Telemetry: ...
    @property
    def hardware(self) -> Hardware: ...
    @property
    def live(self) -> LiveSeries: ...
    @property
    def check(self) -> SystemCheck: ...
    @property
    def figures(self) -> SeriesStore: ...
    @property
    def cost(self) -> Costing: ...
    @property
    def alerts(self) -> Alerts: ...
    @property
    def overview(self) -> Overview: ...
    @property
    def teaching(self) -> Teaching: ...
    @property
    def keys(self) -> AccessKeys: ...
    @property
    def key_usage(self) -> KeyUsage: ...


class Lifecycle:
    """Whether new work is taken, and which work runs. One per process; used on the event loop only."""

    def __init__(self) -> None:
        self.draining = False
        self.ending = False
        self._works: set[asyncio.Future[None]] = set()
        self._idle = asyncio.Event()

    @property
    def running(self) -> int:
        return len(self._works)

    def admit(self) -> None:
        """Raises `Draining` once nothing new is taken."""
        if self.draining:
            raise Draining

    @contextmanager
    def working(self, work: asyncio.Future[None]) -> Iterator[None]:
        """Counts one request that holds a slot or waits for one."""
        self._works.add(work)
        try:
            yield
        finally:
            self._works.discard(work)
            if not self._works:
                self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Take nothing new, wait for what runs, and after `seconds` end the rest with a word to each client."""
        self.draining = True
        self._idle.clear()
        if self._works:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._idle.wait()
        self.ending = True
        for work in self._works:
            work.cancel()


def visitor_of(scope: Scope) -> Visitor:
    """Who asks, as the guards have found out."""
    visitor: Visitor = scope.get("state", {}).get("visitor", OWNER)
    return visitor


def flow_of(scope: Scope) -> str:
    """The unit of fairness: a key, wherever it is used, or the owner at one address."""
    principal = visitor_of(scope).principal
    if principal != LOCAL:
        return principal
    client = scope.get("client")
    return f"{LOCAL}@{client[0] if client else 'unknown'}"
