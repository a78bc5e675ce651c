"""Side by side: one question, or a whole conversation, to several variants. A round belongs to the server.

What is asked is written down before anything is sent; pages attach and may go; after a restart a round stands as far as
it had come, and `go_on` asks what is missing. All panes are one group to the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar, cast

import structlog

from app.comparison.fair_run import measure
from app.comparison.live_round import LiveRound, PanePhase, RoundView, closed, ended, messages
from app.comparison.pane_plan import Hosts, waves
from app.comparison.pane_run import PaneAsker
from app.comparison.round_store import RoundStore
from app.comparison.rounds import DEFAULTS, PaneAnswer, Round, checked
from app.core.conversations import Answer, MessageState
from app.core.errors import BadRequest, Cancelled, Draining, LoupeError, QueueFull, StoreError
from app.core.generation import Priority
from app.core.ports import Clock
from app.services.chat import Caller
from app.services.telemetry import Trace

CHECKPOINT_SECONDS = 0.5  # what a kill -9 may cost of the answers
PULSE_SECONDS = 0.05  # between two views of a growing round
PHASE_SECONDS = 0.3  # how soon an attached page learns of a change of phase
PATIENCE_SECONDS = 600.0  # for which a pane that a full queue refused comes again
T = TypeVar("T")
log = structlog.get_logger(__name__)


class SideBySide:
    """Raises of what begins something: `BadRequest`, `RoundNotFound`, `StoreError` (nothing was sent), `Draining`.

    `adopt` makes a conversation of a pane; `free` tells the bytes of memory that this machine has left.
    """

    def __init__(
        self, asker: PaneAsker, hosts: Hosts, store: RoundStore, adopt: Callable[..., Any], free: Callable[[], int],
        clock: Clock, grace_seconds: float = 30.0,
    ) -> None:  # fmt: skip
        self._grace = grace_seconds
        self._asker, self._hosts, self._store, self._adopt = asker, hosts, store, adopt
        self._free, self._clock = free, clock
        self._live: dict[str, LiveRound] = {}
        self._draining = False
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rounds")  # what is written later stands

    # Asking

    async def start(self, wanted: Round, caller: Caller) -> Round:
        """Take the round, write it down, and begin to ask. Its id and time are given here."""
        if self._draining:
            raise Draining
        options = {name: value for name, value in {**DEFAULTS, **wanted.options}.items() if value is not None}
        new = replace(
            wanted, id=uuid.uuid4().hex, principal=caller.principal, created_at=self._clock.now(), options=options
        )
        await self._write(checked(new))
        await self._do(self._store.sweep, frozenset(self._live) | {new.id})
        return self._begin(new, caller)

    async def follow(self, round_id: str, question: str, caller: Caller) -> Round:
        """One more question to all panes, each with its own answers before it."""
        found = await self._settled(round_id, caller)
        if self._draining:
            raise Draining
        if not found.complete:
            raise BadRequest("some panes have not answered yet; let them go on first, or begin another round")
        asked = checked(replace(found, questions=(*found.questions, question)))
        await self._write(asked)
        return self._begin(asked, caller)

    async def go_on(self, round_id: str, caller: Caller) -> Round:
        """Ask what is missing: stopped, interrupted and failed answers, and those after them."""
        return self._begin(await self._settled(round_id, caller), caller)

    async def measure(self, round_id: str, caller: Caller) -> Round:
        """The fair run: speeds of all panes, one variant after the other."""
        return self._begin(await self._settled(round_id, caller), caller, measuring=True)

    async def stop(self, round_id: str, by: str = "stop") -> None:
        """End it now; returns when its slots are free and what was answered is written."""
        live = self._live.get(round_id)
        if live is not None and live.task is not None:
            live.stopped_by = live.stopped_by or by
            live.task.cancel()
            await asyncio.wait({live.task})

    async def close(self, drain_seconds: float = 0.0) -> None:
        """Take nothing new, give what runs `drain_seconds` to end, then stop the rest and write it down."""
        self._draining = True
        tasks = {live.task for live in self._live.values() if live.task is not None}
        if tasks and drain_seconds:
            await asyncio.wait(tasks, timeout=drain_seconds)
        await asyncio.gather(*(self.stop(round_id, "shutdown") for round_id in list(self._live)))

    # Looking

    def active(self, round_id: str) -> bool:
        return round_id in self._live

    async def get(self, round_id: str, principal: str) -> RoundView:
        """Raises `RoundNotFound`."""
        live = self._live.get(round_id)
        if live is not None and live.round.principal == principal:
            return live.view(self._clock.monotonic())
        found = await self._do(self._store.read, round_id, principal)
        return RoundView(found, tuple(PanePhase() for _ in found.panes), running=False)

    async def rounds(self, principal: str) -> tuple[Round, ...]:
        """The newest first, as far as each has come."""
        stored = await self._do(self._store.all, principal)
        return tuple(self._live[one.id].round if one.id in self._live else one for one in stored)

    async def attach(self, round_id: str, principal: str) -> AsyncIterator[RoundView]:
        """The round now, then whenever it has changed; the last view is of one that does not run any more."""
        live = self._live.get(round_id)
        if live is None or live.round.principal != principal:
            yield await self.get(round_id, principal)
            return
        live.attached += 1
        try:
            while not live.settled:
                pulse = live.pulse
                yield live.view(self._clock.monotonic())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(pulse.wait(), PHASE_SECONDS)
                    await asyncio.sleep(PULSE_SECONDS)
            yield replace(live.view(self._clock.monotonic()), running=False)
        finally:
            live.attached -= 1
            live.last_attached = self._clock.monotonic()

    # Afterwards

    async def delete(self, round_id: str, principal: str) -> None:
        await self.get(round_id, principal)
        await self.stop(round_id)
        await self._do(self._store.delete, round_id)

    async def keep(self, round_id: str, index: int, principal: str) -> str:
        """Make a conversation of one pane, to go on chatting with its variant; its id."""
        round_ = (await self.get(round_id, principal)).round
        if not 0 <= index < len(round_.panes) or not any(answer.text for answer in round_.panes[index].answers):
            raise BadRequest("there is no answer to keep yet")
        pane = round_.panes[index]
        options = {**round_.options, **pane.options}
        options.pop("num_predict", None)  # the bound of the comparison is no bound of a chat
        chat_id: str = await self._adopt(
            principal, model=pane.model, system=round_.system, options=options, turns=messages(round_, index),
            title=round_.title,
        )  # fmt: skip
        live = self._live.get(round_id)
        if live is not None:
            live.round = replace(live.round, kept=chat_id)
        else:
            await self._write(replace(round_, kept=chat_id))
        return chat_id

    # Inside

    async def _settled(self, round_id: str, caller: Caller) -> Round:
        """The round, which is not being answered now."""
        if round_id in self._live:
            raise BadRequest("this comparison is still running; stop it first")
        return (await self.get(round_id, caller.principal)).round

    def _begin(self, round_: Round, caller: Caller, *, measuring: bool = False) -> Round:
        if self._draining:
            raise Draining
        if round_.id in self._live:
            raise BadRequest("this comparison is still running; stop it first")
        live = LiveRound(round_, caller, self._clock.monotonic(), measuring=measuring)
        self._live[round_.id] = live
        live.task = asyncio.create_task(self._run(live), name=f"side by side {round_.id}")
        return round_

    async def _run(self, live: LiveRound) -> None:
        keeper = asyncio.create_task(self._checkpoints(live), name="checkpoints of a comparison")
        try:
            models = [pane.model for pane in live.round.panes]
            live.turns = set(range(len(models)))
            apart = live.measuring or live.round.apart
            if not apart:
                await self._look(models)
            for wave in waves(models, self._hosts, self._free, apart=apart):
                await asyncio.gather(*(self._pane(live, index) for index in wave))
        except asyncio.CancelledError:
            pass  # each pane has noted where it stopped
        except Exception:
            log.exception("a comparison broke", round=live.round.id)
        finally:
            keeper.cancel()
            live.turns.clear()
            live.traces.clear()
            live.round = closed(live.round, live.cut_short)
            try:
                await self._write(live.round)
            except StoreError as error:
                log.error("a comparison could not be saved", round=live.round.id, error=error.message)
            self._live.pop(live.round.id, None)
            live.settled = True
            live.changed()

    async def _look(self, models: list[str]) -> None:
        """What cannot be found is told by its pane."""
        for model in dict.fromkeys(models):
            with contextlib.suppress(LoupeError):
                await self._hosts.resolve(model)

    async def _pane(self, live: LiveRound, index: int) -> None:
        """All that the pane is still to answer, one question after the other; an error ends it, not the others."""
        live.turns.discard(index)
        if live.measuring:
            await self._measure(live, index)
        else:
            while (question := live.round.missing(index)) < len(live.round.questions):
                if not await self._answer(live, index, question):
                    break
        live.traces.pop(index, None)
        live.changed()

    async def _measure(self, live: LiveRound, index: int) -> None:
        figures, why = None, ""
        try:
            figures = await measure(live.round, index, self._asker, lambda: self._caller(live, index))
        except LoupeError as error:
            why = error.message
        pane = live.round.panes[index]
        live.round = live.round.with_pane(index, replace(pane, fair=figures or pane.fair, unfair=why))

    async def _answer(self, live: LiveRound, index: int, question: int) -> bool:
        """Whether it came to its end. A queue that is full is come back to."""
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self._ask(live, index, question)
            except QueueFull as error:
                if self._clock.monotonic() > deadline:
                    asked = PaneAnswer(answer=Answer(model=live.round.panes[index].model))
                    self._note(live, index, question, ended(asked, live.traces[index], MessageState.ERROR, error))
                    return False
                await asyncio.sleep(error.retry_after or 1.0)

    async def _ask(self, live: LiveRound, index: int, question: int) -> bool:
        """Whether it came to its end. What was answered before it broke off is kept."""
        request, caller = live.round.request(index, question), self._caller(live, index)
        answer = PaneAnswer(answer=Answer(model=request.model))
        self._note(live, index, question, answer)
        try:
            async with aclosing(cast(Any, self._asker.ask(request, caller))) as growing:
                async for answer in growing:
                    self._note(live, index, question, answer)
            return answer.complete
        except QueueFull:
            raise
        except (Cancelled, asyncio.CancelledError) as error:
            self._note(live, index, question, ended(answer, caller.trace, live.cut_short))
            if isinstance(error, asyncio.CancelledError):
                raise
        except LoupeError as error:
            self._note(live, index, question, ended(answer, caller.trace, MessageState.ERROR, error))
        except Exception:  # the other panes go on
            log.exception("a pane broke", round=live.round.id)
            told = LoupeError("something broke while answering; the log has the details")
            self._note(live, index, question, ended(answer, caller.trace, MessageState.ERROR, told))
        return False

    def _note(self, live: LiveRound, index: int, question: int, answer: PaneAnswer) -> None:
        live.round = live.round.with_pane(index, live.round.panes[index].with_answer(question, answer))
        live.changed()

    def _caller(self, live: LiveRound, index: int) -> Caller:
        """With a fresh trace. One group: the queue counts the panes of a round as one request of its page. What nobody
        has looked at for the grace time lets those go first who wait in person."""
        trace = Trace(self._clock, principal=live.caller.principal, flow=live.caller.flow)
        live.traces[index] = trace
        unread = not live.attached and self._clock.monotonic() - live.last_attached > self._grace
        priority = Priority.BATCH if unread else live.caller.priority
        return replace(live.caller, group=f"round {live.round.id}", priority=priority, trace=trace)

    async def _checkpoints(self, live: LiveRound) -> None:
        written = live.round
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            if live.round is not written:
                written = live.round
                try:
                    await self._write(written)
                except StoreError as error:
                    log.warning("a comparison's checkpoint failed", round=written.id, error=error.message)

    async def _write(self, round_: Round) -> None:
        await self._do(self._store.write, round_)

    async def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments))
