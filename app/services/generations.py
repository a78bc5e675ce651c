"""Generations belong to the server: they outlive the page, write history as they go, and pages attach to them.

`Generations` commits the user's message, starts the answer as a task of its own, and keeps it findable by
conversation. A `Generation` holds everything that was answered so far, so that any page of the same user (also after a
reload) attaches and sees the whole. Stop closes the upstream connection; a page that goes away stops nothing until
nobody has been attached for the grace time and someone else waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, cast

import structlog

from app.core.conversations import Answer, Conversation, MessageState, StoredMessage
from app.core.errors import BadRequest, Cancelled, Draining, LoupeError, StoreError
from app.core.generation import CacheMode, Chunk, GenerationRequest, Json
from app.core.ports import Clock, SystemClock
from app.services.chat import Caller, ChatService
from app.services.history import History
from app.services.queueing.views import Eta
from app.services.request_queue import RequestQueue

log = structlog.get_logger(__name__)
CHECKPOINT_SECONDS = 0.5  # reliability 4 asks for ~1 s: what a kill -9 may cost of an answer
WATCH_SECONDS = 1.0
CACHE_OPTION = "cache"  # among the options of a conversation: what it wants of the answer cache; hosts never see it
PHASE_SECONDS = 0.2  # how soon an attached page learns that the answer left the queue


@dataclass(frozen=True, slots=True)
class Progress:
    """What the answer waits for. `seconds` since the generation began; `eta` is None where nothing was measured."""

    phase: str
    position: int | None
    eta: Eta | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Delta:
    """A further piece of the answer (the first one an attached page gets holds everything so far)."""

    text: str
    thinking: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer's last state: complete or stopped."""

    message: StoredMessage


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer ended with an error; `message` keeps the part that was answered."""

    error: LoupeError
    message: StoredMessage


Event = Progress | Delta | Finished | Failed


def chat_request(conversation: Conversation) -> GenerationRequest:
    """What the model is to see: the system prompt, then every message that says something."""
    turns: list[Json] = [{"role": "system", "content": conversation.system}] if conversation.system.strip() else []
    turns += [{"role": m.role, "content": m.content} for m in conversation.messages if m.content]
    options = dict(conversation.options)
    body: dict[str, Json] = {"model": conversation.model, "messages": turns, "stream": True}
    options.pop(CACHE_OPTION, None)
    if "keep_alive" in options:
        body["keep_alive"] = options.pop("keep_alive")
    if options:
        body["options"] = options
    return GenerationRequest("chat", body)


def _asked_for(caller: Caller, conversation: Conversation) -> Caller:
    """The caller with what the conversation wants of the cache; an answer that is asked for anew stays that."""
    wanted = conversation.options.get(CACHE_OPTION)
    if wanted not in tuple(CacheMode) or caller.cache_mode is CacheMode.REFRESH:
        return caller
    mode = CacheMode(str(wanted))
    return replace(caller, cache_mode=mode, cache_sampled=mode is CacheMode.USE)


class Generation:
    """One answer in the making. Read it with `attach`; end it with `stop`."""

    def __init__(self, conversation_id: str, message: StoredMessage, caller: Caller, clock: Clock) -> None:
        self.conversation_id = conversation_id
        self.caller = caller
        self.message = message
        self.attached = 0
        self.error: LoupeError | None = None
        self._clock = clock
        self._began = self.last_attached = clock.monotonic()
        self._pulse = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopped_by = ""
        self._settled = False

    @property
    def id(self) -> str:
        return self.message.id

    @property
    def message_id(self) -> str:
        return self.message.id

    @property
    def model(self) -> str:
        return self.message.model

    @property
    def finished(self) -> bool:
        """Ended and written: whoever is told so may begin the next turn."""
        return self._settled

    async def attach(self) -> AsyncIterator[Event]:
        """Everything so far, then what comes, ending with exactly one `Finished` or `Failed`.

        A slow reader gets larger pieces, never a queue that grows.
        """
        self.attached += 1
        text_seen = thinking_seen = 0
        told: Progress | None = None
        try:
            while True:
                pulse, settled, now = self._pulse, self._settled, self.message
                progress = self._progress()
                if not settled and (told is None or _differs(told, progress)):
                    told = progress
                    yield progress
                if len(now.content) > text_seen or len(now.thinking) > thinking_seen:
                    delta = Delta(now.content[text_seen:], now.thinking[thinking_seen:])
                    text_seen, thinking_seen = len(now.content), len(now.thinking)
                    yield delta
                if settled:
                    yield Failed(self.error, now) if self.error else Finished(now)
                    return
                if pulse is self._pulse:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(pulse.wait(), PHASE_SECONDS)
        finally:
            self.attached -= 1
            self.last_attached = self._clock.monotonic()

    async def stop(self, by: str = "stop") -> None:
        """End it now; returns when the slot is free and what was answered is written."""
        self._stopped_by = self._stopped_by or by
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    def _progress(self) -> Progress:
        phase = self.caller.trace.phase
        return Progress(phase.name, phase.position, phase.eta, self._clock.monotonic() - self._began)

    def _changed(self) -> None:
        self._pulse.set()
        self._pulse = asyncio.Event()

    def _take(self, chunk: Chunk) -> None:
        message = self.message
        if chunk.text or chunk.thinking:
            message = replace(message, content=message.content + chunk.text, thinking=message.thinking + chunk.thinking)
        if chunk.done:
            answer = replace(message.answer, usage=chunk.usage, done_reason=chunk.done_reason)
            message = replace(message, answer=answer)
        self.message = message

    def _end(self, state: MessageState, error: LoupeError | None = None) -> None:
        trace = self.caller.trace
        answer: Answer = replace(
            self.message.answer, model=trace.model or self.message.model, spans=trace.spans, host=trace.host,
            digest=trace.digest, ttft=trace.ttft,
            cached=trace.cache.outcome == "hit", cached_age=trace.cache.age, error=error.message if error else "",
            error_code=error.code if error else "",
        )  # fmt: skip
        self.error = error
        self.message = replace(self.message, state=state, answer=answer)


def _differs(told: Progress, now: Progress) -> bool:
    return (told.phase, told.position) != (now.phase, now.position) or now.seconds - told.seconds >= WATCH_SECONDS


class Generations:
    """Starts generations and finds them again.

    Raises of `send`, `regenerate` and `edit`: `ConversationNotFound`, `BadRequest` (still answering, nothing to
    answer), `StoreError` (nothing was sent), `Draining`.
    """

    def __init__(
        self, chat: ChatService, history: History, queue: RequestQueue, *, grace_seconds: float = 30.0,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self._chat, self._history, self._queue = chat, history, queue
        self._grace = grace_seconds
        self._clock = clock or SystemClock()
        self._active: dict[str, Generation] = {}
        self._starting: set[str] = set()
        self._draining = False
        self._watcher: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watcher = asyncio.create_task(self._watch(), name="generations without a page")

    async def stop(self, drain_seconds: float) -> None:
        """Take nothing new, give what runs `drain_seconds` to end, then stop the rest and write it down."""
        self._draining = True
        tasks = {g._task for g in self._active.values() if g._task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=drain_seconds)
        await asyncio.gather(*(g.stop("shutdown") for g in list(self._active.values())))
        if self._watcher is not None:
            self._watcher.cancel()

    def active(self, conversation_id: str) -> Generation | None:
        return self._active.get(conversation_id)

    @property
    def running(self) -> int:
        return len(self._active)

    async def send(self, conversation_id: str, text: str, caller: Caller) -> Generation:
        """Commit the user's message, then begin to answer it."""
        if not text.strip():
            raise BadRequest("write something first", field="text")
        return await self._begin(conversation_id, caller, ask=text)

    async def edit(self, conversation_id: str, message_id: str, text: str, caller: Caller) -> Generation:
        """Replace one of the user's messages, and everything after it."""
        if not text.strip():
            raise BadRequest("write something first", field="text")
        return await self._begin(conversation_id, caller, ask=text, replace_from=message_id)

    async def regenerate(self, conversation_id: str, caller: Caller) -> Generation:
        """Answer the last question once more, with the conversation's present variant and parameters: never out of
        the cache, where the new answer takes the place of the old one."""
        conversation = await self._history.get(conversation_id, caller.principal)
        last = conversation.messages[-1] if conversation.messages else None
        if last is None:
            raise BadRequest("there is no question to answer yet")
        if caller.cache_mode is CacheMode.USE:
            caller = replace(caller, cache_mode=CacheMode.REFRESH)
        return await self._begin(conversation_id, caller, replace_from=last.id if last.role == "assistant" else None)

    async def _begin(self, conversation_id: str, caller: Caller, **turn: str | None) -> Generation:
        if self._draining:
            raise Draining
        if conversation_id in self._active or conversation_id in self._starting:
            raise BadRequest("this conversation is still being answered; stop it first")
        self._starting.add(conversation_id)
        try:
            conversation, message = await self._history.begin_turn(conversation_id, caller.principal, **turn)
            generation = Generation(conversation_id, message, _asked_for(caller, conversation), self._clock)
            caller.trace.chat, caller.trace.message = conversation_id, message.id
            self._active[conversation_id] = generation
        finally:
            self._starting.discard(conversation_id)
        generation._task = asyncio.create_task(
            self._run(generation, chat_request(conversation)), name=f"generation {generation.id}"
        )
        return generation

    async def _run(self, generation: Generation, request: GenerationRequest) -> None:
        try:
            await self._answer(generation, request)
            generation._end(MessageState.COMPLETE)
        except (asyncio.CancelledError, Cancelled) as error:
            by = generation._stopped_by or ("operator" if isinstance(error, Cancelled) else "shutdown")
            stopped = MessageState.INTERRUPTED if by == "shutdown" else MessageState.STOPPED
            generation._end(stopped)
            generation.message = replace(
                generation.message, answer=replace(generation.message.answer, done_reason=by.replace("_", " "))
            )
        except LoupeError as error:
            generation._end(MessageState.ERROR, error)
        except Exception:
            log.exception("generation broke", message=generation.id)
            generation._end(MessageState.ERROR, LoupeError("something broke while answering; the log has the details"))
        try:
            await self._history.finish(generation.message)
        except StoreError as error:
            # The answer stays on the page; the checkpoint in the store is what a reload will show.
            log.error("answer could not be saved", message=generation.id, error=error.message)
            generation.error = generation.error or error
        finally:
            self._active.pop(generation.conversation_id, None)
            generation._settled = True
            generation._changed()

    async def _answer(self, generation: Generation, request: GenerationRequest) -> None:
        saved_at, saved = self._clock.monotonic(), 0
        async with aclosing(cast(Any, self._chat.ask(request, generation.caller))) as chunks:
            async for chunk in chunks:
                generation._take(chunk)
                generation._changed()
                length = len(generation.message.content) + len(generation.message.thinking)
                if length > saved and self._clock.monotonic() - saved_at >= CHECKPOINT_SECONDS:
                    await self._checkpoint(generation.message)
                    saved_at, saved = self._clock.monotonic(), length

    async def _checkpoint(self, message: StoredMessage) -> None:
        try:
            await self._history.checkpoint(message.id, message.content, message.thinking)
        except StoreError as error:
            # An answer that can be read is worth more than its checkpoint; the last write will tell the user.
            log.warning("checkpoint failed", message=message.id, error=error.message)

    async def _watch(self) -> None:
        """Cut what nobody reads: a queued ticket after the grace time, a running answer when someone else waits too."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for generation in list(self._active.values()):
                unread = self._clock.monotonic() - generation.last_attached
                queued = generation.caller.trace.phase.name in ("queued", "paused")
                if not generation.attached and unread > self._grace and (queued or self._queue.waiting > 0):
                    await generation.stop("page_closed")
