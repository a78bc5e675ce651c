"""Getting and making models, on whichever host is in use: ours or a real Ollama, here or elsewhere.

Pulls and makes are jobs of the server; what they ask of the host is Ollama's protocol and nothing else. A pull that is
cancelled stops at the host because the connection closes; what has arrived stays there, and trying again goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from app.core.errors import BadRequest, HostRefused, ModelNotFound
from app.core.generation import Json
from app.core.ports import Backend, Clock, Fleet, Quantizer, SystemClock
from app.models.naming import same_model, with_level
from app.services.host_records import PullProgress, records
from app.services.job_journal import Interrupted, Journal
from app.services.jobs import JobHandle, Jobs, JobState, JobView
from app.services.make_offers import MakeOffer, checked_level, name_for, offers, predicted_size
from app.services.make_source import MakeSource, look_at_source, refusal, way_of
from app.services.making import MakePlan, clear_leftovers, make_here, make_on_host
from app.services.making_time import MakingTime
from app.services.model_removal import Removal, removal_of
from app.services.perseverance import Pause, persevere
from app.services.registry_hosts import check_registry
from app.services.source_file import SourceFile
from app.wire.answers import error_text
from app.wire.go_json import dumps
from app.wire.model_names import parse_name

__all__ = ["MakeOffer", "ModelJobs", "Removal", "Workshop"]

PULL_WORDS = {
    "pulling manifest": "Asking the registry",
    "verifying sha256 digest": "Checking what arrived",
    "writing manifest": "Adding it to the models",
    "removing unused layers": "Removing layers that nothing uses any more",
    "success": "Done",
}


async def _no_labels(source: str, host: str) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where and with what quantizations are made. `data` is Loupe's data folder; `stores` are model stores on this
    machine in which a source's file may lie; `labels` tells which levels the family of a model has on a host."""

    quantizer: Quantizer
    data: Path
    stores: tuple[Path, ...] = ()
    labels: Callable[[str, str], Awaitable[Sequence[str]]] = _no_labels

    @property
    def folder(self) -> Path:
        return self.data / "making"


