"""Who is next: interactive before batch by weight, then the flow that had least, the loaded model first within bounds.

The two classes share the time of the slots nine to one while both want it; the flows of a class share by tokens (a
prompt token counts one, an answer's two, as in the VTC paper). Among flows within one `QUANTUM` of the smallest counter
those whose model is loaded go first. Flows that are a usual request apart, or less, count as equal, and the one that
has been ready for longest is next: nobody is overtaken again and again for a few tokens, and waits can be foreseen. Who
has waited for most of the longest wait, and whose flow was given nothing meanwhile, is overtaken by nobody who came
later (`due`): in a flood of users who had nothing yet, one who has had something would never be next.
What has to drive out a model that others wait for is held for a while (`SwapRule`). No slot stays idle for any of this:
what is held goes when nothing else can.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from app.core.generation import Priority
from app.services.queueing.lines import Lane, Lines
from app.services.queueing.pace import Pace
from app.services.queueing.residency import Fit, Place, Residency
from app.services.queueing.returns import Returns
from app.services.queueing.shares import Shares
from app.services.queueing.tickets import Ticket

WEIGHTS = {Priority.INTERACTIVE: 9.0, Priority.BATCH: 1.0}  # Netflix's 90/10 partition of live and batch work
PROMPT_COST, ANSWER_COST, REQUEST_COST = 1.0, 2.0, 10.0
QUANTUM = 2048.0  # of cost: a long answer
Want = tuple[str, str, bool]  # model, the only host that may serve it or "", whether it is overdue
NOMINAL_SECONDS = 1.0  # what a request is thought to take before any was measured


def cost(prompt_tokens: float, answer_tokens: float) -> float:
    """What a flow is charged for so many tokens."""
    return REQUEST_COST + PROMPT_COST * prompt_tokens + ANSWER_COST * answer_tokens


@dataclass(slots=True)
class Schedule:
    """The lines, the counters and the hosts. `clone` gives one to try the future out with."""

    pace: Pace
    residency: Residency
    lines: Lines = field(default_factory=Lines)
    flows: Shares[Lane] = field(default_factory=Shares)
    classes: Shares[Priority] = field(default_factory=lambda: Shares(WEIGHTS))
    holding: dict[Lane, int] = field(default_factory=dict)
    """How many slots each flow holds."""
    turns: dict[Lane, float] = field(default_factory=dict)
    """When each flow that wants more was last given a slot."""
    seconds: float = NOMINAL_SECONDS
    """What a request takes on average, which decides how early the batch class gets its turn."""
    returns: Returns = field(default_factory=Returns)
    due: Mapping[Priority, float] = field(default_factory=dict)
    """Seconds of waiting after which nobody of the class who came later goes first; never where it is empty."""

    def clone(self) -> Schedule:
        return Schedule(
            self.pace, self.residency.clone(), self.lines.clone(), self.flows.clone(), self.classes.clone(),
            dict(self.holding), dict(self.turns), self.seconds, self.returns, self.due,
        )  # fmt: skip

    # Who comes and goes

    def add(self, ticket: Ticket, *, first: bool = False) -> None:
        """`first`: it was served already and its host failed, so it is neither late nor to be paid for again."""
        if not first:
            self._arrive(ticket)
        self.lines.add(ticket, first=first)

    def _arrive(self, ticket: Ticket) -> None:
        lane = ticket.lane
        if lane not in self.holding and not self.lines.waits(lane):
            self.flows.arrive(lane)
        if not self._wants(ticket.priority):
            self.classes.arrive(ticket.priority)

    def seat(self, ticket: Ticket, now: float) -> None:
        """It is given a slot as it comes, nobody waiting: `add` and `take` in one."""
        lane = ticket.lane
        self._arrive(ticket)
        self.flows.advance((lane,))
        self.classes.advance({ticket.priority, *[kind for kind, _ in self.holding]})
        self._hold(lane, now)

    def take(self, ticket: Ticket, now: float) -> None:
        """It is given a slot."""
        self.flows.advance((ticket.priority, flow) for flow in self.lines.flows(ticket.priority))
        self.classes.advance(kind for kind in Priority if self._wants(kind))
        self.occupy(ticket, now)

    def occupy(self, ticket: Ticket, now: float) -> None:
        """From its line into a slot, its flow's place in turn being last now."""
        self.lines.remove(ticket)
        self._hold(ticket.lane, now)

    def _hold(self, lane: Lane, now: float) -> None:
        self.holding[lane] = self.holding.get(lane, 0) + 1
        self.turns[lane] = now

    def give_back(self, lane: Lane) -> None:
        """A slot of this flow is free again."""
        held = self.holding.pop(lane, 0) - 1
        if held > 0:
            self.holding[lane] = held
        else:
            self.rest(lane)

    def rest(self, lane: Lane) -> None:
        """Where a flow neither waits nor holds a slot, nothing but its debt is remembered."""
        if lane not in self.holding and not self.lines.waits(lane):
            self.flows.forget(lane)
            self.turns.pop(lane, None)

    def _wants(self, kind: Priority) -> bool:
        return bool(self.lines.flows(kind)) or kind in [lane[0] for lane in self.holding]

    # Who is next

    def candidates(self, now: float) -> Iterator[tuple[Ticket, tuple[str, ...]]]:
        """Everyone who could be given a slot, the best first, with the names of the hosts to choose from."""
        fits: dict[Want, tuple[Fit, tuple[str, ...]]] = {}
        held: list[tuple[Ticket, tuple[str, ...]]] = []
        kinds = [kind for kind in Priority if self.lines.flows(kind)]
        for kind in sorted(kinds, key=lambda kind: (self.classes.after(kind, self.seconds), kind is Priority.BATCH)):
            for fit, ticket, hosts in self._of_class(kind, now, fits):
                if fit is Fit.HELD:
                    held.append((ticket, hosts))
                else:
                    yield ticket, hosts
        yield from held

    def _of_class(
        self, kind: Priority, now: float, fits: dict[Want, tuple[Fit, tuple[str, ...]]]
    ) -> Iterator[tuple[Fit, Ticket, tuple[str, ...]]]:
        if not (flows := self.lines.flows(kind)):
            return
        counters = {flow: self.flows.of((kind, flow)) for flow in flows}
        least = min(counters.values())
        near, equal = least + QUANTUM, least + cost(*self.pace.usual)
        due = self.due.get(kind, float("inf"))
        rows = []
        for flow, counter in counters.items():
            holds, turn = (kind, flow) in self.holding, self.turns.get((kind, flow), 0.0)
            for ticket in self.lines.heads(kind, flow):
                key = (ticket.model, ticket.ask.host, now - ticket.entered > self.residency.rule.overdue)
                if key not in fits:
                    fits[key] = self.fit(*key, now)
                fit, hosts = fits[key]
                if fit is not Fit.FULL:
                    ready = max(ticket.entered, turn)
                    late = turn <= ticket.entered and now - ticket.entered > due
                    far = counter > near and not late
                    had = (False, 0.0) if late else (holds, max(counter, equal))
                    order = (far, 0 if far else fit, not late, *had, ready, counter, ticket.serial)
                    rows.append((order, fit, ticket, hosts))
        for _, fit, ticket, hosts in sorted(rows, key=lambda row: row[0]):
            yield fit, ticket, hosts

    def fit(self, model: str, only: str, overdue: bool, now: float) -> tuple[Fit, tuple[str, ...]]:
        """The best that any host with a free slot offers, or the one named `only`, and which ones do."""
        best, hosts = Fit.FULL, list[str]()
        places = self.residency.places.values()
        having = [place for place in places if place.has(model) and only in ("", place.name)]
        for place in [place for place in having if not place.resting] or having:
            found = self._fit_on(place, model, overdue, now)
            if found < best:
                best, hosts = found, []
            if found is best and found is not Fit.FULL:
                hosts.append(place.name)
        return best, tuple(hosts)

    def _fit_on(self, place: Place, model: str, overdue: bool, now: float) -> Fit:
        if place.free <= 0:
            return Fit.FULL
        load = self.pace.load(place.name, model) if overdue else 0.0
        return self.residency.fit(place, model, self.lines.models, now, load, overdue)
