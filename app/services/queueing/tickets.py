"""One request's place in the queue: what it asks for, where it stands, and the slot that it holds in the end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, TypeVar

from app.core.errors import Cancelled, LoupeError
from app.core.generation import GenerationRequest, Json, Priority, Usage
from app.services.host_lease import Lease
from app.services.interruption import Interrupted, Interruption
from app.services.queueing.views import Eta
from app.services.watched_host import canonical

Piece = TypeVar("Piece")
PICTURE_CHARS = 3000  # a picture takes as long to read as so many characters


class RequestNotFound(LoupeError):
    """No request of that id is in the queue, or it is in no state for what was asked."""

    status = 404
    code = "request_not_found"

    def __init__(self, request_id: str, what: str = "waits or runs") -> None:
        super().__init__(f"no request {request_id[:32]} {what}")
        self.request_id = request_id


@dataclass(slots=True, kw_only=True, eq=False)
class Ask:
    """What a request brings to the queue; not to be changed (a frozen one takes three times as long to make).

    `flow` is the unit of fairness. `prompt_chars` is the length of what is to be read, `most_tokens` the length that
    the request allows its answer (None: none told), `generates` False for work without an answer to wait for
    (embeddings, loads). `patience`: seconds after which it no longer wants the slot. Requests of one `group` (the panes
    of one side-by-side) count as one against the bound of their flow; `from_page` says which bound that is. `prefix`
    stands for the beginning of the conversation, which a host may still hold; `phase` tells what the request does once
    it has its slot. `host` names the only host that may serve it, "" for any.
    """

    model: str
    flow: str = "local"
    principal: str = "local"
    priority: Priority = Priority.INTERACTIVE
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    prompt_chars: int = 0
    most_tokens: int | None = None
    generates: bool = True
    patience: float | None = None
    from_page: bool = False
    group: str = ""
    prefix: int = 0
    phase: Callable[[], str] = lambda: "running"
    host: str = ""


def measures(request: GenerationRequest) -> tuple[int, int | None]:
    """(characters to be read, longest answer in tokens or None) of a generation, pictures included."""
    body, chars = request.body, 0
    for name in ("system", "prompt", "suffix"):
        if isinstance(part := body.get(name), str):
            chars += len(part)
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            if isinstance(content := message.get("content"), str):
                chars += len(content)
            if "images" in message:
                chars += _pictures(message)
    most = request.options.get("num_predict")
    told = isinstance(most, int | float) and not isinstance(most, bool) and most > 0
    return chars + _pictures(body), int(most) if told and isinstance(most, int | float) else None


def beginning(request: GenerationRequest) -> int:
    """A number for what a conversation begins with: its system prompt and its first question. 0 for none."""
    messages = request.body.get("messages")
    told = [request.body.get("system")]
    for message in messages[:2] if isinstance(messages, list) else ():
        if isinstance(message, dict):
            told.append(message.get("content"))
    parts = [part for part in told if isinstance(part, str)]
    return hash(tuple(parts)) if parts else 0


def _pictures(told: Mapping[str, Json]) -> int:
    images = told.get("images")
    return PICTURE_CHARS * len(images) if isinstance(images, list) else 0


@dataclass(frozen=True, slots=True)
class Foretold:
    """`likely` and the `middle` of the range in seconds as the schedule was played, `eta` as it was told."""

    position: int
    at: float
    likely: float
    middle: float
    eta: Eta


class Desk(Protocol):
    """What a ticket needs of its queue."""

    def leave(self, ticket: Ticket, usage: Usage | None, *, finished: bool) -> None: ...

    def again(self, ticket: Ticket) -> None: ...


class Ticket:
    """Use it as an async context manager: leaving it frees whatever is held. Attributes may be read from any thread."""

    def __init__(self, queue: Desk, ask: Ask, serial: int, entered: float, prompt_tokens: int) -> None:
        self._queue = queue
        self._future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self.ask, self.serial, self.entered = ask, serial, entered
        self.priority = ask.priority
        self.model = canonical(ask.model)
        self.prompt_tokens = prompt_tokens  # an estimate
        self.position = 0
        """1 is next; 0 once it is admitted or gone."""
        self.avoid = ""
        """The host that has just failed this request; another one is to be preferred."""
        self.eta: Eta | None = None
        self.why = ""
        self.told: list[Foretold] = []
        """What was foretold at each position that it came to."""
        self.lease: Lease | None = None
        self.host = ""
        self.began: float | None = None
        self.cold = False
        self.moved = False
        """Whether it was put into the other class, and so behind those who were there."""
        self.tokens = 0
        """Pieces of the answer so far."""
        self.charged = self.charged_seconds = 0.0
        self._ended = self._gone = False
        self._reading = Interruption()

    @property
    def flow(self) -> str:
        return self.ask.flow

    @property
    def lane(self) -> tuple[Priority, str]:
        """Whose counter pays for it."""
        return self.priority, self.ask.flow

    async def admitted(self) -> Lease:
        """Wait for a slot. Raises what makes waiting pointless: `NoHealthyHost`, `ModelNotFound`, `QueueTimeout`,
        `Draining`, or `Cancelled` where an operator ended it."""
        try:
            return await self._future
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def piece(self, pieces: AsyncIterator[Piece]) -> Piece | None:
        """The next piece of the answer, counted; None at its end. Raises `Cancelled` where an operator ends it."""
        if self._ended:
            raise Cancelled("stop")
        try:
            with self._reading:
                piece = await anext(pieces, None)
        except Interrupted:
            raise Cancelled("stop") from None
        if piece is not None:
            self.tokens += 1
        return piece

    def end(self) -> None:
        """An operator ends it, wherever it is: its waiter or its reader gets `Cancelled`."""
        self._ended = True
        if not self._reading.fire() and self.lease is None:
            self.cancel()

    def finish(self, usage: Usage | None = None) -> None:
        """The host has done its work: give the slot back and let the queue learn from it."""
        self._gone = True
        self._queue.leave(self, usage, finished=True)

    def cancel(self) -> None:
        """Leave the queue, or give the slot back. Calling it again, or after `finish`, does nothing."""
        if not self._gone:
            self._gone = True
            self._queue.leave(self, None, finished=False)

    async def elsewhere(self, failed: str) -> Lease:
        """Give the slot back and wait, at the head of the line, for one that is not on the host `failed`."""
        self.avoid = "" if self.ask.host else failed
        self._future = asyncio.get_running_loop().create_future()
        self._gone = False
        self._queue.again(self)
        return await self.admitted()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    @property
    def settled(self) -> bool:
        """Whether its waiter was told something, or has gone."""
        return self._future.done()

    def settle(self, outcome: Lease | LoupeError) -> bool:
        """Tell the waiter; False if it has gone already."""
        if self._future.done():
            return False
        if isinstance(outcome, LoupeError):
            self._future.set_exception(outcome)
            self._future.exception()  # a caller that has gone never reads it: that is no bug to be logged
        else:
            self._future.set_result(outcome)
        return True
