"""Which models are loaded: loading, sharing, evicting the idle one used longest ago, and refusing when too many wait.

One load at a time, as Ollama does it (protocol 7.2): a request for a loaded and fitting model never waits here, the
others stand in a bounded line. Requests for the same model share one load; it is broken off when the last of them
leaves. A model in use is never evicted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import psutil

from app.core.errors import Draining, GenerationFailed, ModelLoadFailed, QueueFull
from app.runtime.library import LocalModel
from app.runtime.options import Launch, batch_for, slots_for, threads_for
from app.runtime.runners import LoadedRow, Runner
from app.runtime.settings import RuntimeSettings
from app.runtime.worker_process import WorkerConfig, start_worker

_log = logging.getLogger(__name__)

_ENDING = "end of a worker"
_DEATH_SECONDS = 0.25  # between a worker's last word on its socket and the kernel's word that it is gone
_SHARE_OF_FREE = 0.8  # a further model must fit in so much of the free memory


class _Pending:
    """A load that is wanted. `waiters` hold it; `loading` once the worker has been started."""

    def __init__(self, model: LocalModel, launch: Launch) -> None:
        self.model, self.launch = model, launch
        self.waiters = 0
        self.loading = False
        self.task: asyncio.Task[Runner] | None = None


class Scheduler:
    """Belongs to one event loop. `free_memory` is injected for tests."""

    def __init__(
        self, settings: RuntimeSettings, *, free_memory: Callable[[], int] = lambda: psutil.virtual_memory().available
    ) -> None:
        self._settings, self._free_memory = settings, free_memory
        self._loaded: dict[str, Runner] = {}
        self._pending: list[_Pending] = []
        self._turn = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @asynccontextmanager
    async def runner(self, model: LocalModel, launch: Launch, keep_alive_ns: int | None) -> AsyncIterator[Runner]:
        """The model, loaded, for one request. Raises `QueueFull`, `ModelLoadFailed`, `Draining`."""
        runner = await self._acquire(model, launch, keep_alive_ns)
        try:
            yield runner
        except GenerationFailed:
            # Most likely the worker died, and its connection told us first. Whoever reads this error may ask again
            # at once, and must not be handed the same worker.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(runner.worker.died.wait(), _DEATH_SECONDS)
            raise
        finally:
            runner.release()

    def unload(self, model: LocalModel) -> None:
        """Unload as soon as its requests have ended; a model that is not loaded is no error."""
        runner = self._loaded.get(_key(model))
        if runner is not None:
            runner.expire_soon()

    def rows(self) -> list[LoadedRow]:
        """What is loaded, the longest to live first."""
        rows = [runner.row for runner in self._loaded.values() if runner.worker.alive]
        return sorted(rows, key=lambda row: row.expires_ns, reverse=True)

    async def close(self) -> None:
        """Ends every worker and every load."""
        self._closed = True
        for pending in self._pending:
            if pending.task is not None:
                pending.task.cancel()
        tasks = [pending.task for pending in self._pending if pending.task is not None]
        for runner in list(self._loaded.values()):
            self._retire(runner)
        await asyncio.gather(*tasks, *self._closing, return_exceptions=True)

    def kill_now(self) -> None:
        """Every worker gets SIGKILL, without waiting: for a supervisor whose parent is gone."""
        for runner in self._loaded.values():
            runner.worker.kill_now()

    # acquiring

    async def _acquire(self, model: LocalModel, launch: Launch, keep_alive_ns: int | None) -> Runner:
        if self._closed:
            raise Draining
        loaded = self._loaded.get(_key(model))
        if loaded is not None and loaded.serves(model, launch):
            loaded.hold(keep_alive_ns)
            return loaded
        pending = self._join(model, launch)
        runner = await self._wait_for(pending)
        if keep_alive_ns is not None:
            runner.session_ns = keep_alive_ns
        return runner

    async def _wait_for(self, pending: _Pending) -> Runner:
        """The loaded model, held once for this request; a request that leaves gives its hold, or the load, back."""
        task = pending.task
        assert task is not None  # noqa: S101
        pending.waiters += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().release()
            elif pending.waiters == 1:
                task.cancel()
            if self._closed and not _being_cancelled():
                raise Draining from None
            raise
        finally:
            pending.waiters -= 1

    def _join(self, model: LocalModel, launch: Launch) -> _Pending:
        for pending in self._pending:
            same = _key(pending.model) == _key(model) and launch.served_by(pending.launch, model.trained_context)
            if same and pending.task is not None and not pending.task.done():
                if not pending.loading:
                    self._refuse_when_full()
                return pending
        self._refuse_when_full()
        pending = _Pending(model, launch)
        pending.task = asyncio.create_task(self._load_in_turn(pending))
        pending.task.add_done_callback(_read_error)
        self._pending.append(pending)
        return pending

    def _refuse_when_full(self) -> None:
        """Only those count that wait behind the one whose turn it is (Ollama's channel has left it)."""
        waiting = sum(pending.waiters for pending in self._pending if not pending.loading)
        behind = waiting - (1 if self._turn.locked() and not any(p.loading for p in self._pending) else 0)
        if self._turn.locked() and behind >= self._settings.max_queue:
            raise QueueFull(behind, self._settings.max_queue)

    # loading

    async def _load_in_turn(self, pending: _Pending) -> Runner:
        try:
            async with self._turn:
                runner = self._loaded.get(_key(pending.model))
                if runner is None or not runner.serves(pending.model, pending.launch):
                    await self._make_room(pending.model, pending.launch, runner)
                    pending.loading = True
                    runner = await self._load(pending.model, pending.launch)
                for _ in range(pending.waiters):  # held before anybody else can evict it
                    runner.hold(None)
                return runner
        finally:
            self._pending.remove(pending)

    async def _make_room(self, model: LocalModel, launch: Launch, stale: Runner | None) -> None:
        """Waits for the runner that must be replaced, and evicts idle ones while there is no room."""
        if stale is not None:
            while stale.refs:
                await stale.idle.wait()
            self._retire(stale)
        while self._loaded and self._is_full(model, launch):
            idle = [runner for runner in self._loaded.values() if not runner.refs]
            if idle:
                self._retire(min(idle, key=lambda runner: runner.last_used))
                await self._retired()
            else:
                await _first_idle(list(self._loaded.values()))
        await self._retired()

    def _is_full(self, model: LocalModel, launch: Launch) -> bool:
        if len(self._loaded) >= self._settings.max_loaded:
            return True
        return predicted_bytes(model, launch, slots_for(model, self._settings)) > self._free_memory() * _SHARE_OF_FREE

    async def _load(self, model: LocalModel, launch: Launch) -> Runner:
        if model.path is None or model.unusable:
            raise ModelLoadFailed(model.name.shortest, model.unusable)
        trained = model.trained_context
        num_ctx = min(launch.num_ctx, trained) if trained else launch.num_ctx
        config = WorkerConfig(
            model=model.path,
            num_ctx=num_ctx,
            parallel=slots_for(model, self._settings),
            batch=batch_for(model, launch, num_ctx, self._settings),
            threads=threads_for(launch),
            shift=launch.shift,
            embedding=model.pools,
            mmap=bool(launch.use_mmap),
            load_timeout_s=self._settings.load_timeout_s,
        )
        _log.info("loading %s: %d tokens of context, %d slots", model.name.shortest, num_ctx, config.parallel)
        worker = await start_worker(config, model.name.shortest)
        runner = Runner(model, launch, worker, num_ctx=num_ctx, parallel=config.parallel, on_expired=self._retire)
        runner.session_ns = self._settings.keep_alive_ns
        self._loaded[_key(model)] = runner
        self._start(self._watch(runner), "watch")
        return runner

    async def _watch(self, runner: Runner) -> None:
        """Takes a runner out of service whose worker has ended by itself."""
        await runner.worker.died.wait()
        if self._loaded.get(_key(runner.model)) is runner:
            _log.warning("the worker of %s ended: %s", runner.model.name.shortest, runner.worker.why_ended())
            self._retire(runner)

    def _retire(self, runner: Runner) -> None:
        runner.stop_timer()
        if self._loaded.get(_key(runner.model)) is runner:
            del self._loaded[_key(runner.model)]
            self._start(runner.worker.kill(), _ENDING)

    async def _retired(self) -> None:
        """Until the memory of retired workers is free."""
        while ending := [task for task in self._closing if task.get_name() == _ENDING and not task.done()]:
            await asyncio.wait(ending)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def predicted_bytes(model: LocalModel, launch: Launch, parallel: int) -> int:
    """Ollama's rough estimate: the file and an f16 key-value cache (protocol 7.4)."""
    gguf = model.gguf
    if gguf is None:
        return 0
    heads, kv_heads = gguf.own_number("attention.head_count") or 1, gguf.own_number("attention.head_count_kv") or 1
    head_size = (gguf.own_number("embedding_length") or 0) // heads
    context = min(launch.num_ctx, model.trained_context or launch.num_ctx) * parallel
    return gguf.size + 2 * (gguf.own_number("block_count") or 0) * kv_heads * head_size * context * 2


def _key(model: LocalModel) -> str:
    """Two names of one model file share a runner."""
    return str(model.path)


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


def _read_error(task: asyncio.Task[Runner]) -> None:
    """A load whose waiters have all left has nobody else to read its error."""
    if not task.cancelled():
        task.exception()
