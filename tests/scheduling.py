"""What the tests of the scheduler stand on: workers that only pretend, and a machine with so much memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.core.errors import LoupeError
from app.core.generation import Json
from app.models.gguf_file import GgufFile
from app.models.machine_memory import MachineMemory
from app.runtime.library import LocalModel
from app.runtime.manifests import Layer, Manifest
from app.runtime.memory_budget import PROCESS, MemoryBudget, Need
from app.runtime.options import Launch, read_options
from app.runtime.runners import Runner
from app.runtime.scheduler import Scheduler
from app.runtime.settings import RuntimeSettings
from app.runtime.worker_process import WorkerConfig
from app.wire.go_duration import keep_alive_ns
from app.wire.model_names import parse_name
from tests.fakes import FakeClock

GIB = 1 << 30
MINUTE = 60 * 10**9
SETTINGS = RuntimeSettings(Path("store"))


async def settle() -> None:
    """Everything that can go on now has gone on."""
    for _ in range(40):
        await asyncio.sleep(0)


@dataclass
class _Timer:
    due: float
    call: Callable[[], None]

    def cancel(self) -> None:
        self.due = float("inf")


class Clock(FakeClock):
    """A clock with timers, which go off in `advance`."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: list[_Timer] = []

    @property
    def timers(self) -> int:
        return sum(timer.due < float("inf") for timer in self._timers)

    def later(self, seconds: float, call: Callable[[], None]) -> _Timer:
        self._timers.append(_Timer(self.seconds + seconds, call))
        return self._timers[-1]

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        due = [timer for timer in self._timers if timer.due <= self.seconds]
        self._timers = [timer for timer in self._timers if self.seconds < timer.due < float("inf")]
        for timer in sorted(due, key=lambda timer: timer.due):
            timer.call()


class _Log:
    def __init__(self, memory: int) -> None:
        self.memory = memory


class FakeWorker:
    """`well` is what it says when asked, once `may_answer` is set; `ended_by` how it ended: "" (alive), "us", "itself".
    A kill takes until `may_end` is set, its last words until `may_be_read` is."""

    def __init__(self, config: WorkerConfig, memory: int) -> None:
        self.config, self.log = config, _Log(memory)
        self.died = asyncio.Event()
        self.well, self.ended_by, self.asked, self._why = True, "", 0, "signal: SIGABRT"
        self.may_answer, self.may_end, self.may_be_read = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for gate in (self.may_answer, self.may_end, self.may_be_read):
            gate.set()
        self.on_kill: Callable[[FakeWorker], None] = lambda _: None

    @property
    def alive(self) -> bool:
        return not self.died.is_set()

    async def answers(self, seconds: float) -> bool:
        self.asked += 1
        await asyncio.sleep(0)
        await self.may_answer.wait()
        return self.well and self.alive

    def condemn(self, why: str) -> None:
        self._why = why

    def why_ended(self) -> str:
        return self._why

    async def ended(self) -> None:
        await self.died.wait()
        await self.may_be_read.wait()

    async def kill(self) -> None:
        if self.alive:
            self.on_kill(self)
            await asyncio.sleep(0)
            await self.may_end.wait()
            self.ended_by = self.ended_by or "us"
            self.died.set()

    def kill_now(self) -> None:
        self.ended_by = "us"
        self.died.set()

    def crash(self, why: str = "signal: SIGABRT") -> None:
        self.ended_by, self._why = "itself", why
        self.died.set()


@dataclass
class Machine:
    """Starts fake workers: at once, or (`held`) when the test says so. `sizes` in bytes by model, 1 GiB if not named.

    `uncertain` is how much less than its size a model may turn out to take, by model.
    """

    memory: int = 100 * GIB
    sizes: dict[str, int] = field(default_factory=dict)
    uncertain: dict[str, int] = field(default_factory=dict)
    held: bool = False
    workers: list[FakeWorker] = field(default_factory=list)
    starting: dict[str, asyncio.Future[LoupeError | None]] = field(default_factory=dict)
    failures: dict[str, list[LoupeError]] = field(default_factory=dict)
    broken_off: list[str] = field(default_factory=list)

    def size(self, model: str) -> int:
        return self.sizes.get(model, GIB)

    def free(self) -> MachineMemory:
        return MachineMemory(self.memory, self.memory - sum(worker.log.memory for worker in self.living))

    @property
    def living(self) -> list[FakeWorker]:
        return [worker for worker in self.workers if worker.alive]

    async def start(self, config: WorkerConfig, _name: str) -> Any:
        name = config.model.name
        if self.held:
            loading = self.starting[name] = asyncio.get_running_loop().create_future()
            try:
                failure = await loading
            except asyncio.CancelledError:
                self.broken_off.append(name)
                await asyncio.sleep(0)  # a real one is killed first
                raise
            finally:
                del self.starting[name]
            if failure is not None:
                raise failure
        if failures := self.failures.get(name):
            raise failures.pop(0)
        self.workers.append(FakeWorker(config, self.size(name)))
        return self.workers[-1]

    def names(self) -> list[str]:
        return [worker.config.model.name for worker in self.living]


