"""Comparisons as the pages, routes and the command line know them: begun, listed, paused, gone on with, deleted.

Each one is a job of the server. What it has measured is on disk, so after a restart it goes on by itself at the variant
it was at, and what was cancelled or failed can be gone on with too. On one host they take turns.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from app.comparison.advice import smaller_models
from app.comparison.host_bench import HostBench, Way
from app.comparison.kept import kept_asked, kept_positions, kept_progress, kept_raw
from app.comparison.long_contexts import with_long_contexts
from app.comparison.machine import environment
from app.comparison.plan import DEEP, Asked
from app.comparison.question_set import QuestionSet, own_set
from app.comparison.result_json import to_json
from app.comparison.results import ProbeText, Scorecard, TokenRow, VariantResult
from app.comparison.room import Room
from app.comparison.scorecard import Frame, ScorecardRun
from app.comparison.scorecard_store import ComparisonNotFound, ScorecardStore
from app.comparison.speed import Joules, no_joules
from app.comparison.subjects import Subject, choose, look, reference_of
from app.core.errors import BadRequest, ModelNotFound
from app.core.generation import Json
from app.core.hosts import HostAddress
from app.core.ports import Clock
from app.models.advisor import UNLIMITED
from app.models.catalog import CatalogView
from app.models.memory_report import memory_at
from app.models.wishes import Use, Wish
from app.services.jobs import JobHandle, Jobs, JobView
from app.services.perseverance import persevere

log = structlog.get_logger(__name__)
KIND = "scorecard"
MOST_RESUMED = 5  # restarts after which it waits to be told to go on: it may be what ends the process
UNDER_WAY = ("running", "paused")


@dataclass(frozen=True, slots=True)
class Needs:
    """What comparisons stand on. `look` gives the present models, `sets` the shipped questions by name, `room`
    what models may take, `joules` what this machine has drawn so far, `bandwidth` (it blocks) the bytes/s that its
    memory is read with."""

    way: Way
    jobs: Jobs
    clock: Clock
    look: Callable[[], Awaitable[CatalogView]]
    sets: Callable[[], Mapping[str, QuestionSet]]
    room: Room
    joules: Joules = no_joules
    bandwidth: Callable[[], float | None] = lambda: None
    usual_set: str = "standard"


class Comparisons:
    """`version` rises with every change. `list` and `get` may be called from any thread; the rest on the loop."""

    def __init__(self, needs: Needs, store: ScorecardStore) -> None:
        self._needs, self._store = needs, store
        self._cards: dict[str, Scorecard] = {}
        self._jobs: dict[str, str] = {}  # comparison → job
        self._turns: dict[str, asyncio.Lock] = {}
        self.version = 0

    async def start(self) -> None:
        """Read what is there, and go on with what the end of the process cut off."""
        for card in reversed(await asyncio.to_thread(self._store.cards)):
            self._cards[card.id] = card
            if card.state in UNDER_WAY:
                await self._go_on_after_restart(card)

    # -- looking --------------------------------------------------------------------------------------------------

    def list(self) -> tuple[Scorecard, ...]:
        """The newest first; those that run have what is measured so far."""
        return tuple(sorted(self._cards.values(), key=lambda card: card.started_at, reverse=True))

    def get(self, comparison_id: str) -> Scorecard:
        """Raises `ComparisonNotFound`."""
        card = self._cards.get(comparison_id)
        if card is None:
            raise ComparisonNotFound(comparison_id)
        return card

    def job(self, comparison_id: str) -> JobView | None:
        """How far it is; None where it is over and no job remembers it."""
        job_id = self._jobs.get(self.get(comparison_id).id)
        return next((view for view in self._needs.jobs.list() if view.id == job_id), None)

    async def rows(self, comparison_id: str, variant: str) -> tuple[TokenRow, ...]:
        """Every compared position of one variant. Raises `ModelNotFound` for one that is not in it."""
        card = self.get(comparison_id)
        found = next((one for one in card.variants if variant in (one.name, one.digest, *one.aliases)), None)
        if found is None:
            raise ModelNotFound(variant)
        reference = next(one for one in card.variants if one.reference)
        return await asyncio.to_thread(kept_positions, self._store, comparison_id, reference.digest, found.digest)

    async def texts(self, comparison_id: str) -> tuple[ProbeText, ...]:
        """The questions, and the reference's answers that were forced."""
        self.get(comparison_id)
        return (await asyncio.to_thread(kept_progress, self._store, comparison_id)).texts

    async def raw_rows(self, comparison_id: str) -> Mapping[str, Sequence[Json]]:
        """What the host answered, text by text, by variant: what a report carries."""
        card = self.get(comparison_id)
        return {one.name: await asyncio.to_thread(self._store.rows, comparison_id, one.digest) for one in card.variants}

    async def asked(self, comparison_id: str) -> Asked:
        """What was asked for. Raises `ComparisonNotFound`."""
        self.get(comparison_id)
        return await asyncio.to_thread(kept_asked, self._store, comparison_id)

    # -- doing ----------------------------------------------------------------------------------------------------

    async def begin(self, asked: Asked) -> Scorecard:
        """Begin to measure; what is known of the variants is in the card at once. Raises `BadRequest` with what is
        wrong, `ModelNotFound`, `HostError`."""
        asked = asked.checked()
        view = await self._needs.look()
        chosen = choose(asked, view)
        questions = self._questions(asked)
        asked = replace(asked, host=chosen.host, models=chosen.names)
        subjects, reference, server = await self._look(asked)
        now = self._needs.clock.now()
        there = await asyncio.to_thread(environment, self._address(asked.host), server)
        if (budget := self._wish(asked, view).budget) < UNLIMITED:
            there = replace(there, facts={**there.facts, "memory_budget": budget})
        card = Scorecard(
            id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(2)}",
            family=chosen.family, depth=asked.depth, state="running", started_at=now, environment=there,
            reference=subjects[reference].name, probe_set=questions.identity, seed=asked.seed, options=asked.options,
            variants=self._unmeasured(asked, subjects, reference),
        )  # fmt: skip
        await asyncio.to_thread(self._store.write, card.id, "asked", to_json(asked))
        await self._publish_and_keep(card)
        self._launch(card, asked)
        return card

    def pause(self, comparison_id: str) -> JobView:
        """Rest before the next request. Raises `BadRequest` where it does not run."""
        return self._state(self._needs.jobs.pause(self._running(comparison_id)), comparison_id, "paused")

    def resume(self, comparison_id: str) -> JobView:
        """Go on: after a pause, and also with one that was cancelled or failed, at the step it was at."""
        card = self.get(comparison_id)
        job = self.job(comparison_id)
        if job is not None and job.active:
            return self._state(self._needs.jobs.resume(job.id), comparison_id, "running")
        if card.state == "done":
            raise BadRequest("this comparison is done; begin a new one to measure again", "comparison")
        self._set_state(comparison_id, "running")
        return self._launch(card, kept_asked(self._store, comparison_id))

    async def cancel(self, comparison_id: str) -> Scorecard:
        """Stop at once; what was measured is kept."""
        job = self.job(comparison_id)
        if job is not None:
            await self._needs.jobs.cancel(job.id)
        if self.get(comparison_id).state in UNDER_WAY:  # it had not taken its first step
            await self._end(comparison_id, "cancelled")
        return self.get(comparison_id)

    async def delete(self, comparison_id: str) -> None:
        """Forget it with all its rows; one that runs is stopped."""
        await self.cancel(comparison_id)
        self._cards.pop(comparison_id, None)
        self._jobs.pop(comparison_id, None)
        self.version += 1
        await asyncio.to_thread(self._store.delete, comparison_id)

    # -- running --------------------------------------------------------------------------------------------------

    def _launch(self, card: Scorecard, asked: Asked, *, paused: bool = False) -> JobView:
        job = self._needs.jobs.start(
            KIND, f"{KIND} {card.id}", f"Comparing {card.family}", partial(self._work, card.id, asked),
            host=asked.host, model=card.reference, pausable=True, paused=paused,
        )  # fmt: skip
        self._jobs[card.id] = job.id
        self.version += 1
        return job

    async def _work(self, comparison_id: str, asked: Asked, handle: JobHandle) -> None:
        if self.get(comparison_id).state not in UNDER_WAY:  # tried again as a job
            self._set_state(comparison_id, "running")
        try:
            turn = self._turns.setdefault(asked.host, asyncio.Lock())
            if turn.locked():
                handle.say("Waiting for another comparison", waiting=True)
            async with turn:
                await self._measure(comparison_id, asked, handle)
        except asyncio.CancelledError:
            if handle.stopping:
                raise  # it stays under way: the next start goes on with it
            await asyncio.shield(self._end(comparison_id, "cancelled"))
            raise
        except Exception:
            await self._end(comparison_id, "failed")
            raise
        await self._end(comparison_id, "done")

    async def _measure(self, comparison_id: str, asked: Asked, handle: JobHandle) -> None:
        subjects, reference, server = await persevere(lambda: self._look(asked), handle)
        card = self.get(comparison_id)
        _check_same(card, subjects)
        waited = 0.0

        async def gate() -> None:
            nonlocal waited
            before = self._needs.clock.monotonic()
            await handle.unpaused()
            waited += self._needs.clock.monotonic() - before

        def told(people_first: bool) -> None:
            if people_first:
                handle.say("Somebody is asking: people go first", waiting=True)
            else:
                handle.say("Going on")

        bench = HostBench(self._needs.way, asked.host, gate, told)
        progress = await asyncio.to_thread(kept_progress, self._store, comparison_id)
        raw = await asyncio.to_thread(kept_raw, self._store, comparison_id, [one.digest for one in subjects])
        address = self._address(asked.host)
        joules = self._needs.joules if address.here else no_joules
        view = await self._needs.look()
        wish = replace(self._wish(asked, view), smaller=smaller_models(view, card))
        frame = Frame(
            card=card, asked=asked, subjects=subjects, reference=reference, questions=self._questions(asked),
            bench=bench, store=self._store, clock=self._needs.clock, server=server, publish=self._publish,
            wish=wish, idle=lambda: bench.idle + waited, joules=joules, progress=progress,
            raw=raw, bandwidth=self._needs.bandwidth if address.here else lambda: None,
        )  # fmt: skip
        await ScorecardRun(frame, handle).run()

    async def _go_on_after_restart(self, card: Scorecard) -> None:
        progress = await asyncio.to_thread(kept_progress, self._store, card.id)
        asked = await asyncio.to_thread(kept_asked, self._store, card.id)
        progress.resumed += 1
        await asyncio.to_thread(self._store.write, card.id, "progress", to_json(progress))
        paused = card.state == "paused" or progress.resumed > MOST_RESUMED
        self._launch(card, asked, paused=paused)
        log.info("comparison goes on", comparison=card.id, paused=paused)

    async def _look(self, asked: Asked) -> tuple[Sequence[Subject], int, tuple[str, str]]:
        backend = self._needs.way.pool.backend(asked.host)
        subjects = await look(backend, asked.models)
        return subjects, reference_of(subjects, asked.reference), await backend.version()

    # -- small things ---------------------------------------------------------------------------------------------

    def _unmeasured(self, asked: Asked, subjects: Sequence[Subject], reference: int) -> tuple[VariantResult, ...]:
        address = self._address(asked.host)
        return tuple(
            subject.result(
                reference=at == reference,
                memory=memory_at(address, subject.detail, subject.info.size, asked.context),
            )
            for at, subject in enumerate(subjects)
        )

    def _wish(self, asked: Asked, view: CatalogView) -> Wish:
        """What the recommendation goes by: what was asked for, else what is free on this machine, or would be without
        what is loaded."""
        address = self._address(asked.host)
        budget = asked.budget or self._needs.room.budget(address, view.loaded)
        return Wish(budget, asked.context, Use(asked.use), asked.floor, address.kv_type)

    def _questions(self, asked: Asked) -> QuestionSet:
        if asked.questions:
            return own_set(asked.question_set or "own", "your questions", asked.questions)
        sets = self._needs.sets()
        name = asked.question_set or self._needs.usual_set
        if name not in sets:
            known = ", ".join(sets) or "none"
            raise BadRequest(f"there is no set of questions {name[:64]!r}; there is {known}", "questions")
        return with_long_contexts(sets[name]) if asked.depth == DEEP else sets[name]

    def _address(self, host: str) -> HostAddress:
        return self._needs.way.pool.backend(host).address

    def _running(self, comparison_id: str) -> str:
        job = self.job(comparison_id)
        if job is None or not job.active:
            raise BadRequest("this comparison does not run", "comparison")
        return job.id

    def _state(self, job: JobView, comparison_id: str, state: str) -> JobView:
        self._set_state(comparison_id, state)
        return job

    def _set_state(self, comparison_id: str, state: str) -> None:
        card = self._cards[comparison_id] = replace(self.get(comparison_id), state=state, ended_at=None)
        self.version += 1
        self._store.write_card(card)

    async def _end(self, comparison_id: str, state: str) -> None:
        card = self._cards.get(comparison_id)
        if card is not None:
            await self._publish_and_keep(replace(card, state=state, ended_at=self._needs.clock.now()))

    def _publish(self, card: Scorecard) -> None:
        """What is measured so far; whether it is paused is known here."""
        known = self._cards.get(card.id)
        self._cards[card.id] = replace(card, state=known.state) if known else card
        self.version += 1

    async def _publish_and_keep(self, card: Scorecard) -> None:
        self._cards[card.id] = card
        self.version += 1
        await asyncio.to_thread(self._store.write_card, card)


def _check_same(card: Scorecard, subjects: Sequence[Subject]) -> None:
    """What was measured of a name must be what it means now. Raises `BadRequest`."""
    now = {subject.digest for subject in subjects}
    changed = [variant.name for variant in card.variants if variant.digest not in now]
    if changed:
        raise BadRequest(f"{', '.join(changed)} was replaced or deleted since; begin a new comparison", "model")
