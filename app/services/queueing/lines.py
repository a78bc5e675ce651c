"""Who waits: for each class and flow, one line for each model, first come, first served."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from app.core.generation import Priority
from app.services.queueing.tickets import Ticket

Lane = tuple[Priority, str]


class Lines:
    """Inside a flow the order holds among the requests for one model; which model is next is the scheduler's choice."""

    def __init__(self) -> None:
        self._lanes: dict[Priority, dict[str, dict[str, deque[Ticket]]]] = {kind: {} for kind in Priority}
        self.models: Counter[str] = Counter()
        """How many wait for each model."""
        self.prompt_tokens = 0
        self._count = 0

    def clone(self) -> Lines:
        """A copy to try things out with; the tickets are the same."""
        copy = Lines()
        for kind, flows in self._lanes.items():
            copy._lanes[kind] = {
                flow: {model: deque(line) for model, line in models.items()} for flow, models in flows.items()
            }
        copy.models, copy._count = Counter(self.models), self._count
        return copy

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Ticket]:
        """Everyone, by class and flow."""
        for kind in Priority:
            for flow in self._lanes[kind]:
                yield from self.of(kind, flow)

    def of(self, kind: Priority, flow: str) -> Iterator[Ticket]:
        for line in self._lanes[kind].get(flow, {}).values():
            yield from line

    def waits(self, lane: Lane) -> bool:
        return lane[1] in self._lanes[lane[0]]

    def flows(self, kind: Priority) -> list[str]:
        return list(self._lanes[kind])

    def heads(self, kind: Priority, flow: str) -> Iterator[Ticket]:
        """The first one for each model."""
        for line in self._lanes[kind][flow].values():
            yield line[0]

    def add(self, ticket: Ticket, *, first: bool = False) -> None:
        models = self._lanes[ticket.priority].setdefault(ticket.flow, {})
        line = models.setdefault(ticket.model, deque())
        if first:
            line.appendleft(ticket)
        else:
            line.append(ticket)
        self.models[ticket.model] += 1
        self._count += 1
        self.prompt_tokens += ticket.prompt_tokens

    def remove(self, ticket: Ticket) -> bool:
        """False if it does not wait."""
        flows = self._lanes[ticket.priority]
        models = flows.get(ticket.flow, {})
        line = models.get(ticket.model)
        if line is None or ticket not in line:
            return False
        line.remove(ticket)
        if not line:
            del models[ticket.model]
        if not models:
            del flows[ticket.flow]
        self.models[ticket.model] -= 1
        if not self.models[ticket.model]:
            del self.models[ticket.model]  # the names are whatever clients send
        self._count -= 1
        self.prompt_tokens -= ticket.prompt_tokens
        return True