class _Budget(MemoryBudget):
    def __init__(self, machine: Machine, limit: int) -> None:
        super().__init__(limit, machine.free)
        self._machine = machine

    def need(self, gguf: GgufFile | None, config: WorkerConfig) -> Need:
        name = config.model.name
        size = self._machine.size(name)
        return Need(size - self._machine.uncertain.get(name, 0), size + PROCESS)


def a_model(name: str, *, file: str = "", installed: float = 0.0, family: str = "llama") -> LocalModel:
    """A model of the file `file`, or one of its own; installed at so many seconds of the epoch."""
    manifest = Manifest(parse_name(name), Layer("sha256:0", 1), (), b"", "d" * 64, round(installed * 1e9), 1)
    return LocalModel(
        manifest=manifest, path=Path(file or name), config={"model_family": family}, template=None, template_text="",
        system="", parameters={}, messages=(), licenses=(), gguf=None,
        capabilities=("completion",),
    )  # fmt: skip


def launch(**options: Json) -> Launch:
    return read_options({}, options, SETTINGS)[1]


@dataclass
class Request:
    """A request that asked for a model: it holds it, once `runner` is there, until `finish`."""

    task: asyncio.Task[None]
    done: asyncio.Event
    runner: Runner | None = None
    failure: BaseException | None = None

    @property
    def holds(self) -> FakeWorker | None:
        return self.runner.worker if self.runner is not None and not self.task.done() else None  # type: ignore[return-value]

    async def finish(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.done.set()
        await settle()

    async def leave(self) -> None:
        self.task.cancel()
        await settle()

    def error(self) -> BaseException | None:
        """What it ended with; it must have ended."""
        assert self.task.done()
        return None if self.task.cancelled() else self.task.exception()


class Bench:
    """A scheduler over a pretended machine."""

    def __init__(self, machine: Machine | None = None, **settings: Any) -> None:
        self.clock, self.machine = Clock(), machine or Machine()
        self.settings = replace(SETTINGS, **settings)
        self.scheduler = Scheduler(
            self.settings, budget=_Budget(self.machine, self.settings.memory), start=self.machine.start,
            clock=self.clock, later=self.clock.later,
        )  # fmt: skip

    async def ask(self, model: LocalModel | str, keep_alive: Json = None, **options: Json) -> Request:
        """A request that has gone as far as it can."""
        wanted = a_model(model) if isinstance(model, str) else model
        made = Request(task=None, done=asyncio.Event())  # type: ignore[arg-type]

        async def work() -> None:
            async with self.scheduler.runner(wanted, launch(**options), keep_alive_ns(keep_alive)) as runner:
                made.runner = runner
                await made.done.wait()
                if made.failure is not None:
                    raise made.failure

        made.task = asyncio.create_task(work())
        await settle()
        return made

    async def use(self, model: LocalModel | str, keep_alive: Json = None, **options: Json) -> None:
        """A request from its beginning to its end."""
        request = await self.ask(model, keep_alive, **options)
        await request.finish()
        await request.task

    async def loaded(self, model: str, failure: LoupeError | None = None) -> None:
        """The load of `model`, which was held, ends."""
        self.machine.starting[model].set_result(failure)
        await settle()

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await settle()

    def names(self) -> set[str]:
        return {row.model.name.shortest.removesuffix(":latest") for row in self.scheduler.rows()}


@asynccontextmanager
async def bench(machine: Machine | None = None, **settings: Any) -> AsyncIterator[Bench]:
    made = Bench(machine, **settings)
    try:
        yield made
    finally:
        await asyncio.wait_for(made.scheduler.close(), 10)
