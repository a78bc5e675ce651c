"""Getting and making models, on whichever host is in use: ours or a real Ollama, here or elsewhere.

Pulls and makes are jobs of the server; what they ask of the host is Ollama's protocol and nothing else. A pull that is
cancelled stops at the host because the connection closes; what has arrived stays there, and trying again goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from app.core.errors import BadRequest, HostRefused, ModelNotFound
from app.core.generation import Json
from app.core.hosts import ModelDetail, ModelInfo
from app.core.ports import Backend, Fleet
from app.models.naming import parse_name, same_model
from app.services.host_records import PullProgress, records
from app.services.jobs import JobHandle, Jobs, JobView
from app.services.make_offers import HOST_LEVELS, MakeOffer, check_source, checked_level, name_for, offers
from app.services.model_removal import Removal, removal_of
from app.services.perseverance import Pause, persevere
from app.wire.answers import error_text
from app.wire.go_json import dumps
from app.wire.model_names import parse_reference

__all__ = ["MakeOffer", "ModelJobs", "Removal"]

PULL_WORDS = {
    "pulling manifest": "Asking the registry",
    "verifying sha256 digest": "Checking what arrived",
    "writing manifest": "Adding it to the models",
    "removing unused layers": "Removing layers that nothing uses any more",
    "success": "Done",
}


class ModelJobs:
    """`changed` is called whenever a host has other models than before."""

    def __init__(self, jobs: Jobs, fleet: Fleet, changed: Callable[[], None], *, pause: Pause = asyncio.sleep) -> None:
        self._jobs, self._fleet, self._changed, self._pause = jobs, fleet, changed, pause

    # -- getting --------------------------------------------------------------------------------------------------

    def pull(self, name: str, host: str = "", *, insecure: bool = False) -> JobView:
        """Begin to pull, or go on. `insecure` allows a registry over plain http, as a name that begins so does.

        Raises `BadRequest` for a name that is none, or where `host` has to be said.
        """
        backend = self._host(host)
        shown = _model_name(name)
        insecure = insecure or name.strip().casefold().startswith("http://")
        body: dict[str, Json] = {"model": name.strip(), "stream": True}
        if insecure:
            body["insecure"] = True

        async def work(handle: JobHandle) -> None:
            await self._pull(handle, backend, body)

        key = f"pull {backend.address.name} {'/'.join(parse_name(name.strip()).folded)}"
        return self._jobs.start("pull", key, f"Getting {shown}", work, host=backend.address.name, model=shown)

    async def _pull(self, handle: JobHandle, backend: Backend, body: dict[str, Json]) -> None:
        seen = PullProgress()

        async def attempt() -> None:
            async with aclosing(records(backend, "/api/pull", body)) as told:
                async for record in told:
                    seen.tell(record)
                    words = PULL_WORDS.get(record.status, "Downloading" if record.digest else record.status)
                    handle.progress(seen.completed, seen.total, words, moved=seen.moved)

        try:
            handle.say(PULL_WORDS["pulling manifest"])
            await persevere(attempt, handle, moved=lambda: seen.moved, pause=self._pause)
        finally:
            self._changed()

    # -- making ---------------------------------------------------------------------------------------------------

    async def offers(self, source: str, host: str = "") -> tuple[MakeOffer, ...]:
        """The quantizations of `source` that are not there. Raises `BadRequest` with the reason where none can be made
        of it, `ModelNotFound`, `HostError`."""
        backend = self._host(host)
        info, detail, models = await self._source(backend, source)
        known = [model.name for model in models]
        return offers(
            info, detail, known, (), model=None, seconds=lambda _: None,
            refusal=lambda level, size: "" if level in HOST_LEVELS else "Ollama does not make this level",
        )  # fmt: skip

    def make(self, source: str, level: str, host: str = "") -> JobView:
        """Begin to make the quantization. Raises `BadRequest` for a level that is none."""
        backend = self._host(host)
        shown, wanted = _model_name(source), checked_level(level)

        async def work(handle: JobHandle) -> None:
            await self._make(handle, backend, shown, wanted)

        key = f"make {backend.address.name} {'/'.join(parse_name(shown).folded)} {wanted}"
        title = f"Making {wanted} of {shown}"
        return self._jobs.start("make", key, title, work, host=backend.address.name, model=shown)

    async def _make(self, handle: JobHandle, backend: Backend, source: str, level: str) -> None:
        info, detail, models = await self._source(backend, source)
        name = name_for(info.name, level, [model.name for model in models])
        body: dict[str, Json] = {"model": name, "from": info.name, "quantize": level, "stream": True, "progress": True}

        async def attempt() -> None:
            async with aclosing(records(backend, "/api/create", body)) as told:
                async for record in told:
                    if record.total:
                        handle.progress(record.completed, record.total, "Quantizing")

        try:
            handle.say("Quantizing")
            await persevere(attempt, handle, pause=self._pause)
        finally:
            self._changed()

    async def _source(self, backend: Backend, name: str) -> tuple[ModelInfo, ModelDetail, list[ModelInfo]]:
        models = list(await backend.models())
        info = next((model for model in models if same_model(model.name, name)), None)
        if info is None:
            raise ModelNotFound(name)
        detail = await backend.show(info.name)
        check_source(info, detail)
        return info, detail, models

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
            if job.active and job.host == told.host and job.model and same_model(job.model, told.name):
                raise BadRequest(f"{told.name} is in use ({job.title}); cancel that first", "model")

    # -- inside ---------------------------------------------------------------------------------------------------

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
    """As the model list shows it. Raises `BadRequest`."""
    if not name.strip():
        raise BadRequest("say which model, for example llama3.2:3b", "model")
    return parse_reference(name).shortest
