"""Tickets for tests of the queue's parts: they belong to no queue, and have run on a host as told."""

from __future__ import annotations

from typing import Any, cast

from app.core.generation import Priority, Usage
from app.services.queueing.pace import Pace
from app.services.queueing.residency import Place, Residency
from app.services.queueing.schedule import Schedule
from app.services.queueing.tickets import Ask, Desk, Ticket

SECOND = 10**9


class Tickets:
    """Makes them, each with a serial of its own. Needs a running event loop."""

    def __init__(self) -> None:
        self._serial = 0

    def __call__(
        self, flow: str = "a", model: str = "m:1", *, entered: float = 0.0, prompt: int = 10, host: str = "",
        began: float | None = None, tokens: int = 0, cold: bool = False, **ask: Any,
    ) -> Ticket:  # fmt: skip
        self._serial += 1
        asked = Ask(model=model, flow=flow, priority=ask.pop("priority", Priority.INTERACTIVE), **ask)
        ticket = Ticket(cast(Desk, None), asked, self._serial, entered, prompt)
        ticket.host, ticket.began, ticket.tokens, ticket.cold = host, began, tokens, cold
        return ticket


def used(answer: int, *, prompt: int = 10, load: float = 0.0, prefill: float = 0.0, decode: float = 1.0) -> Usage:
    """Counts of an answer of so many tokens; times in seconds, `decode` that of the whole answer."""
    return Usage(
        load_ns=round(load * SECOND), prompt_tokens=prompt, prefill_ns=round(prefill * SECOND), output_tokens=answer,
        decode_ns=round(decode * SECOND),
    )  # fmt: skip


def schedule_of(pace: Pace, *places: Place) -> Schedule:
    """A schedule over these hosts."""
    residency = Residency()
    residency.places = {place.name: place for place in places}
    return Schedule(pace, residency)
