"""Who is refused: by the wait that is foretold, then by how many wait, then by how much there is to read.

A refusal is told at once, with the seconds after which another try is worth while, jittered so that those who were
refused together do not come back together. One flow's own bound is 429, a bound on all together 503.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace

from app.core.errors import Draining, QueueFull
from app.core.generation import Priority
from app.services.queueing.pace import Pace
from app.services.queueing.tickets import Ticket
from app.services.queueing.views import QueueLimits

SHORTEST, LONGEST = 1.0, 60.0  # seconds of Retry-After
JITTER = 0.2
LEAST_JITTER = 1.5  # seconds: the header has whole ones


class QueueDrained(Draining):
    """An operator has said that nothing new is to be taken; those who wait are still served."""

    code = "queue_drained"
    retry_after = 30.0  # seconds; nobody knows when it is opened again

    def __init__(self) -> None:
        super().__init__("the queue is being drained: nothing new is taken until an operator opens it again")


class Admission:
    """The bounds. `draw` gives a number from 0 to 1 for the jitter."""

    def __init__(self, limits: QueueLimits, pace: Pace) -> None:
        self.limits, self._pace = limits, pace
        self.draw: Callable[[], float] = random.random

    def bounds(self) -> QueueLimits:
        """With what follows from the speeds that were measured."""
        return replace(self.limits, prompt_tokens=self.prompt_tokens(Priority.INTERACTIVE))

    def longest(self, priority: Priority) -> float:
        """Seconds that a request of the class may be told to wait."""
        interactive = priority is Priority.INTERACTIVE
        return self.limits.wait_interactive if interactive else self.limits.wait_batch

    def prompt_tokens(self, priority: Priority) -> int | None:
        """What may wait to be read: as much as is read within the longest wait. None while that is not known."""
        prefill = self._pace.prefill
        return round(self.longest(priority) / prefill) if prefill else None

    def counted(self, ticket: Ticket, of_flow: Iterable[Ticket], waiting: int) -> int | None:
        """The status of a refusal for a count, `ticket` itself being counted; None if there is none."""
        groups = {one.ask.group or one.ask.id for one in of_flow}
        if len(groups) > self._most_of_flow(ticket):
            return 429
        return 503 if waiting > self.limits.waiting else None

    def too_much_to_read(self, ticket: Ticket, queued_tokens: int) -> bool:
        """Whether the prompts that wait, this one included, take too long; one alone is never too much."""
        most = self.prompt_tokens(ticket.priority)
        return most is not None and queued_tokens > ticket.prompt_tokens and queued_tokens > most

    def refusal(self, status: int, depth: int, wait: float, reason: str, ticket: Ticket) -> QueueFull:
        """`wait`: seconds until it may be worth while to come again; `reason` as `QueueFull` has it."""
        middle = min(max(wait, SHORTEST + LEAST_JITTER), LONGEST / (1 + JITTER))
        after = middle + max(LEAST_JITTER, JITTER * middle) * (2 * self.draw() - 1)
        error = QueueFull(depth, self.limits.waiting, retry_after=after)
        error.status, error.reason, error.wait, error.most = status, reason, wait, self._most(ticket, reason)
        return error

    def _most(self, ticket: Ticket, reason: str) -> float:
        """The bound that was hit."""
        if reason == "flow":
            return self._most_of_flow(ticket)
        if reason == "prompt tokens":
            return self.prompt_tokens(ticket.priority) or 0
        return self.longest(ticket.priority) if reason == "wait" else self.limits.waiting

    def _most_of_flow(self, ticket: Ticket) -> int:
        return self.limits.per_page if ticket.ask.from_page else self.limits.per_client
