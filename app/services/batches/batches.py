"""Batch jobs: begun with a file of prompts, run as jobs of the server, paused, gone on with, read and deleted.

What runs when the process ends, however it ends, goes on by itself at the next start, at the prompts that have no
answer yet.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from app.core.errors import BadRequest, LoupeError, ModelNotFound, StoreError
from app.core.generation import Json
from app.core.ports import Clock
from app.services.aliases import Aliases
from app.services.batches.asking import Way
from app.services.batches.running import Run, Sleep
from app.services.batches.store import BatchStore
from app.services.batches.values import Batch, BatchNotFound, BatchState, Form, Outcome, Prompt
from app.services.jobs import JobHandle, Jobs, JobView

log = structlog.get_logger(__name__)
KIND = "batch"
PAGE = 200  # results that are read at once
NAME_LENGTH = 120


class Batches:
    """`owner` is whose batches are meant, "" for everybody's; another's is as good as none. `list`, `get` and `job` may
    be called from any thread, the rest on the loop."""

    def __init__(
        self, store: BatchStore, jobs: Jobs, way: Way, aliases: Aliases, clock: Clock, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._store, self._jobs, self._way, self._aliases = store, jobs, way, aliases
        self._clock, self._sleep = clock, sleep
        self._batches: dict[str, Batch] = {}
        self._of: dict[str, str] = {}  # batch → job
        self._columns: dict[str, tuple[str, ...]] = {}

    async def start(self) -> None:
        """Read what is there, and go on with what the end of the process cut off."""
        try:
            found = await asyncio.to_thread(self._store.batches)
        except StoreError as error:
            log.error("batches cannot be read", error=error.message)
            return
        for batch in found:
            self._batches[batch.id] = batch
            if batch.active:
                self._launch(batch)

    async def close(self) -> None:
        """After the jobs have been stopped."""
        await asyncio.to_thread(self._store.close)

    def list(self, owner: str = "") -> tuple[Batch, ...]:
        """The newest first."""
        return tuple(batch for batch in reversed(list(self._batches.values())) if owner in ("", batch.owner))

    def get(self, batch_id: str, owner: str = "") -> Batch:
        """Raises `BatchNotFound`."""
        batch = self._batches.get(batch_id)
        if batch is None or owner not in ("", batch.owner):
            raise BatchNotFound(batch_id)
        return batch

    def job(self, batch_id: str) -> JobView | None:
        """How far it is; None where no job remembers it."""
        job_id = self._of.get(batch_id)
        return next((view for view in self._jobs.list() if view.id == job_id), None)

    async def begin(
        self, name: str, form: Form, prompts: Sequence[Prompt], owner: str, source: Mapping[str, Json] | None = None
    ) -> Batch:
        """Raises `ModelNotFound`, `ModelNotLocal`, `StoreError`. Hosts that are away are no reason to refuse."""
        models = tuple(dict.fromkeys(prompt.model for prompt in prompts))
        for model in models:
            await self._check_model(model)
        now = self._clock.now()
        batch_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(3)}"
        name = name.strip()[:NAME_LENGTH] or "prompts"
        batch = Batch(batch_id, name, owner, form, now, len(prompts), models, source=source or {})
        await asyncio.to_thread(self._store.add, batch, prompts)
        self._batches[batch.id] = batch
        self._launch(batch)
        return batch

    async def pause(self, batch_id: str, owner: str = "") -> Batch:
        """Begin no further prompt until `resume`; those that are being answered end. Raises `BadRequest`."""
        batch, job = self.get(batch_id, owner), self.job(batch_id)
        if job is None or not (batch.active and job.active):
            raise BadRequest(f"{batch.name} is {batch.state}: there is nothing to pause", "batch")
        self._jobs.pause(job.id)
        return await self._set(batch_id, BatchState.PAUSED)

    async def resume(self, batch_id: str, owner: str = "") -> Batch:
        """Go on after a pause, a cancel or a failure. Raises `BadRequest` where it is done."""
        batch, job = self.get(batch_id, owner), self.job(batch_id)
        if batch.state is BatchState.DONE:
            raise BadRequest(f"{batch.name} is done; failed prompts are asked once more by `retry`", "batch")
        batch = await self._set(batch_id, BatchState.RUNNING)
        if job is not None and job.active:
            self._jobs.resume(job.id)
        else:
            self._launch(batch)
        return batch

    async def retry(self, batch_id: str, owner: str = "") -> Batch:
        """Ask those that failed once more. Raises `BadRequest` where none did, or while it runs."""
        batch = self.get(batch_id, owner)
        if batch.active:
            raise BadRequest(f"{batch.name} is {batch.state}: retry when it has ended", "batch")
        if not batch.failed:
            raise BadRequest(f"no prompt of {batch.name} failed", "batch")
        await asyncio.to_thread(self._store.again, batch_id)
        self._batches[batch_id] = replace(batch, failed=0)
        batch = await self._set(batch_id, BatchState.RUNNING)
        self._launch(batch)
        return batch

    async def cancel(self, batch_id: str, owner: str = "") -> Batch:
        """Stop at once; what was answered is kept, and `resume` goes on."""
        self.get(batch_id, owner)
        if (job := self.job(batch_id)) is not None and job.active:
            await self._jobs.cancel(job.id)
        if self.get(batch_id).active:  # before its first step, or between two lives of its job
            await self._set(batch_id, BatchState.CANCELLED)
        return self.get(batch_id)

    async def delete(self, batch_id: str, owner: str = "") -> None:
        """With everything that was answered."""
        await self.cancel(batch_id, owner)
        self._batches.pop(batch_id, None)
        self._of.pop(batch_id, None)
        self._columns.pop(batch_id, None)
        await asyncio.to_thread(self._store.delete, batch_id)

    async def results(
        self, batch_id: str, owner: str = "", *, after: int | None = None, most: int | None = None
    ) -> AsyncIterator[tuple[int, Prompt, Outcome]]:
        """What is over by now, each with a number that rises: in the order of the file; with `after`, in the order in
        which it ended, from behind that number on. At most `most`."""
        self.get(batch_id, owner)
        place, left = after or 0, most
        read = partial(self._store.results, batch_id, as_ended=after is not None)
        while rows := await asyncio.to_thread(read, place, PAGE if left is None else min(PAGE, left)):
            for row in rows:
                yield row
            place, left = rows[-1][0], None if left is None else left - len(rows)

    async def columns(self, batch_id: str, owner: str = "") -> tuple[str, ...]:
        """What the rows of its file name; nothing where it is in OpenAI's format."""
        self.get(batch_id, owner)
        if batch_id not in self._columns:
            self._columns[batch_id] = await asyncio.to_thread(self._store.columns, batch_id)
        return self._columns[batch_id]

    async def latest(self, batch_id: str, owner: str = "", most: int = 10) -> tuple[tuple[Prompt, Outcome], ...]:
        """What has ended last, the newest first."""
        self.get(batch_id, owner)
        return tuple(await asyncio.to_thread(self._store.latest, batch_id, most))

    # -- work -----------------------------------------------------------------------------------------------------

    async def _check_model(self, model: str) -> None:
        if self._aliases.find(model) is not None:
            return
        try:
            await self._way.pool.resolve(model)
        except ModelNotFound:
            raise
        except LoupeError as error:
            if not error.retryable:
                raise

    def _launch(self, batch: Batch) -> None:
        job = self._jobs.start(
            KIND, f"{KIND} {batch.id}", f"Answering {batch.name}", partial(self._work, batch.id), pausable=True,
            model=batch.models[0] if len(batch.models) == 1 else "", paused=batch.state is BatchState.PAUSED,
        )  # fmt: skip
        self._of[batch.id] = job.id

    async def _work(self, batch_id: str, handle: JobHandle) -> None:
        if not self.get(batch_id).active:
            await self._set(batch_id, BatchState.RUNNING)
        run = Run(
            self.get(batch_id), self._store, self._way, handle, partial(self._note, batch_id), self._clock.monotonic,
            self._sleep,
        )  # fmt: skip
        try:
            await run.go()
        except asyncio.CancelledError:
            if handle.stopping:
                raise  # it stays under way: the next start goes on with it
            await self._ended(batch_id, BatchState.CANCELLED)
            raise
        except Exception as error:
            told = error.message if isinstance(error, LoupeError) else "something broke; the log has the details"
            await self._ended(batch_id, BatchState.FAILED, told)
            raise
        await self._ended(batch_id, BatchState.DONE)

    def _note(self, batch_id: str, outcome: Outcome) -> Batch:
        """What was kept, counted."""
        batch = self._batches[batch_id]
        self._batches[batch_id] = batch = replace(
            batch, answered=batch.answered + (not outcome.failed), failed=batch.failed + outcome.failed,
            prompt_tokens=batch.prompt_tokens + outcome.prompt_tokens,
            output_tokens=batch.output_tokens + outcome.output_tokens,
        )  # fmt: skip
        return batch

    async def _ended(self, batch_id: str, state: BatchState, error: str = "") -> None:
        """Where even that cannot be written, the next start goes on with it."""
        try:
            await self._set(batch_id, state, error)
        except StoreError as problem:
            log.error("the end of a batch could not be kept", batch=batch_id, error=problem.message)

    async def _set(self, batch_id: str, state: BatchState, error: str = "") -> Batch:
        ended = None if state in (BatchState.RUNNING, BatchState.PAUSED) else self._clock.now()
        batch = replace(self.get(batch_id), state=state, ended_at=ended, error=error)
        self._batches[batch_id] = batch
        await asyncio.to_thread(self._store.set_state, batch_id, state, ended, error)
        return batch
