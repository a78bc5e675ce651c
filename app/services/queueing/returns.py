"""Who comes back: how long after one answer a flow asks again, and for what.

A chat page or a script that asks one thing after the other is seen as a chain: each answer is followed, after a while,
by the flow's next request. What is learned of that lets a forecast count with those who are not there yet and will go
first. A flow that sends without waiting for answers has no such chain, and nothing is foreseen of it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from app.services.queueing.lines import Lane
from app.services.queueing.tickets import Ticket

KEPT = 16  # pauses and requests that are remembered of a flow
FLOWS_KEPT = 512
GONE = 300.0  # seconds after which a flow that has not asked again is not waited for


@dataclass(slots=True)
class _Wanted:
    """What a request asked for; pace and schedule look at no more of an `Ask`."""

    model: str
    prompt_tokens: int
    most_tokens: int | None
    generates: bool
    host: str = ""


@dataclass(slots=True)
class _Habits:
    """`pauses`: seconds from an answer to the next request. `open`: answers that no request has followed yet."""

    pauses: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    asked: deque[_Wanted] = field(default_factory=lambda: deque(maxlen=KEPT))
    open: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))


class Expected:
    """A request that may come, with what the schedule and the pace look at in a ticket."""

    __slots__ = ("ask", "avoid", "entered", "lane", "model", "priority", "prompt_tokens", "serial")

    def __init__(self, lane: Lane, wanted: _Wanted, entered: float, serial: int) -> None:
        self.lane, self.ask, self.model, self.prompt_tokens = lane, wanted, wanted.model, wanted.prompt_tokens
        self.priority, self.entered, self.serial, self.avoid = lane[0], entered, serial, ""

    @property
    def flow(self) -> str:
        return self.lane[1]


class Returns:
    """Bounded: the flows that asked least recently are forgotten first."""

    def __init__(self) -> None:
        self._habits: OrderedDict[Lane, _Habits] = OrderedDict()

    def came(self, ticket: Ticket) -> None:
        """A request has arrived."""
        lane = ticket.lane
        habits = self._habits.get(lane)
        if habits is None:
            habits = self._habits[lane] = _Habits()
        self._habits.move_to_end(lane)
        if habits.open:
            pause = ticket.entered - habits.open.popleft()
            if pause < GONE:
                habits.pauses.append(pause)
        ask = ticket.ask
        habits.asked.append(_Wanted(ticket.model, ticket.prompt_tokens, ask.most_tokens, ask.generates, ask.host))
        if len(self._habits) > FLOWS_KEPT:
            self._habits.popitem(last=False)

    def answered(self, lane: Lane, now: float) -> None:
        """A request of the flow has ended."""
        if (habits := self._habits.get(lane)) is not None:
            habits.open.append(now)

    def away(self, now: float, dice: Random) -> Iterator[tuple[float, Lane]]:
        """(moment, flow) of those who may come next, of all flows whose last answer is not long ago; one draw each."""
        for lane, habits in self._habits.items():
            for ended in habits.open:
                away = now - ended
                longer = [pause for pause in habits.pauses if pause > away]
                if longer:
                    yield ended + dice.choice(longer), lane

    def after(self, lane: Lane, ended: float, dice: Random) -> float | None:
        """The moment at which the flow asks again after an answer that ends then; None where it is not known to."""
        habits = self._habits.get(lane)
        return ended + dice.choice(habits.pauses) if habits and habits.pauses else None

    def request(self, lane: Lane, at: float, serial: int, dice: Random) -> Expected:
        """One like those that the flow has sent."""
        return Expected(lane, dice.choice(self._habits[lane].asked), at, serial)
