"""Blind votes as they are cast: two answers to one question, without a name on either, and only when both are whole.

A poll belongs to its owner and to the server. It answers ahead, several questions by one variant and then the same ones
by the other, so that models are not loaded to and fro while somebody reads. Answers with the same words are set aside.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar, cast

import structlog

from app.comparison.blind_votes import Choice, Vote
from app.comparison.pane_run import PaneAsker
from app.comparison.question_set import shipped_sets
from app.comparison.rounds import FEWEST_PANES, MOST_PANES, SEED, Pane, PaneAnswer, chat_request
from app.comparison.vote_store import VoteStore
from app.core.errors import BadRequest, Draining, LoupeError
from app.core.generation import Json, Priority
from app.core.ports import Clock
from app.services.chat import Caller
from app.services.telemetry import Trace

AHEAD = 4  # ballots that are made before somebody asks for them
OPTIONS: Mapping[str, Json] = {"temperature": 0, "num_predict": 256}
T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Poll:
    """What is voted on. `family` and `task` are what votes are kept under."""

    family: str
    task: str
    panes: tuple[Pane, ...]
    questions: tuple[str, ...]
    options: Mapping[str, Json] = field(default_factory=dict)
    id: str = ""
    principal: str = ""


@dataclass(frozen=True, slots=True)
class Ballot:
    """Two whole answers; whose they are is not told."""

    id: str
    question: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Reveal:
    """What was voted last, now with names."""

    left: str
    right: str
    choice: str  # left, right or tie


@dataclass(frozen=True, slots=True)
class PollView:
    """A poll at one moment. `ballot` is None while none is ready: then it is being made, or `done`, or `error` says why
    not. `same` counts answers of this poll that were set aside for having the same words."""

    poll: Poll
    ballot: Ballot | None
    reveal: Reveal | None = None
    votes: int = 0
    same: int = 0
    done: bool = False
    error: LoupeError | None = None


@dataclass(slots=True)
class _Secret:
    """A ballot with what nobody is told before the vote."""

    ballot: Ballot
    left: Pane
    right: Pane
    digests: tuple[str, str]
    shown_at: float | None = None


class _Running:
    def __init__(self, poll: Poll, caller: Caller, order: list[tuple[int, int, int]]) -> None:
        self.poll, self.caller, self.order = poll, caller, order
        self.ready: deque[_Secret] = deque()
        self.reveal: Reveal | None = None
        self.votes = self.same = 0
        self.error: LoupeError | None = None
        self.wanted = asyncio.Event()
        self.pulse = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.begun = False

    def changed(self) -> None:
        self.pulse.set()
        self.pulse = asyncio.Event()


class Ballots:
    """One poll at a time for each owner. `draw` decides order and sides."""

    def __init__(self, asker: PaneAsker, store: VoteStore, clock: Clock, draw: random.Random | None = None) -> None:
        self._asker, self._store, self._clock = asker, store, clock
        self._draw = draw or random.SystemRandom()
        self._running: dict[str, _Running] = {}
        self._draining = False
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="votes")

    async def open(self, wanted: Poll, caller: Caller) -> Poll:
        """Begin a poll in the place of the one that ran. Raises `BadRequest`, `Draining`."""
        if self._draining:
            raise Draining
        poll = replace(_checked(wanted), id=uuid.uuid4().hex, principal=caller.principal)
        await self.end(caller.principal)
        running = _Running(poll, caller, self._order(poll))
        self._running[caller.principal] = running
        running.task = asyncio.create_task(self._prepare(running), name=f"poll {poll.id}")
        return poll

    async def end(self, principal: str) -> None:
        """Returns when its slots are free. The votes stay."""
        running = self._running.pop(principal, None)
        if running is not None and running.task is not None:
            running.task.cancel()
            await asyncio.wait({running.task})
            running.changed()

    async def close(self) -> None:
        self._draining = True
        await asyncio.gather(*(self.end(principal) for principal in list(self._running)))

    def view(self, principal: str) -> PollView | None:
        """The owner's poll; None where there is none. Looking at a ballot begins its time."""
        running = self._running.get(principal)
        if running is None:
            return None
        secret = running.ready[0] if running.ready else None
        if secret is not None and secret.shown_at is None:
            secret.shown_at = self._clock.monotonic()
        done = secret is None and (running.task is None or running.task.done()) and running.error is None
        return PollView(
            running.poll, secret.ballot if secret else None, running.reveal, running.votes, running.same, done,
            running.error,
        )  # fmt: skip

    async def watch(self, principal: str) -> AsyncIterator[PollView]:
        """The poll now and after each change; ends with the poll."""
        while (view := self.view(principal)) is not None:
            pulse = self._running[principal].pulse
            yield view
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pulse.wait(), 1.0)

    async def vote(self, principal: str, ballot_id: str, choice: str) -> None:
        """`choice` is left, right or tie. Raises `BadRequest` where that ballot is not the one that is open, and
        `StoreError`: then the vote was not taken."""
        running = self._running.get(principal)
        secret = running.ready[0] if running is not None and running.ready else None
        if running is None or secret is None or secret.ballot.id != ballot_id:
            raise BadRequest("that vote is no longer open; vote on the answers that are shown now")
        if choice not in ("left", "right", "tie"):
            raise BadRequest("a vote is left, right or tie", "choice")
        told: Choice = "tie" if choice == "tie" else "a" if choice == "left" else "b"
        began = secret.shown_at
        running.ready.popleft()  # first: a second click is no second vote
        try:
            await self._keep(running, secret, told, None if began is None else self._clock.monotonic() - began)
        except LoupeError:
            running.ready.appendleft(secret)
            raise
        running.votes += 1
        running.reveal = Reveal(secret.left.label, secret.right.label, choice)
        running.wanted.set()
        running.changed()

    async def retry(self, principal: str) -> None:
        """After an error: go on making ballots."""
        running = self._running.get(principal)
        if running is not None and running.error is not None and running.task is not None and running.task.done():
            running.error = None
            running.task = asyncio.create_task(self._prepare(running), name=f"poll {running.poll.id}")
            running.changed()

    async def votes(self, principal: str) -> tuple[Vote, ...]:
        """All that the owner has cast, and what was set aside, in order. Raises `StoreError`."""
        return tuple(vote for vote in await self._do(self._store.all) if vote.principal == principal)

    async def remove(self, family: str, task: str, principal: str) -> int:
        return await self._do(self._store.remove, family, task, principal)

    # Inside

    def _order(self, poll: Poll) -> list[tuple[int, int, int]]:
        """(question, pane, pane) of every ballot: each pair on each question once, in random order, in runs of one
        pair so that models are not loaded to and fro."""
        pairs = list(combinations(range(len(poll.panes)), 2))
        questions = list(range(len(poll.questions)))
        self._draw.shuffle(questions)
        runs = [questions[at : at + AHEAD] for at in range(0, len(questions), AHEAD)]
        order = []
        for run in runs:
            self._draw.shuffle(pairs)
            order += [(question, *pair) for pair in pairs for question in run]
        return order

    async def _prepare(self, running: _Running) -> None:
        """Makes ballots ahead until every one was made, or an error says why not."""
        try:
            while running.order:
                while len(running.ready) >= AHEAD:
                    running.wanted.clear()
                    await running.wanted.wait()
                await self._make(running, self._run_of(running))
        except LoupeError as error:
            running.error = error
        except Exception:
            log.exception("a poll broke", poll=running.poll.id)
            running.error = LoupeError("something broke while answering; the log has the details")
        finally:
            running.changed()

    def _run_of(self, running: _Running) -> list[tuple[int, int, int]]:
        """The next ballots of one pair; a single one at first, so that nobody waits for more."""
        most = AHEAD if running.begun else 1
        first = running.order[0]
        run = []
        for each in running.order[:most]:
            if each[1:] != first[1:]:
                break
            run.append(each)
        return run

    async def _make(self, running: _Running, run: list[tuple[int, int, int]]) -> None:
        """All of the run's questions to the one variant, then to the other."""
        _, one, other = run[0]
        before = {question: await self._answer(running, one, question) for question, _, _ in run}
        for step in run:
            after = await self._answer(running, other, step[0])
            await self._offer(running, step, before[step[0]], after)
            running.order.remove(step)
            running.changed()

    async def _offer(
        self, running: _Running, step: tuple[int, int, int], first: PaneAnswer, second: PaneAnswer
    ) -> None:
        question, one, other = step
        sides = [(running.poll.panes[one], first), (running.poll.panes[other], second)]
        self._draw.shuffle(sides)
        (left, here), (right, there) = sides
        ballot = Ballot(uuid.uuid4().hex, running.poll.questions[question], here.text, there.text)
        secret = _Secret(ballot, left, right, (here.answer.digest, there.answer.digest))
        if first.text.split() == second.text.split():
            await self._keep(running, secret, "same", None)
            running.same += 1
            return
        running.begun = True
        running.ready.append(secret)

    async def _answer(self, running: _Running, pane: int, question: int) -> PaneAnswer:
        poll, last = running.poll, PaneAnswer()
        options: dict[str, Json] = {**OPTIONS, "seed": SEED, **poll.options, **poll.panes[pane].options}
        turns: list[dict[str, Json]] = [{"role": "user", "content": poll.questions[question]}]
        request = chat_request(poll.panes[pane].model, turns, options)
        priority = Priority.BATCH if running.ready else Priority.INTERACTIVE  # nobody waits for what is made ahead
        trace = Trace(self._clock, principal=poll.principal, flow=running.caller.flow)
        caller = replace(running.caller, priority=priority, group=f"poll {poll.id}", trace=trace)
        async with aclosing(cast(Any, self._asker.ask(request, caller))) as growing:
            async for grown in growing:
                last = grown
        return last

    async def _keep(self, running: _Running, secret: _Secret, choice: Choice, seconds: float | None) -> None:
        poll = running.poll
        vote = Vote(
            secret.ballot.id, self._clock.now(), poll.principal, poll.family, poll.task, secret.ballot.question[:2000],
            secret.left.model, secret.right.model, choice, secret.left.model, *secret.digests,
            None if seconds is None else round(seconds, 2),
        )  # fmt: skip
        await self._do(self._store.add, vote)

    async def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments))


def _checked(poll: Poll) -> Poll:
    questions = tuple(dict.fromkeys(question.strip() for question in poll.questions if question.strip()))
    if not FEWEST_PANES <= len(poll.panes) <= MOST_PANES:
        raise BadRequest(f"choose {FEWEST_PANES} to {MOST_PANES} variants to vote on", "panes")
    if len({pane.model for pane in poll.panes}) < len(poll.panes):
        raise BadRequest("the same variant stands there twice; votes need two different ones", "panes")
    if not questions:
        raise BadRequest("write at least one question, one a line", "questions")
    return replace(poll, questions=questions)


def questions_by_domain(folder: Path) -> dict[str, tuple[str, ...]]:
    """The shipped questions by what they are about: the tasks that can be voted on without writing any."""
    found: dict[str, list[str]] = {}
    for one in shipped_sets(folder)[0]:
        for question in one.questions:
            found.setdefault(question.domain, []).append(question.text)
    return {domain: tuple(texts) for domain, texts in found.items()}
