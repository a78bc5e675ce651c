"""The one assembly: every part is made here, from the settings, and started and stopped in a stated order.

Making costs nothing and does no I/O; `Services.start` opens the stores, finds the hosts and begins to watch them.
Production and tests call the same `build`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from app.backends.chart_process import ChartProcess
from app.backends.embedded import EmbeddedRuntime
from app.backends.nvml import NvidiaGpus
from app.backends.quantizer_process import QuantizerProcess
from app.backends.starter_process import StarterProcess
from app.bootstrap_parts import alerts_of, expose, host_backend, host_timeouts, queue_limits, span_export, surroundings
from app.bootstrap_runtime import OwnRuntime
from app.comparison.alias_choice import AliasChooser, KeptChoices
from app.comparison.ballots import Ballots, questions_by_domain
from app.comparison.batching.lab import BatchingLab
from app.comparison.comparisons import Comparisons, Needs
from app.comparison.host_bench import Way
from app.comparison.load_lab import sources
from app.comparison.load_lab.lab import LoadLab, LoadNeeds
from app.comparison.load_lab.runs import LoadStore
from app.comparison.machine import memory_bandwidth
from app.comparison.pane_run import PaneAsker
from app.comparison.pictures import Pictures
from app.comparison.question_set import QuestionSet, shipped_sets
from app.comparison.room import Room
from app.comparison.round_store import RoundStore
from app.comparison.scorecard_store import ScorecardStore
from app.comparison.side_by_side import SideBySide
from app.comparison.teaching import Teaching
from app.comparison.training_store import TrainingStore
from app.comparison.vote_store import VoteStore
from app.config import Settings
from app.config_children import process_environment
from app.config_report import LoadedSettings
from app.core.generation import CacheMode, GenerationRequest, Priority
from app.core.ports import Clock, SystemClock
from app.host_resolution import resolve_hosts
from app.host_urls import read_address
from app.models.catalog import Catalog
from app.models.machine_memory import machine_memory
from app.services.access_keys import AccessKeys
from app.services.alerting.alerts import Alerts
from app.services.alerting.figures import Watched
from app.services.alias_route import AliasRoute
from app.services.aliases import Aliases
from app.services.asking_again import AskingAgain
from app.services.batches.asking import Way as BatchWay
from app.services.batches.batches import Batches
from app.services.batches.files import BatchFiles
from app.services.batches.store import BatchStore
from app.services.chat import Caller, ChatService
from app.services.checking.system import SystemCheck
from app.services.costing.service import Costing
from app.services.energy import EnergyMeter
from app.services.generations import Generations
from app.services.gpu_programs import GpuPrograms
from app.services.happenings import Happenings
from app.services.hardware import Hardware
from app.services.history import History
from app.services.history_backups import HistoryBackups
from app.services.host_admin import HostAdmin
from app.services.host_pool import HostPool
from app.services.jobs import Jobs
from app.services.key_usage import KeyUsage
from app.services.live_series import LiveSeries
from app.services.machine_reading import MachineReader
from app.services.model_jobs import ModelJobs, Workshop
from app.services.overview import Overview
from app.services.people import People
from app.services.prompt_library import PromptLibrary
from app.services.request_queue import RequestQueue, SwapRule
from app.services.response_cache import ResponseCache
from app.services.retry_policy import RetryBudget
from app.services.runtime_tuning import RuntimeTuning
from app.services.series_store import SeriesStore
from app.services.service_figures import ServiceFigures
from app.services.span_export import SpanExport
from app.services.starter_family import StarterFamily
from app.services.telemetry import Telemetry, Trace

log = structlog.get_logger(__name__)
PROMPTS = Path(__file__).parents[1] / "prompts"


@dataclass(slots=True)
class Services:
    """Everything that pages and routes may use. `why` says in one line which hosts are in use and why."""

    settings: Settings
    loaded: LoadedSettings  # the same settings, with where each comes from
    telemetry: Telemetry
    overview: Overview
    hardware: Hardware
    figures: SeriesStore
    happenings: Happenings
    live: LiveSeries
    cost: Costing
    alerts: Alerts
    check: SystemCheck
    cache: ResponseCache
    pool: HostPool
    hosts: HostAdmin
    queue: RequestQueue
    chat: ChatService
    aliases: Aliases
    history: History
    backups: HistoryBackups
    generations: Generations
    asking_again: AskingAgain
    side_by_side: SideBySide
    ballots: Ballots
    questions: Callable[[], Mapping[str, tuple[str, ...]]]  # shipped ones, by what they are about
    jobs: Jobs
    model_jobs: ModelJobs
    batches: Batches
    batch_files: BatchFiles
    catalog: Catalog
    starter: StarterFamily
    comparisons: Comparisons
    load_lab: LoadLab
    batching: BatchingLab
    tuning: RuntimeTuning
    teaching: Teaching
    prompts: PromptLibrary
    pictures: Pictures
    keys: AccessKeys
    key_usage: KeyUsage
    runtime: EmbeddedRuntime
    clock: Clock
    embedded: bool = False
    why: str = ""
    export: SpanExport | None = None
    draining: bool = False
    started: bool = False
    _loop: asyncio.AbstractEventLoop | None = field(default=None, repr=False)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that all services run on, for callers from other threads."""
        if self._loop is None:
            raise RuntimeError("the services are not started")
        return self._loop

    async def start(self) -> None:
        """Open the stores, find the hosts, begin to watch them. Raises `StoreError` where history cannot be kept."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self.keys.load)
        await asyncio.gather(
            self.history.open(), self.cache.start(), self.aliases.start(), self.key_usage.start(), self._find_hosts()
        )
        self.pool.on_change(self.queue.poke)
        await self.pool.start()
        await self.model_jobs.start()
        await self.comparisons.start()
        await self.load_lab.start()
        await self.teaching.start()
        await self.batches.start()
        await self.batching.start()
        self.generations.start()
        if self.export is not None:
            self.export.start()
        self.backups.start()
        self.live.start()
        self.hardware.start()
        await self.cost.start()
        await self.alerts.start()
        if self.embedded and self.settings.starter:
            self.starter.start()
        self.started = True

    async def _find_hosts(self) -> None:
        resolution = await resolve_hosts(self.settings)
        self.embedded, self.why = resolution.embedded, resolution.why
        if self.embedded:
            await self.tuning.start()
            await self.runtime.start()
        backends = [host_backend(self.settings, address) for address in resolution.hosts]
        self.hosts.populate([self.runtime] if self.embedded else backends)
        log.info("hosts", why=self.why)

    async def stop(self) -> None:
        """Admit nobody, let answers end within the drain time, stop the rest, then close what they used."""
        self.draining = True
        self.queue.close()
        drain = self.settings.drain_seconds
        await asyncio.gather(self.generations.stop(drain), self.side_by_side.close(drain), self.ballots.close())
        await self.asking_again.close()
        await self.chat.close()
        await self.jobs.stop()
        await self.batches.close()
        await self.alerts.stop()
        await self.backups.stop()
        await self.hosts.stop()
        await self.pool.stop()
        await self.runtime.stop()
        if self.export is not None:
            await self.export.stop()
        await self.cost.stop()
        await self.hardware.close()
        await self.live.stop()
        await asyncio.gather(
            self.cache.close(), self.history.close(), self.key_usage.stop(), asyncio.to_thread(self._keep_figures)
        )

    def _keep_figures(self) -> None:
        self.live.keep()
        self.figures.close()


def build(settings: Settings, clock: Clock | None = None, loaded: LoadedSettings | None = None) -> Services:
    """Assemble the product. Nothing is opened or started. `loaded` says where the settings come from."""
    clock = clock or SystemClock()
    telemetry = Telemetry(clock, kept_bytes=settings.trace_bytes, words=settings.trace_words)
    cache = ResponseCache(settings.cache_folder, settings.cache_bytes, clock)
    pool = HostPool([], clock, outage=settings.outage_seconds, remote=settings.remote_models)
    rule = SwapRule(settings.swap_hold_seconds, settings.swap_overdue_seconds)
    queue = RequestQueue(pool, clock, limits=queue_limits(settings), rule=rule, meter=telemetry.metrics)
    pool.predict = queue.predict
    choices = KeptChoices(lambda wish: chooser(wish), clock)
    aliases = Aliases(pool, settings.data, clock, choices)
    route = AliasRoute(aliases.find, aliases.targets, pool, queue.pace.prompt_tokens)
    people = People(settings.oidc_admins, settings.oidc_users) if settings.oidc_metadata_url else None
    keys = AccessKeys(
        settings.data, clock, token=settings.signs_in_without_key,
        people=people.visitor if people else None,
    )  # fmt: skip
    key_usage = KeyUsage(keys, settings.data, clock)
    chat = ChatService(cache, queue, pool, telemetry, RetryBudget(clock), route, key_usage)
    pool.on_gone(cache.forget_digest)
    export = span_export(settings, telemetry)
    programs = GpuPrograms(NvidiaGpus().read)
    hardware = Hardware(MachineReader(settings.data, clock).read, programs.read, clock)
    figures = SeriesStore(settings.data / "figures.db")
    happenings = Happenings(pool.statuses, telemetry.log, pool.spelled)
    jobs = Jobs(clock)
    seen = ServiceFigures(telemetry.log, queue, pool, clock, lambda: sum(job.active for job in jobs.list()))
    live = LiveSeries(hardware, seen, happenings, figures)
    watched = Watched(hardware, telemetry, queue, pool, clock, more=lambda: live.newest.figures)
    expose(telemetry, queue, pool, hardware)
    history = History(settings.history_url, clock)
    batch_store = BatchStore(settings.data / "batches.db")

    async def load(request: GenerationRequest) -> None:
        caller = Caller(flow="models", priority=Priority.INTERACTIVE, cache_mode=CacheMode.BYPASS, trace=Trace(clock))
        async with aclosing(chat.ask(request, caller)) as chunks:
            async for _ in chunks:
                continue

    def changed() -> None:
        catalog.look_again()
        choices.look_again()
        pool.look_again()

    async def labels(model: str, host: str) -> list[str]:
        found = (await catalog.snapshot()).find(model)
        return [variant.label for variant in found[0].variants if host in variant.hosts] if found else []

    asker = PaneAsker(chat, pool, EnergyMeter())
    environment = process_environment()
    starter = StarterFamily(StarterProcess(settings.models_folder, settings.data, environment), jobs, changed)
    workshop = Workshop(QuantizerProcess(environment), settings.data, (settings.models_folder,), labels)
    model_jobs = ModelJobs(jobs, pool, changed, workshop, clock=clock, check_free=aliases.check_free)
    catalog = Catalog(pool, load, lambda: {**starter.making(), **model_jobs.making()}, clock)
    programs.variant_of = catalog.with_weights
    way = Way(chat, queue, pool, telemetry)
    room = Room(_free_memory, lambda: hardware.state.gpus)
    needs = _comparison_needs(way, jobs, catalog, clock, room)
    load_needs = LoadNeeds(way, jobs, clock, partial(sources.of_chats, history))
    comparisons = Comparisons(needs, ScorecardStore(settings.data / "compare" / "scorecards"))
    own = OwnRuntime(settings, environment, host_timeouts(settings), pool, queue, jobs)
    chooser = AliasChooser(catalog, comparisons.list, lambda host: pool.backend(host).address, room)
    return Services(
        settings=settings,
        loaded=loaded or LoadedSettings(settings, {}, ()),
        telemetry=telemetry,
        hardware=hardware,
        check=SystemCheck(surroundings(settings, loaded, hardware, pool, queue, catalog, own.tuning)),
        figures=figures,
        happenings=happenings,
        live=live,
        cost=Costing(
            telemetry, hardware, settings.data, clock, lambda host: pool.backend(host).address.here, keys.named
        ),
        alerts=alerts_of(settings, watched, clock, telemetry, happenings),
        overview=Overview(cache, queue, pool, telemetry, clock, keys.named),
        cache=cache,
        pool=pool,
        hosts=HostAdmin(pool, settings.data, read_address, partial(host_backend, settings), jobs.runs_on),
        queue=queue,
        chat=chat,
        aliases=aliases,
        history=history,
        backups=HistoryBackups(history, clock),
        asking_again=AskingAgain(chat, history, telemetry.find),
        generations=Generations(chat, history, queue, grace_seconds=settings.page_grace_seconds, clock=clock),
        side_by_side=SideBySide(
            asker,
            pool,
            RoundStore(settings.data / "compare" / "rounds"),
            history.adopt,
            _free_memory,
            clock,
            settings.page_grace_seconds,
        ),  # fmt: skip
        ballots=Ballots(asker, VoteStore(settings.data / "compare" / "votes.jsonl"), clock),
        questions=partial(questions_by_domain, PROMPTS / "compare"),
        jobs=jobs,
        model_jobs=model_jobs,
        batches=Batches(batch_store, jobs, BatchWay(chat, queue, pool, telemetry, settings.cache_mode), aliases, clock),
        batch_files=BatchFiles(batch_store, clock),
        catalog=catalog,
        starter=starter,
        comparisons=comparisons,
        load_lab=LoadLab(load_needs, LoadStore(settings.data / "load")),
        batching=own.lab(needs),
        tuning=own.tuning,
        teaching=Teaching(needs, TrainingStore(settings.data / "compare" / "training")),
        prompts=PromptLibrary([PROMPTS, *([settings.prompts] if settings.prompts else [])]),
        pictures=ChartProcess(settings.data / "charts", environment),
        keys=keys,
        key_usage=key_usage,
        runtime=own.runtime,
        clock=clock,
        export=export,
    )


def _free_memory() -> int:
    return machine_memory().free


def _comparison_needs(way: Way, jobs: Jobs, catalog: Catalog, clock: Clock, room: Room) -> Needs:
    def sets() -> dict[str, QuestionSet]:
        return {found.name: found for found in shipped_sets(PROMPTS / "compare")[0]}

    return Needs(
        way=way, jobs=jobs, clock=clock, look=catalog.snapshot, sets=sets, room=room,
        joules=EnergyMeter().total, bandwidth=memory_bandwidth,
    )  # fmt: skip
