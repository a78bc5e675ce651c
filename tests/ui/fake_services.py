"""Services for the pages' tests: real history, jobs, generations and prompts; a scripted model, hosts and catalog.

The services run on a loop of their own in a thread, as in the product. What the "model" does is a script: texts,
errors, phases, and gates that hold it until the test opens them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from app.backends.chart_process import ChartProcess
from app.comparison.ballots import Ballots, questions_by_domain
from app.comparison.pane_run import PaneAsker
from app.comparison.round_store import RoundStore
from app.comparison.side_by_side import SideBySide
from app.comparison.vote_store import VoteStore
from app.config import Settings
from app.config_report import LoadedSettings
from app.core.alerts import Figures
from app.core.checks import Check, Verdict
from app.core.errors import LoupeError
from app.core.generation import Chunk, GenerationRequest, Json, Priority, Span, Usage
from app.core.hardware import Gpus, Machine
from app.core.hosts import HostAddress, HostSeats, HostState, HostStatus, LoadedModel
from app.core.making import STARTER_PROVENANCE
from app.core.ports import SystemClock
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.services.access_keys import AccessKeys
from app.services.alerting.alerts import Alerts
from app.services.alerting.baselines import Baselines
from app.services.alerting.messages import Messages
from app.services.alias_targets import AliasView, Stop
from app.services.alias_targets import Step as AliasStep
from app.services.alias_values import Alias
from app.services.asking_again import AskingAgain
from app.services.chat import Caller
from app.services.costing.service import Costing
from app.services.energy import EnergyMeter
from app.services.generations import Generations
from app.services.happenings import Happenings
from app.services.hardware import Hardware
from app.services.history import History
from app.services.history_backups import HistoryBackups
from app.services.host_pool import PooledLoad
from app.services.host_room import Beside
from app.services.jobs import JobHandle, Jobs, JobView
from app.services.key_usage import KeyUsage
from app.services.live_series import LiveSeries
from app.services.model_jobs import MakeOffer, Removal
from app.services.overview import Overview
from app.services.prompt_library import PromptLibrary
from app.services.queueing.views import QueueSnapshot
from app.services.response_cache import ResponseCache
from app.services.series_store import SeriesStore
from app.services.service_figures import ServiceFigures
from app.services.telemetry import CacheDecision, Phase, Telemetry
from tests.fakes import FakeClock
from tests.ui.fake_batches import FakeBatches
from tests.ui.fake_batching import FakeBatching, FakeTuning
from tests.ui.fake_comparisons import FakeComparisons
from tests.ui.fake_load_lab import FakeLoadLab

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PROMPTS = ROOT / "prompts"
MIB = 2**20


LADDER = (
    ("fp16", "F16", 259, 16.0), ("q8_0", "Q8_0", 138, 8.51), ("q6_K", "Q6_K", 109, 6.62),
    ("q5_K_M", "Q5_K_M", 104, 6.3), ("q4_K_M", "Q4_K_M", 98, 5.97), ("q3_K_M", "Q3_K_M", 88, 5.31),
    ("q4_0", "Q4_0", 86, 4.98), ("q2_K", "Q2_K", 83, 4.85),
)  # fmt: skip


def smollm2(**changes: dict[str, Any]) -> CatalogFamily:
    """The starter family; `changes` by suffix, e.g. `q4_0={"state": "making"}`."""
    variants = tuple(
        replace(
            CatalogVariant(
                f"smollm2:135m-instruct-{suffix}",
                label,
                suffix,
                mib * MIB,
                bpw,
                hosts=("built-in",),
                reference=label == "F16",
                defaults={"temperature": 0.2, "top_p": 0.9},
                capabilities=("completion",),
            ),
            **changes.get(suffix, {}),
        )
        for suffix, label, mib, bpw in LADDER
    )
    return CatalogFamily("smollm2-135m", "SmolLM2 135M Instruct", "", "134.52M", 8192, variants, STARTER_PROVENANCE)


def qwen() -> CatalogFamily:
    variants = tuple(
        CatalogVariant(f"qwen3:4b-instruct-2507-{label.lower()}", label, label, size, bpw, hosts=("bench",))
        for label, size, bpw in (("Q8_0", 4_280_404_704, 8.51), ("Q4_K_M", 2_497_276_160, 4.96))
    )
    return CatalogFamily("qwen3-4b", "Qwen3 4B Instruct 2507", "", "4.0B", 262_144, variants)


def loaded(name: str, minutes: float = 4.0) -> LoadedModel:
    moment = datetime.now(UTC) + timedelta(minutes=minutes)
    return LoadedModel(name, "", 327 * MIB, 0, moment, 4096)


class FakeCatalog:
    def __init__(self) -> None:
        self.view = CatalogView((smollm2(),))
        self.calls: list[tuple[str, str]] = []
        self.failure: LoupeError | None = None
        self.gate: asyncio.Event | None = None

    async def snapshot(self, *, stale_ok: bool = False) -> CatalogView:
        if self.gate is not None:
            await self.gate.wait()
        return self.view

    async def load(self, name: str) -> None:
        await self._act("load", name, loaded(name))

    async def unload(self, name: str) -> None:
        await self._act("unload", name, None)

    async def _act(self, what: str, name: str, state: LoadedModel | None) -> None:
        self.calls.append((what, name))
        if self.failure is not None:
            raise self.failure
        families = tuple(
            replace(f, variants=tuple(replace(v, loaded=state) if v.name == name else v for v in f.variants))
            for f in self.view.families
        )
        self.view = replace(self.view, families=families)


EMBEDDED = HostAddress("built-in", "http://127.0.0.1:41873", embedded=True)
OLLAMA = HostAddress("ollama", "http://127.0.0.1:11434")


class FakePool:
    def __init__(self) -> None:
        self.hosts: tuple[HostStatus, ...] = (HostStatus(EMBEDDED, HostState.HEALTHY, "0.33.0"),)

        self.slots = 2
        self.held: tuple[tuple[HostAddress, LoadedModel], ...] = ()

    def statuses(self) -> tuple[HostStatus, ...]:
        return self.hosts

    def seats(self) -> tuple[HostSeats, ...]:
        return ()

    async def resolve(self, model: str) -> None:
        return None

    def beside(self, models: Collection[str]) -> tuple[tuple[HostAddress, Beside], ...]:
        return ((EMBEDDED, Beside(True, 0)),)

    async def ps(self) -> tuple[PooledLoad, ...]:
        return ()

    def loads(self) -> tuple[tuple[HostAddress, LoadedModel], ...]:
        return self.held


class FakeHosts:
    """`calls` says what was asked; nothing comes of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.refusal: LoupeError | None = None

    async def add(self, name: str, url: str, slots: int = 1, key: str | None = None) -> HostStatus:
        self._asked("add", name, url, str(slots), str(key))
        return HostStatus(HostAddress(name, url, slots), HostState.UNKNOWN)

    async def drain(self, name: str, *, draining: bool = True) -> None:
        self._asked("drain" if draining else "undrain", name)

    async def remove(self, name: str) -> bool:
        self._asked("remove", name)
        return True

    def _asked(self, *call: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(call)


class FakeAliases:
    """Kept in a table; each leads to its first target, unless `problem` says why not. `refusal` is raised first."""

    def __init__(self) -> None:
        self.table: dict[str, Alias] = {}
        self.shown: tuple[AliasView, ...] = ()  # beside those of the table
        self.problem, self.anyway = "", False
        self.refusal: LoupeError | None = None
        self.targets = self

    def all(self) -> tuple[Alias, ...]:
        return tuple(self.table.values())

    def find(self, name: str) -> Alias | None:
        return self.table.get(name)

    async def views(self) -> tuple[AliasView, ...]:
        return (*self.shown, *[await self.view(alias) for alias in self.all()])

    async def view(self, alias: Alias) -> AliasView:
        stops = [Stop(target, target.name, target.host, alias.defaults) for target in alias.targets]
        steps = tuple(
            AliasStep(stop.target, ((stop, self.problem if number == 0 else ""),)) for number, stop in enumerate(stops)
        )
        first = stops[1:] if self.problem else stops
        return AliasView(alias, steps, first[0].model if first else "", first[0].host if first else "")

    async def put(self, alias: Alias, *, anyway: bool = False) -> Alias:
        if self.refusal is not None:
            raise self.refusal
        self.table[alias.name], self.anyway = alias, anyway
        return alias

    async def remove(self, name: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        del self.table[name]


class FakeQueue:
    """What waits is a list of views; `calls` says what was asked. `pace`: tokens that are written a second."""

    def __init__(self) -> None:
        self.view = QueueSnapshot()
        self.pace, self._begun = 0.0, time.monotonic()
        self.calls: list[tuple[str, ...]] = []
        self.refusal: LoupeError | None = None

    @property
    def written(self) -> int:
        return int(self.pace * (time.monotonic() - self._begun))

    @property
    def waiting(self) -> int:
        return len(self.view.waiting)

    @property
    def running(self) -> int:
        return len(self.view.running)

    def snapshot(self) -> QueueSnapshot:
        return self.view

    def pause(self) -> None:
        self._asked("pause")
        self.view = replace(self.view, paused=True)

    def drain(self) -> None:
        self._asked("drain")
        self.view = replace(self.view, draining=True)

    def resume(self) -> None:
        self._asked("resume")
        self.view = replace(self.view, paused=False, draining=False)

    def cancel(self, ticket: str) -> None:
        self._asked("cancel", ticket)

    def move(self, ticket: str, priority: Priority) -> None:
        self._asked("move", ticket, str(priority))

    def _asked(self, *call: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(call)


class FakeModelJobs:
    """Real jobs, scripted work: a pull and a make tell `steps` and then wait for `gate`, or end with `failure`.

    `refusal` is raised before anything begins. `calls` says what was asked.
    """

    def __init__(self, jobs: Jobs, catalog: FakeCatalog) -> None:
        self._jobs, self._catalog = jobs, catalog
        self.calls: list[tuple[str, ...]] = []
        self.steps: list[tuple[int, int, str]] = [(412 * MIB, 948 * MIB, "Downloading")]
        self.gate: asyncio.Event | None = None
        self.failure: LoupeError | None = None
        self.refusal: LoupeError | None = None
        self.offered: tuple[MakeOffer, ...] = ()
        self.told: Removal | None = None

    def pull(self, name: str, host: str = "") -> JobView:
        self._asked("pull", name, host)
        return self._jobs.start("pull", f"pull {name}", f"Getting {name}", self._work, host=host, model=name)

    async def offers(self, source: str, host: str = "") -> tuple[MakeOffer, ...]:
        self._asked("offers", source, host)
        return self.offered

    def make(self, source: str, level: str, host: str = "") -> JobView:
        self._asked("make", source, level, host)
        title = f"Making {level} of {source}"
        return self._jobs.start("make", f"make {source} {level}", title, self._work, host=host, model=source)

    async def removal(self, name: str, host: str = "") -> Removal:
        self._asked("removal", name, host)
        found = self._catalog.view.find(name)
        return self.told or Removal(name, host or "built-in", found[1].size if found else 0)

    async def remove(self, name: str, host: str = "") -> Removal:
        self._asked("remove", name, host)
        told = await self.removal(name, host)
        view = self._catalog.view
        families = tuple(replace(f, variants=tuple(v for v in f.variants if v.name != name)) for f in view.families)
        self._catalog.view = replace(view, families=tuple(family for family in families if family.variants))
        return told

    def _asked(self, *call: str) -> None:
        if self.refusal is not None and call[0] != "removal":
            raise self.refusal
        self.calls.append(call)

    async def _work(self, handle: JobHandle) -> None:
        for completed, total, detail in self.steps:
            handle.progress(completed, total, detail)
        if self.failure is not None:
            raise self.failure
        if self.gate is not None:
            await self.gate.wait()


Step = str | Span | Phase | CacheDecision | LoupeError | asyncio.Event | Usage | Callable[[], Awaitable[None]]
USAGE = Usage(2_900_000_000, 0, 31, 21_000_000, 7, 170_000_000)


class ScriptedModel:
    """Stands where `ChatService` does; plays its script once per question and remembers what it was asked."""

    def __init__(self) -> None:
        self.script: Callable[[GenerationRequest], Sequence[Step]] = lambda _: [
            "Paris",
            " is the capital",
            " of France.",
        ]
        self.asked: list[dict[str, Json]] = []
        self.callers: list[Caller] = []

    async def ask(self, request: GenerationRequest, caller: Caller) -> AsyncIterator[Chunk]:
        self.asked.append(dict(request.body))
        self.callers.append(caller)
        trace, usage = caller.trace, USAGE
        trace.host = "built-in"
        for step in self.script(request):
            if isinstance(step, Phase):
                trace.enter(lambda now=step: now)  # type: ignore[misc]
            elif isinstance(step, CacheDecision):
                trace.cache = step
            elif isinstance(step, Span):
                trace.model = str(step.attributes.get("model", trace.model))
                trace.add_span(step.name, step.start, step.end, **step.attributes)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Usage):
                usage = step
            elif isinstance(step, LoupeError):
                raise step
            elif callable(step):
                await step()
            else:
                if trace.ttft is None:
                    trace.enter("decode")
                    trace.ttft = 0.42
                yield Chunk(b"", text=step)
        for name, start, end in (
            ("queue", 0.0, 0.03),
            ("load", 0.03, 0.29),
            ("prefill", 0.29, 0.31),
            ("decode", 0.31, 0.5),
        ):
            trace.add_span(name, start, end)
        yield Chunk(b"", done=True, done_reason="stop", usage=usage)


class TracedModel:
    """The scripted model with the telemetry that `ChatService` puts around each answer."""

    def __init__(self, model: ScriptedModel, telemetry: Telemetry) -> None:
        self._model, self._telemetry = model, telemetry

    async def ask(self, request: GenerationRequest, caller: Caller) -> AsyncIterator[Chunk]:
        caller.trace.describe(request, words=self._telemetry.words)
        with self._telemetry.recording(caller.trace):
            async for chunk in self._model.ask(request, caller):
                caller.trace.usage = chunk.usage or caller.trace.usage
                yield chunk


class FakeCheck:
    """A machine with one thing that fails and one that could be better."""

    def __init__(self) -> None:
        self.looks = 0

    async def run(self) -> tuple[Check, ...]:
        self.looks += 1
        return (
            Check("processor", Verdict.OK, "Test <1>: AVX2", "AVX2"),
            Check("memory", Verdict.WARN, "3.0 GiB", "8 GiB", "Only small models fit."),
            Check("host far", Verdict.FAIL, "10.0.0.7:11434: does not answer", "a host that answers", "Start it."),
        )


class FakeWatched:
    """What alert rules look at is said by the test."""

    def __init__(self) -> None:
        self.figures: Figures = {}
        self.baselines, self.learned = Baselines(), False

    def look(self) -> Figures:
        return self.figures


class FakeServices:
    """Use as a context manager: it owns a loop in a thread, and a history in a folder."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="services", daemon=True)
        self.model = ScriptedModel()
        self.queue = FakeQueue()
        self.pool = FakePool()
        self.hosts = FakeHosts()
        self.keys = AccessKeys(folder, SystemClock())
        self.key_usage = KeyUsage(self.keys, folder, SystemClock())
        self.cache = ResponseCache(folder / "cache", 64 * MIB, SystemClock())
        self.telemetry = Telemetry(SystemClock())
        self.overview = Overview(self.cache, self.queue, self.pool, self.telemetry, SystemClock())  # type: ignore[arg-type]
        self.settings = Settings(data=folder)
        self.clock = SystemClock()
        self.machine: Callable[[], Machine] = lambda: Machine(cpu=0.25, memory_used=6 << 30, memory_total=16 << 30)
        self.gpus: Callable[[], Gpus] = lambda: Gpus(why="no NVIDIA GPU here")
        self.hardware = Hardware(lambda: self.machine(), lambda: self.gpus(), self.clock)
        self.cost = Costing(
            self.telemetry, self.hardware, folder, self.clock, lambda host: host == "built-in", self.keys.named
        )
        self.figures = SeriesStore(folder / "figures.db")
        self.happenings = Happenings(self.pool.statuses, self.telemetry.log)
        seen = ServiceFigures(self.telemetry.log, self.queue, self.pool, self.clock)
        self.live = LiveSeries(self.hardware, seen, self.happenings, self.figures)
        self.loaded = LoadedSettings(self.settings, {"data": "LOUPE_DATA"}, ())
        self.history = History(f"sqlite:///{folder}/history.db")
        self.backups = HistoryBackups(self.history, SystemClock())
        self.asking_again = AskingAgain(TracedModel(self.model, self.telemetry), self.history, self.telemetry.find)  # type: ignore[arg-type]
        self.generations = Generations(self.model, self.history, self.queue)  # type: ignore[arg-type]
        asker = PaneAsker(self.model, self.pool, EnergyMeter(folder / "nowhere"))
        rounds = RoundStore(folder / "rounds")
        self.side_by_side = SideBySide(asker, self.pool, rounds, self.history.adopt, lambda: 8 << 30, SystemClock())
        self.ballots = Ballots(asker, VoteStore(folder / "votes.jsonl"), SystemClock(), random.Random(5))
        self.questions = partial(questions_by_domain, PROMPTS / "compare")
        self.jobs = Jobs()
        self.catalog = FakeCatalog()
        self.aliases = FakeAliases()
        self.model_jobs = FakeModelJobs(self.jobs, self.catalog)
        self.batches = FakeBatches()
        self.prompts = PromptLibrary([PROMPTS])
        self.pictures = ChartProcess(ROOT / "build" / "charts", dict(os.environ))
        self.comparisons = FakeComparisons(self.jobs)
        self.load_lab = FakeLoadLab(self.jobs)
        self.check = FakeCheck()
        self.batching = FakeBatching(self.jobs)
        self.tuning = FakeTuning()
        self.watched, self.alert_clock = FakeWatched(), FakeClock()
        self.alert_clock.epoch = time.time()
        told: Any = self.watched
        self.alerts = Alerts(told, folder, self.alert_clock, self.telemetry.metrics, Messages("", "1"))
        self.embedded = True
        self.why = "No Ollama answers at 127.0.0.1:11434, so the built-in runtime is used."

    def hold(self, figures: Figures, minutes: float) -> None:
        """So it was for so many minutes, and the rules looked."""
        self.watched.figures = figures
        for _ in range(round(minutes * 12)):
            self.alerts.look()
            self.alert_clock.advance(5)

    def run(self, work: Coroutine[Any, Any, T], seconds: float = 10.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def gate(self) -> tuple[asyncio.Event, Callable[[], None]]:
        """An event that a script waits for, and what opens it (from any thread)."""
        event = asyncio.Event()
        return event, lambda: (self.loop.call_soon_threadsafe(event.set), None)[1]

    async def page_attached(self) -> None:
        """A step for a script: until a page reads the answer."""
        while not any(generation.attached for generation in self.generations._active.values()):
            await asyncio.sleep(0.005)

    def begun(self, start: Callable[[], JobView]) -> JobView:
        """A job begun as from another page, when it has told its steps."""

        async def begin() -> JobView:
            job = start()
            for _ in range(3):
                await asyncio.sleep(0)
            return self.jobs.get(job.id)

        return self.run(begin())

    def pull(self, name: str) -> JobView:
        return self.begun(lambda: self.model_jobs.pull(name))

    def until_ended(self, job_id: str) -> None:
        async def ended() -> None:
            while self.jobs.get(job_id).active:
                await asyncio.sleep(0)

        self.run(ended())

    def ask(self, text: str, model: str = "smollm2:135m-instruct-q4_K_M", conversation: str = "") -> str:
        """A whole turn outside of any page; the conversation's id."""

        async def turn() -> str:
            chat_id = conversation or (await self.history.create("local", model=model)).id
            generation = await self.generations.send(chat_id, text, Caller())
            async for _ in generation.attach():
                pass
            return chat_id

        return self.run(turn())

    def lose_history(self) -> None:
        """As if a start had found rubbish where the conversations were."""
        history = self.history

        def lose() -> None:
            assert history._engine is not None and history.file is not None
            history._engine.dispose()
            history.file.path.write_bytes(b"\0" * 9000)
            history._open()

        self.run(history._run_plain(lose))

    def __enter__(self) -> FakeServices:
        self._thread.start()
        self.run(self.history.open())
        self.run(self.cache.start())
        return self

    def __exit__(self, *_: object) -> None:
        async def down() -> None:
            await self.generations.stop(0.0)
            await self.side_by_side.close()
            await self.ballots.close()
            await self.jobs.stop()
            await self.cache.close()
            await self.history.close()

        self.run(down())
        self.figures.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


@contextlib.contextmanager
def fake_services(folder: Path) -> Iterator[FakeServices]:
    with FakeServices(folder) as services:
        yield services
