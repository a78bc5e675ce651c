"""How our embedded runtime is set up, changed with one click, and remembered: `runtime.json` in the data folder.

What the operator set (LOUPE_SLOTS, LOUPE_RUNTIME_…) wins and is not changed from here. A change starts the runtime
anew: nobody is cut off or refused, for the queue rests until the answers that run have ended and the runtime is back.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from app.core.errors import BadRequest, HostTimeout, StoreError
from app.core.generation import Json
from app.core.hosts import ANSWERING, HostAddress
from app.core.runtime_setup import PLAIN_KV, VARIABLES, RuntimeSetup
from app.services.host_pool import HostPool
from app.services.jobs import JobHandle, Jobs, JobView
from app.services.request_queue import RequestQueue
from app.services.small_file import read_small, write_small

log = structlog.get_logger("loupe.runtime")
FILE_NAME = "runtime.json"
KIND = "runtime setup"
_WORDS = {int: "a whole number", bool: "true or false", str: "a text"}
USUAL_BATCH = 128  # of a runtime that is told nothing
LOOK_SECONDS = 0.1
ANSWERS_SECONDS = 300.0  # for answers that run
READY_SECONDS = 60.0


class Tunable(Protocol):
    """The embedded runtime, as a change of its setup needs it."""

    @property
    def address(self) -> HostAddress: ...

    async def set_up(self, slots: int, limits: Mapping[str, str]) -> None:
        """From now on with these; one that runs is started anew. Returns when the old one has ended."""
        ...

    async def wait_ready(self) -> HostAddress: ...


class RuntimeTuning:
    """`fixed`: by part of a setup, what the operator set (as text). `limits` are those of the settings, which every
    start is told. `in_force` may be read from any thread."""

    def __init__(
        self, runtime: Tunable, pool: HostPool, queue: RequestQueue, jobs: Jobs, file: Path,
        fixed: Mapping[str, str], limits: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._runtime, self._pool, self._queue, self._jobs = runtime, pool, queue, jobs
        self._file, self._fixed, self._limits = file, fixed, limits
        self._kept = RuntimeSetup()

    async def start(self) -> None:
        """Read what is kept and set the runtime up so, before it is started. What cannot be used is left out."""
        told = await asyncio.to_thread(read_small, self._file)
        if isinstance(told, dict):
            try:
                self._kept = self._free(setup_of(told))
            except BadRequest as problem:
                log.warning("what was kept of the runtime's setup is left out", why=problem.message)
        await self._set_up(self._kept)

    @property
    def in_force(self) -> RuntimeSetup:
        """How the runtime is set up, every part that is known."""
        usual = RuntimeSetup(slots=1, batch=USUAL_BATCH, kv_type=PLAIN_KV)
        numbers = {name: int(text) for name, text in self._fixed.items() if text.isascii() and text.isdigit()}
        return usual.under(self._kept).under(RuntimeSetup(**numbers))  # type: ignore[arg-type]

    @property
    def kept(self) -> RuntimeSetup:
        """What was changed from here."""
        return self._kept

    def refusal(self, setup: RuntimeSetup) -> str:
        """Why this cannot be applied from here; "" where it can."""
        if not any(status.address.embedded for status in self._pool.statuses()):
            return "these hosts are set up where they were started; set it there and start them again"
        named = [f"{_variable(name)}={self._fixed[name]}" for name in setup.changes if name in self._fixed]
        if named:
            return f"{' and '.join(named)} was set where Loupe was started; change it there, or take it out"
        return ""

    def apply(self, setup: RuntimeSetup) -> JobView:
        """Set the runtime up so, beside what was kept; an empty one takes all of that back. Raises `BadRequest`."""
        wanted = self._kept.under(setup.checked()).checked() if setup.changes else RuntimeSetup()
        if why := self.refusal(setup):
            raise BadRequest(why)
        title = f"Setting the runtime up: {wanted.told}" if wanted.changes else "Setting the runtime up as it came"
        name = self._runtime.address.name
        return self._jobs.start(KIND, KIND, title, partial(self._change, wanted), host=name)

    async def _change(self, wanted: RuntimeSetup, handle: JobHandle) -> None:
        before, seen = self._kept, self._queue.snapshot()
        self._queue.pause()
        try:
            await self._answers_ended(handle)
            handle.say("Starting the runtime anew")
            await self._set_up(wanted)
            try:
                await self._back()
            except BaseException:
                await asyncio.shield(self._set_up(before))
                raise
            self._kept = wanted
            await asyncio.to_thread(self._keep, wanted)
        finally:
            if not seen.paused:
                self._queue.resume()
                if seen.draining:
                    self._queue.drain()

    async def _answers_ended(self, handle: JobHandle) -> None:
        host, waited = self._runtime.address.name, 0.0
        while self._queue.activity(host)[0]:
            if waited >= ANSWERS_SECONDS:
                raise HostTimeout(host, "waiting for the answers that run", ANSWERS_SECONDS)
            handle.say("Waiting for the answers that run; new ones wait meanwhile", waiting=True)
            await asyncio.sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS

    async def _back(self) -> None:
        """Returns when the runtime answers, and the pool knows. Raises `HostTimeout`, `HostUnreachable`."""
        host = self._runtime.address.name
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._runtime.wait_ready()
                self._pool.look_again()
                while not any(
                    one.address.name == host and one.state in ANSWERING and one.address.url == self._runtime.address.url
                    for one in self._pool.statuses()
                ):
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise HostTimeout(host, "starting", READY_SECONDS) from None

    async def _set_up(self, setup: RuntimeSetup) -> None:
        limits = {**setup.environment, **self._limits}
        slots = int(self._fixed.get("slots", 0)) or setup.slots or 1
        await self._runtime.set_up(slots, {**limits, VARIABLES["slots"]: str(slots)})

    def _free(self, setup: RuntimeSetup) -> RuntimeSetup:
        """Without what the operator has set since."""
        return RuntimeSetup(**{name: value for name, value in setup.changes.items() if name not in self._fixed})  # type: ignore[arg-type]

    def _keep(self, setup: RuntimeSetup) -> None:
        try:
            write_small(self._file, json.dumps(setup.changes))
        except OSError as error:
            raise StoreError(
                f"the setup is in force and cannot be remembered in {FILE_NAME} of the data folder: {error.strerror}"
            ) from error


def setup_of(told: Mapping[str, Json]) -> RuntimeSetup:
    """A setup from JSON. Raises `BadRequest` for what is none."""
    kinds: Mapping[str, type] = {"slots": int, "threads": int, "batch": int, "flash": bool, "kv_type": str}
    unknown = sorted(set(told) - set(kinds))
    if unknown:
        raise BadRequest(f"unknown: {', '.join(unknown)[:100]}; known are {', '.join(kinds)}", unknown[0])
    given = {name: value for name, value in told.items() if value is not None}
    for name, value in given.items():
        if type(value) is not kinds[name]:
            raise BadRequest(f"{name} is {_WORDS[kinds[name]]}", name)
    return RuntimeSetup(**given).checked()  # type: ignore[arg-type]


def _variable(name: str) -> str:
    return "LOUPE_SLOTS" if name == "slots" else VARIABLES[name]
