"""The part of the assembly that is about our embedded runtime: the runtime, what sets it up, what measures it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from app.backends.embedded import EmbeddedRuntime, EmbeddedSettings
from app.backends.lab_runtime import LabRuntimes, remove_left
from app.backends.ollama_http import HostTimeouts
from app.comparison.batching.lab import BatchingLab, LabNeeds
from app.comparison.batching.study_store import StudyStore
from app.comparison.comparisons import Needs
from app.config import Settings
from app.config_children import runtime_limits
from app.core.runtime_setup import PER_REQUEST, VARIABLES
from app.services.host_pool import HostPool
from app.services.jobs import Jobs
from app.services.request_queue import RequestQueue
from app.services.runtime_tuning import FILE_NAME, RuntimeTuning


class OwnRuntime:
    """What the operator has set is not changed from within."""

    def __init__(
        self, settings: Settings, environment: Mapping[str, str], timeouts: HostTimeouts, pool: HostPool,
        queue: RequestQueue, jobs: Jobs,
    ) -> None:  # fmt: skip
        limits = runtime_limits(settings.slots)
        self._data = settings.data
        self._settings = EmbeddedSettings(
            store=settings.models_folder, slots=settings.slots, limits=limits, environment=environment,
            timeouts=timeouts,
        )  # fmt: skip
        self.runtime = EmbeddedRuntime(self._settings)
        fixed = {name: limits[VARIABLES[name]] for name in PER_REQUEST if VARIABLES[name] in limits}
        if "slots" in settings.model_fields_set:
            fixed["slots"] = str(settings.slots)
        self.tuning = RuntimeTuning(self.runtime, pool, queue, jobs, settings.data / FILE_NAME, fixed, limits)

    def lab(self, needs: Needs) -> BatchingLab:
        own = partial(LabRuntimes, self._settings, self._data)
        needed = LabNeeds(needs, own, lambda: self.tuning.in_force, partial(remove_left, self._data))
        return BatchingLab(needed, StudyStore(self._data / "compare" / "batching"))
