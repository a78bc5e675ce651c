"""A round while it is answered or measured, and what becomes of its answers when that ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from app.comparison.pane_run import measured
from app.comparison.rounds import PaneAnswer, Round
from app.core.conversations import MessageState, StoredMessage
from app.core.errors import LoupeError
from app.services.chat import Caller
from app.services.queueing.views import Eta
from app.services.telemetry import Trace


@dataclass(frozen=True, slots=True)
class PanePhase:
    """What a pane does now: as `telemetry.Phase`, or "turn" (it waits for the panes before it), "measuring", or ""."""

    name: str = ""
    position: int | None = None
    eta: Eta | None = None


@dataclass(frozen=True, slots=True)
class RoundView:
    """A round at one moment. `running` until all that was asked has ended; `seconds` since the run began."""

    round: Round
    phases: tuple[PanePhase, ...]
    running: bool
    measuring: bool = False
    seconds: float = 0.0


class LiveRound:
    """A round that is being answered or measured."""

    def __init__(self, round_: Round, caller: Caller, began: float, *, measuring: bool = False) -> None:
        self.round, self.caller, self.began, self.measuring = round_, caller, began, measuring
        self.traces: dict[int, Trace] = {}
        self.turns: set[int] = set()  # panes whose turn is still to come
        self.attached, self.last_attached = 0, began
        self.pulse = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.settled = False
        self.stopped_by = ""

    @property
    def cut_short(self) -> MessageState:
        """The state of an answer that did not come to its end."""
        return MessageState.INTERRUPTED if self.stopped_by == "shutdown" else MessageState.STOPPED

    def changed(self) -> None:
        self.pulse.set()
        self.pulse = asyncio.Event()

    def phase(self, index: int) -> PanePhase:
        if index in self.turns:
            return PanePhase("turn")
        trace = self.traces.get(index)
        if trace is None:
            return PanePhase()
        now = trace.phase
        return PanePhase("measuring" if self.measuring else now.name, now.position, now.eta)

    def view(self, now: float) -> RoundView:
        """`now` by the monotonic clock."""
        phases = tuple(self.phase(index) for index in range(len(self.round.panes)))
        return RoundView(self.round, phases, running=True, measuring=self.measuring, seconds=now - self.began)


def ended(answer: PaneAnswer, trace: Trace, state: MessageState, error: LoupeError | None = None) -> PaneAnswer:
    return replace(measured(answer, trace, error), state=state)


def closed(round_: Round, state: MessageState) -> Round:
    """With no answer that seems to be still written (one that waited to come back to a full queue)."""
    for index, pane in enumerate(round_.panes):
        for question, answer in enumerate(pane.answers):
            if answer.state is MessageState.STREAMING:
                round_ = round_.with_pane(index, pane.with_answer(question, replace(answer, state=state)))
    return round_


def messages(round_: Round, index: int) -> list[StoredMessage]:
    """What a conversation made of this pane begins with. A part that is still being written stands as stopped."""
    messages = [StoredMessage("", turn.role, turn.content, 0.0) for turn in round_.context]
    for question, answer in zip(round_.questions, round_.panes[index].answers, strict=False):
        state = MessageState.STOPPED if answer.state is MessageState.STREAMING else answer.state
        messages.append(StoredMessage("", "user", question, 0.0))
        messages.append(StoredMessage("", "assistant", answer.text, 0.0, state, answer.thinking, answer.answer))
    return messages