class ModelJobs:
    """`changed` is called whenever a host has other models than before; `check_free` raises for a name that no model
    may get."""

    def __init__(
        self, jobs: Jobs, fleet: Fleet, changed: Callable[[], None], workshop: Workshop, *,
        clock: Clock | None = None, pause: Pause = asyncio.sleep, check_free: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._check_free = check_free
        self._jobs, self._fleet, self._changed, self._workshop = jobs, fleet, changed, workshop
        self._clock, self._pause = clock or SystemClock(), pause
        self._time = MakingTime(workshop.data / "making-time.json")
        self._journal = Journal(workshop.data / "unfinished-jobs.json")
        self._turn = asyncio.Lock()  # one quantization at a time: it takes all cores
        self._making: dict[str, str] = {}  # job key → the name that is being made

    async def start(self) -> None:
        """Clear up after a process that was killed, and list what it had not finished."""
        await asyncio.to_thread(clear_leftovers, self._workshop.folder)
        names = {status.address.name for status in self._fleet.statuses()}
        for asked in await self._journal.open():
            if asked.host in names:
                self._restore(asked)

    def making(self) -> Mapping[str, float | None]:
        """Names of the quantizations under way: fraction done, None for one that waits for its turn."""
        return {
            self._making[job.key]: None if job.state is JobState.WAITING else job.fraction or 0.0
            for job in self._jobs.list()
            if job.active and job.key in self._making
        }

    # -- getting --------------------------------------------------------------------------------------------------

    def pull(self, name: str, host: str = "", *, insecure: bool = False) -> JobView:
        """Begin to pull, or go on. `insecure` allows a registry over plain http, as a name that begins so does.

        Raises `BadRequest` for a name that is none, or where `host` has to be said.
        """
        asked = name.strip()
        self._check_free(_model_name(asked))  # refused before anything begins
        insecure = insecure or asked.casefold().startswith("http://")
        return self._start(Interrupted("pull", asked, self._host(host).address.name, insecure=insecure))

    async def _pull(self, handle: JobHandle, asked: Interrupted) -> None:
        await check_registry(asked.model)
        backend = self._host(asked.host)
        body: dict[str, Json] = {"model": asked.model, "stream": True}
        if asked.insecure:
            body["insecure"] = True
        seen = PullProgress()

        async def attempt() -> None:
            async with aclosing(records(backend, "/api/pull", body)) as told:
                async for record in told:
                    seen.tell(record)
                    words = PULL_WORDS.get(record.status, "Downloading" if record.digest else record.status)
                    handle.progress(seen.completed, seen.total, words, moved=seen.moved)

        handle.say(PULL_WORDS["pulling manifest"])
        await persevere(attempt, handle, moved=lambda: seen.moved, pause=self._pause)

    # -- making ---------------------------------------------------------------------------------------------------

    async def offers(self, source: str, host: str = "") -> tuple[MakeOffer, ...]:
        """The quantizations of `source` that are not there. Raises `BadRequest` with the reason where none can be made
        of it, `ModelNotFound`, `HostError`."""
        backend = self._host(host)
        found = await self._source(backend, source)
        labels = await self._workshop.labels(found.info.name, backend.address.name)
        rows = []
        for row in offers(found.info, found.model, found.names, labels):
            why = await asyncio.to_thread(refusal, found, row.level, row.size, self._workshop.folder)
            seconds = await self._time.seconds(found.task(row.level, row.size), backend.address)
            rows.append(replace(row, refusal=why, seconds=seconds))
        return tuple(rows)

    def make(self, source: str, level: str, host: str = "") -> JobView:
        """Begin to make the quantization. Raises `BadRequest` for a level that is none."""
        asked = Interrupted("make", _model_name(source), self._host(host).address.name, level=checked_level(level))
        return self._start(asked)

    async def _make(self, handle: JobHandle, asked: Interrupted) -> None:
        if self._turn.locked():
            handle.say("Waiting for another quantization", waiting=True)
        async with self._turn:
            handle.say("Looking at the source")
            backend = self._host(asked.host)
            source = await persevere(lambda: self._source(backend, asked.model), handle, pause=self._pause)
            name = name_for(source.info.name, asked.level, source.names)
            self._check_free(name)
            size = predicted_size(source.info, source.model, asked.level)
            if why := await asyncio.to_thread(refusal, source, asked.level, size, self._workshop.folder):
                raise BadRequest(why, "level")
            began, task = self._clock.monotonic(), source.task(asked.level, size)
            handle.expect(await self._time.seconds(task, backend.address))
            plan = MakePlan(source.info, source.detail, asked.level, name, size)
            await self._made(handle, backend, plan, source)
            await self._time.learn(task, backend.address, self._clock.monotonic() - began)

    async def _made(self, handle: JobHandle, backend: Backend, plan: MakePlan, source: MakeSource) -> None:
        if way_of(plan.level) == "loupe" and isinstance(source.file, SourceFile):
            await make_here(
                handle, backend, plan, source.file, quantizer=self._workshop.quantizer,
                folder=self._workshop.folder, pause=self._pause,
            )  # fmt: skip
        else:
            await make_on_host(handle, backend, plan, pause=self._pause)

    async def _source(self, backend: Backend, name: str) -> MakeSource:
        return await look_at_source(backend, _model_name(name), self._workshop.stores)

    # -- removing -------------------------------------------------------------------------------------------------

    async def removal(self, name: str, host: str = "") -> Removal:
        """What deleting it would free. Raises `ModelNotFound`, `HostError`."""
        return await removal_of(_model_name(name), self._host(host))

    async def remove(self, name: str, host: str = "") -> Removal:
        """Delete it; what was freed. Raises `BadRequest` while a job needs it."""
        backend = self._host(host)
        told = await removal_of(_model_name(name), backend)
        self._check_unused(told)
        answer = await backend.forward("DELETE", "/api/delete", dumps({"model": told.name}))
        self._changed()
        if answer.status == 404:
            raise ModelNotFound(told.name, error_text(answer.body))
        if answer.status != 200:
            text = error_text(answer.body) or f"status {answer.status}"
            raise HostRefused(backend.address.name, answer.status, text, answer.body)
        return told

    def _check_unused(self, told: Removal) -> None:
        for job in self._jobs.list():
            names = [name for name in (job.model, self._making.get(job.key, "")) if name]
            if job.active and job.host == told.host and any(same_model(name, told.name) for name in names):
                raise BadRequest(f"{told.name} is in use ({job.title}); cancel that first", "model")

    # -- jobs -----------------------------------------------------------------------------------------------------

    def _start(self, asked: Interrupted) -> JobView:
        view = self._view(asked)
        return self._jobs.start(view.kind, view.key, view.title, self._work(asked), host=view.host, model=view.model)

    def _restore(self, asked: Interrupted) -> None:
        async def dismissed() -> None:
            await self._journal.remove(asked)

        self._jobs.restore(self._view(asked), self._work(asked), dismissed)

    def _view(self, asked: Interrupted) -> JobView:
        shown = _model_name(asked.model)
        title = f"Getting {shown}" if asked.kind == "pull" else f"Making {asked.level} of {shown}"
        if asked.kind == "make":
            self._making[asked.key] = with_level(shown, asked.level)
        now = self._clock.now()
        return JobView("", asked.kind, asked.key, title, JobState.RUNNING, now, host=asked.host, model=shown)

    def _work(self, asked: Interrupted) -> Callable[[JobHandle], Awaitable[None]]:
        """The job, noted down until it is over: what the end of the server cuts off can be gone on with."""
        job = self._pull if asked.kind == "pull" else self._make

        async def work(handle: JobHandle) -> None:
            await self._journal.add(asked)
            over = True
            try:
                await job(handle, asked)
            except asyncio.CancelledError:
                over = not handle.stopping
                raise
            finally:
                self._changed()
                if over:
                    await self._journal.remove(asked)

        return work

    # -- hosts ----------------------------------------------------------------------------------------------------

    def _host(self, wanted: str) -> Backend:
        names = [status.address.name for status in self._fleet.statuses()]
        if not wanted and len(names) == 1:
            wanted = names[0]
        if not wanted:
            raise BadRequest(f"say on which host: {', '.join(names)}", "host")
        if wanted not in names:
            raise BadRequest(f"there is no host {wanted[:64]!r}; there is {', '.join(names)}", "host")
        return self._fleet.backend(wanted)


def _model_name(name: str) -> str:
    """As the model list shows it. Raises `BadRequest`. Whether there is such a model is for the host to say."""
    parsed = parse_name(name.strip())
    if not name.strip():
        raise BadRequest("say which model, for example llama3.2:3b", "model")
    if not parsed.is_valid:
        told = f"{name.strip()[:80]!r} is no model name (like llama3.2:3b or hf.co/user/model:Q8_0)"
        raise BadRequest(told, "model")
    return parsed.shortest
