"""Batch jobs for the pages' tests: a table of batches with answers, and what the pages asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.core.errors import LoupeError
from app.services.batches.values import Batch, BatchNotFound, BatchState, Form, Outcome, Prompt
from app.services.jobs import JobView


class FakeBatches:
    """`table` and `jobs` by id, `ended` what `latest` tells; `refusal` is raised instead of doing anything."""

    def __init__(self) -> None:
        self.table: dict[str, Batch] = {}
        self.jobs: dict[str, JobView] = {}
        self.ended: list[tuple[Prompt, Outcome]] = []
        self.calls: list[tuple[str, ...]] = []
        self.begun: list[tuple[str, Form, Sequence[Prompt], str]] = []
        self.refusal: LoupeError | None = None

    def list(self, owner: str = "") -> tuple[Batch, ...]:
        return tuple(batch for batch in reversed(self.table.values()) if owner in ("", batch.owner))

    def get(self, batch_id: str, owner: str = "") -> Batch:
        if batch_id not in self.table or owner not in ("", self.table[batch_id].owner):
            raise BatchNotFound(batch_id)
        return self.table[batch_id]

    def job(self, batch_id: str) -> JobView | None:
        return self.jobs.get(batch_id)

    async def latest(self, batch_id: str, owner: str = "", most: int = 10) -> Sequence[tuple[Prompt, Outcome]]:
        return self.ended[:most]

    async def begin(self, name: str, form: Form, prompts: Sequence[Prompt], owner: str) -> Batch:
        self._asked("begin", name)
        self.begun.append((name, form, prompts, owner))
        models = tuple(dict.fromkeys(prompt.model for prompt in prompts))
        batch = Batch(f"2026-{len(self.table)}", name, owner, form, 0.0, len(prompts), models)
        self.table[batch.id] = batch
        return batch

    async def pause(self, batch_id: str, owner: str = "") -> Batch:
        return self._set("pause", batch_id, BatchState.PAUSED)

    async def resume(self, batch_id: str, owner: str = "") -> Batch:
        return self._set("resume", batch_id, BatchState.RUNNING)

    async def cancel(self, batch_id: str, owner: str = "") -> Batch:
        return self._set("cancel", batch_id, BatchState.CANCELLED)

    async def retry(self, batch_id: str, owner: str = "") -> Batch:
        return self._set("retry", batch_id, BatchState.RUNNING)

    async def delete(self, batch_id: str, owner: str = "") -> None:
        self._asked("delete", batch_id)
        del self.table[batch_id]

    def _set(self, what: str, batch_id: str, state: BatchState) -> Batch:
        self._asked(what, batch_id)
        self.table[batch_id] = replace(self.table[batch_id], state=state)
        return self.table[batch_id]

    def _asked(self, *call: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(call)
