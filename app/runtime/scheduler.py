"""Which models are loaded: loading, sharing, evicting the idle one used longest ago, and refusing when too many wait.

One load at a time, as Ollama does it (protocol 7.2): a request for a loaded and fitting model never waits here, the
others stand in a bounded line. Requests for the same model share one load; it is broken off when the last of them
leaves. A model in use is never evicted. A model whose worker dies or hangs too often is not started again for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from app.core.errors import Draining, GenerationFailed, HostError, HostRefused, ModelLoadFailed, QueueFull
from app.core.ports import Clock, SystemClock
from app.runtime.caretaker import Caretaker
from app.runtime.crash_record import CrashRecord
from app.runtime.launcher import Launcher, Plan, StartWorker
from app.runtime.library import LocalModel
from app.runtime.loads import Load
from app.runtime.memory_budget import PROCESS, MemoryBudget
from app.runtime.options import Launch
from app.runtime.runners import Later, LoadedRow, Runner, file_key
from app.runtime.settings import RuntimeSettings
from app.runtime.worker_client import WorkerSilent
from app.runtime.worker_log import advice_for, is_out_of_memory
from app.runtime.worker_process import start_worker

_log = logging.getLogger(__name__)

_ENDING = "end of a worker"
_DEATH_SECONDS = 0.25  # between a worker's last word on its socket and the kernel's word that it is gone
_T = TypeVar("_T")


class Scheduler:
    """Belongs to one event loop. `budget`, `start`, `clock` and `later` are injected for tests."""

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        budget: MemoryBudget | None = None,
        start: StartWorker = start_worker,
        clock: Clock | None = None,
        later: Later | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._later = later or _call_later
        self._crashes = CrashRecord(settings.crash_limit, settings.crash_window_s, self._clock)
        self._launcher = Launcher(settings, budget or MemoryBudget(settings.memory), self._crashes, start)
        self._caretaker = Caretaker(settings.hang_s, self._clock, self._crashes, self._retire)
        self._loaded: dict[str, Runner] = {}
        self._loads: list[Load] = []
        self._turn = asyncio.Lock()
        self._closing: set[asyncio.Task[Any]] = set()
        self._closed = False

    @asynccontextmanager
    async def runner(self, model: LocalModel, launch: Launch, keep_alive_ns: int | None) -> AsyncIterator[Runner]:
        """The model, loaded, for one request.

        Raises `QueueFull`, `ModelLoadFailed`, `ModelKeepsCrashing`, `Draining`; a `GenerationFailed` of the request
        says why, if its worker is gone.
        """
        runner = await self._acquire(model, launch, keep_alive_ns)
        try:
            yield runner
        except WorkerSilent as error:
            self._caretaker.give_up(runner, error.message)
            raise
        except (GenerationFailed, HostRefused) as error:
            told = await self._explained(runner, error)
            if told is error:
                raise
            raise told from error
        finally:
            runner.release()

    async def _explained(self, runner: Runner, error: HostError) -> HostError:
        """`error` with what is known of its worker. Whoever reads it may ask again at once, and must not be handed the
        same worker if that is dead (its connection tells us first) or starved of memory (it lives, and answers so)."""
        if is_out_of_memory(error.message):
            self._caretaker.dismiss(runner, error.message)
            return GenerationFailed(error.host, f"the model runner ran out of memory: {advice_for(error.message)}")
        if isinstance(error, HostRefused):
            return error
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(runner.worker.ended(), _DEATH_SECONDS)
        if runner.worker.alive:
            return error
        return GenerationFailed(error.host, f"{error.message} ({runner.worker.why_ended()})")

    def unload(self, model: LocalModel) -> None:
        """Unload as soon as its requests have ended, no error where it is not loaded. Its crashes are forgiven."""
        self._crashes.forgive(file_key(model))
        runner = self._loaded.get(file_key(model))
        if runner is not None:
            runner.expire_soon()

    def rows(self) -> list[LoadedRow]:
        """What is loaded, the longest to live first."""
        rows = [runner.row for runner in self._loaded.values() if runner.worker.alive]
        return sorted(rows, key=lambda row: row.expires_ns, reverse=True)

    async def close(self) -> None:
        """Ends every worker and every load."""
        self._closed = True
        tasks = [load.task for load in self._loads]
        for task in tasks:
            task.cancel()
        for runner in list(self._loaded.values()):
            self._retire(runner)
        await asyncio.gather(*tasks, *self._closing, return_exceptions=True)

    def kill_now(self) -> None:
        """Every worker gets SIGKILL, without waiting: for a supervisor whose parent is gone."""
        for runner in self._loaded.values():
            runner.worker.kill_now()

    # acquiring

    async def _acquire(self, model: LocalModel, launch: Launch, keep_alive_ns: int | None) -> Runner:
        loaded = self._loaded.get(file_key(model))
        if loaded is not None and loaded.serves(model, launch) and await self._is_held_well(loaded, keep_alive_ns):
            return loaded
        if loaded is not None:
            await self._caretaker.count_if_dead(loaded)
        self._crashes.check(file_key(model), model.name.shortest, model.manifest.modified_ns / 1e9)
        runner = await self._awaited(self._join(model, launch))
        if keep_alive_ns is not None:
            runner.session_ns = keep_alive_ns
        return runner

    async def _awaited(self, load: Load) -> Runner:
        try:
            return await load.wait()
        except asyncio.CancelledError:
            if self._closed and not _being_cancelled():
                raise Draining from None
            raise

    async def _is_held_well(self, runner: Runner, keep_alive_ns: int | None) -> bool:
        """Holds `runner`. One that has been idle for a while is asked how it is: it may have hung meanwhile."""
        suspect = self._caretaker.needs_check(runner)
        runner.hold(keep_alive_ns)
        if suspect and runner.check is None:
            runner.check = self._start(self._caretaker.check(runner), "check")
            runner.check.add_done_callback(lambda _: runner.checked())
        if runner.check is None:
            return True
        well = False
        try:
            well = await asyncio.shield(runner.check)
        finally:
            if not well:
                runner.release()
        return well

    def _join(self, model: LocalModel, launch: Launch) -> Load:
        if self._closed:
            raise Draining
        waiting = sum(load.waiters for load in self._loads)
        if waiting > self._settings.max_queue:  # the one whose turn it is has left Ollama's channel
            raise QueueFull(waiting - 1, self._settings.max_queue)
        for load in self._loads:
            if load.serves(file_key(model), launch, model.trained_context):
                return load
        load = Load(
            file_key(model), self._launcher.resolved(model, launch), lambda made: self._load_in_turn(made, model)
        )
        self._loads.append(load)
        load.task.add_done_callback(lambda _: self._loads.remove(load))
        return load

    # loading

    async def _load_in_turn(self, load: Load, model: LocalModel) -> Runner:
        async with self._turn:
            runner = self._loaded.get(load.key)
            if runner is None or not runner.serves(model, load.launch):
                runner = await self._load(model, load.launch, stale=runner)
            for _ in range(load.waiters):  # held before anybody else can evict it
                runner.hold(None)
            return runner

    async def _load(self, model: LocalModel, launch: Launch, stale: Runner | None) -> Runner:
        """Makes room and loads. Where the machine says after all that it has not enough, the idle models go first."""
        plan = self._launcher.plan(model, launch, self._used())  # fails before anything is evicted
        await self._make_room(plan, stale)
        try:
            return await self._started(model, launch, plan)
        except ModelLoadFailed as error:
            idle = self._idle()
            if not (is_out_of_memory(error.reason) and idle):
                raise
            _log.warning("loading %s once more without the idle models", model.name.shortest)
            for runner in idle:
                self._retire(runner)
            await self._retired()
            return await self._started(model, launch, plan)

    async def _make_room(self, plan: Plan, stale: Runner | None) -> None:
        """Waits for the runner that must be replaced, and evicts idle ones while there is no room."""
        if stale is not None:
            while stale.refs:
                await stale.idle.wait()
            self._retire(stale)
        await self._retired()
        while self._loaded and self._is_full(plan):
            if idle := self._idle():
                self._retire(min(idle, key=lambda runner: runner.last_used))
                await self._retired()
            else:
                await _first_idle(list(self._loaded.values()))

    def _is_full(self, plan: Plan) -> bool:
        return len(self._loaded) >= self._settings.max_loaded or not self._launcher.fits(plan, self._used())

    def _idle(self) -> list[Runner]:
        return [runner for runner in self._loaded.values() if not runner.refs]

    def _used(self) -> int:
        return sum(runner.size + PROCESS for runner in self._loaded.values())

    async def _started(self, model: LocalModel, launch: Launch, plan: Plan) -> Runner:
        worker = await self._launcher.start(model, file_key(model), plan)
        runner = Runner(
            model, launch, plan.config, worker, session_ns=self._settings.keep_alive_ns, clock=self._clock,
            later=self._later, on_expired=self._retire,
        )  # fmt: skip
        self._loaded[file_key(model)] = runner
        self._start(self._caretaker.watch(runner), "watch")
        return runner

    def _retire(self, runner: Runner) -> None:
        runner.stop_timer()
        runner.retired = True
        if self._loaded.get(runner.key) is runner:
            del self._loaded[runner.key]
            self._start(runner.worker.kill(), _ENDING)

    async def _retired(self) -> None:
        """Until the memory of retired workers is free."""
        while ending := [task for task in self._closing if task.get_name() == _ENDING and not task.done()]:
            await asyncio.wait(ending)

    def _start(self, work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
        task = asyncio.create_task(work, name=name)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task


async def _first_idle(runners: list[Runner]) -> None:
    waits = [asyncio.ensure_future(runner.idle.wait()) for runner in runners]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _call_later(seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, call)
