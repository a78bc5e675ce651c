"""Starting the worker of a model: with how much context, how many slots and how much memory, or why not at all."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from app.core.errors import ModelLoadFailed
from app.runtime.crash_record import CrashRecord
from app.runtime.library import LocalModel
from app.runtime.memory_budget import MemoryBudget, Need
from app.runtime.options import Launch, batch_for, slots_for, threads_for
from app.runtime.settings import RuntimeSettings
from app.runtime.worker_process import Worker, WorkerConfig

_log = logging.getLogger(__name__)
_MOST_CELLS = 2**31 - 1  # llama.cpp counts them in 32 bits

StartWorker = Callable[[WorkerConfig, str], Awaitable[Worker]]


@dataclass(frozen=True, slots=True)
class Plan:
    """A worker to be: `need` is what it will take."""

    config: WorkerConfig
    need: Need


class Launcher:
    """Plans and starts workers; `crashes` is told of those that are killed while they load."""

    def __init__(
        self, settings: RuntimeSettings, budget: MemoryBudget, crashes: CrashRecord, start: StartWorker
    ) -> None:
        self._settings, self._budget, self._crashes, self._start = settings, budget, crashes, start

    def resolved(self, model: LocalModel, launch: Launch) -> Launch:
        return launch.resolved(model.trained_context, slots_for(model, self._settings))

    def plan(self, model: LocalModel, launch: Launch, used: int) -> Plan:
        """`launch` is resolved; `used` in bytes is what is loaded already.

        Raises `ModelLoadFailed` for a model that cannot be run here, `ModelTooLarge` for one that would not fit alone.
        """
        name = model.name.shortest
        if model.path is None or model.unusable:
            raise ModelLoadFailed(name, f"{name} cannot be run: {model.unusable}", ended=False)
        slots = slots_for(model, self._settings)
        num_ctx = min(launch.num_ctx, _MOST_CELLS // slots)
        config = WorkerConfig(
            model=model.path,
            num_ctx=num_ctx,
            parallel=slots,
            batch=batch_for(model, launch, num_ctx, self._settings),
            threads=threads_for(launch, self._settings),
            shift=launch.shift,
            mmap=bool(launch.use_mmap),
            load_timeout_s=self._settings.load_timeout_s,
            embedding=model.pools,
            own_template=model.native,
            kv_type=self._settings.kv_type,
            flash=self._settings.flash,
        )
        need = self._budget.need(model.gguf, config)
        self._budget.check_alone(name, model.gguf, config, need, used)
        return Plan(replace(config, address_space=need.address_space), need)

    def fits(self, plan: Plan, used: int) -> bool:
        return self._budget.fits(plan.need, used)

    async def start(self, model: LocalModel, key: str, plan: Plan) -> Worker:
        """Raises `ModelLoadFailed`."""
        name, config = model.name.shortest, plan.config
        _log.info("loading %s: %d tokens of context, %d slots", name, config.num_ctx, config.parallel)
        try:
            return await self._start(config, name)
        except ModelLoadFailed as error:
            _log.warning("%s was not loaded: %s", name, error.message)
            if error.crashed:
                self._crashes.note(key, error.reason)
            raise
