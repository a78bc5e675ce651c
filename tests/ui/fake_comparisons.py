"""Comparisons for the pages' tests: real jobs, cards made by hand. `calls` says what was asked; `refusal` is raised."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from app.comparison.results import ProbeText, Scorecard, TokenRow
from app.comparison.scorecard_store import ComparisonNotFound
from app.core.errors import LoupeError
from app.services.jobs import JobHandle, Jobs, JobView
from tests.ui import scorecards


class FakeComparisons:
    """`begin` makes the card of `scorecards.running`, and a job for it that waits until it is cancelled."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.cards: dict[str, Scorecard] = {}
        self.tokens: tuple[TokenRow, ...] = scorecards.token_rows()
        self.calls: list[tuple[Any, ...]] = []
        self.refusal: LoupeError | None = None
        self.said = "Q4_K_M: divergence, text 11 of 24"

    def put(self, *cards: Scorecard) -> None:
        self.cards.update({card.id: card for card in cards})

    async def begin(self, asked: Any) -> Scorecard:
        self._asked("begin", asked)
        card = replace(scorecards.running(), id=f"{len(self.cards) + 1:08x}")
        self.put(card)
        self.run(card.id)
        return card

    def run(self, card_id: str) -> None:
        """The job of a card that is measured."""

        async def work(handle: JobHandle) -> None:
            handle.progress(46, 100, self.said)
            handle.expect(71)
            await asyncio.Event().wait()

        card = self.cards[card_id]
        self._jobs.start("scorecard", f"scorecard {card_id}", f"Comparing {card.family}", work, model=card.reference)

    def list(self) -> tuple[Scorecard, ...]:
        return tuple(sorted(self.cards.values(), key=lambda card: -card.started_at))

    def get(self, card_id: str) -> Scorecard:
        if card_id not in self.cards:
            raise ComparisonNotFound(card_id)
        return self.cards[card_id]

    def job(self, card_id: str) -> JobView | None:
        return next((job for job in self._jobs.list() if job.key == f"scorecard {card_id}"), None)

    async def texts(self, card_id: str) -> tuple[ProbeText, ...]:
        return scorecards.TEXTS

    async def rows(self, card_id: str, variant: str) -> tuple[TokenRow, ...]:
        return self.tokens

    def pause(self, card_id: str) -> None:
        self._turn("pause", card_id, "paused")

    def resume(self, card_id: str) -> None:
        self._turn("resume", card_id, "running")

    async def cancel(self, card_id: str) -> None:
        self._turn("cancel", card_id, "cancelled")

    async def delete(self, card_id: str) -> None:
        self._asked("delete", card_id)
        del self.cards[card_id]

    def _turn(self, what: str, card_id: str, state: str) -> None:
        self._asked(what, card_id)
        self.cards[card_id] = replace(self.cards[card_id], state=state)

    def _asked(self, *call: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(call)
