"""A request that has ended, asked once more: what it was, as far as that is known, and the new answer.

Words of requests are not kept unless somebody wants that. A page's request is rebuilt from the conversation that it
belongs to, another one from its kept question where that was all of it. The new request takes the usual way, belongs
to the server and not to the page, and its answer is kept here, for whoever asked, until twenty newer ones are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import structlog

from app.core.conversations import Conversation
from app.core.errors import BadRequest, Cancelled, ConversationNotFound, LoupeError
from app.core.generation import CacheMode, GenerationRequest, Json
from app.services.chat import Caller, ChatService
from app.services.generations import chat_request
from app.services.history import History
from app.services.request_trace import TEXT_LIMIT, FinishedRequest, plain_options

log = structlog.get_logger(__name__)
KEPT = 20
NO_WORDS = "its words are not kept; LOUPE_TRACE_WORDS=on keeps those of the next ones"
NOT_ALL = "it was more than one short question, and only that is kept"
NO_GENERATION = "it asked for no text"
ELSEWHERE = "its chat was deleted, or is somebody else's"
REPLACED = "its chat has another answer in its place by now"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The request as it can be asked again; None where it cannot, and `why`. `chat`: rebuilt from that conversation,
    with the system prompt that it has now."""

    request: GenerationRequest | None
    why: str = ""
    chat: str = ""


@dataclass(slots=True, eq=False)
class Again:
    """A request that was asked again. `of` is the id of the first one; `text` grows."""

    id: str
    of: str
    principal: str
    request: GenerationRequest
    text: str = ""
    error: str = ""
    running: bool = True
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class AskingAgain:
    """Belongs to the event loop; `told` and `those_of` may be read from any thread."""

    def __init__(self, chat: ChatService, history: History, find: Callable[[str, str], FinishedRequest | None]) -> None:
        self._chat, self._history, self._find = chat, history, find
        self._again: dict[str, Again] = {}

    async def rebuild(self, request_id: str, principal: str, *, sees: str = "") -> Rebuilt:
        """What `principal` can ask again. `sees`: whose requests they may look at, "" for everybody's."""
        again = self.told(request_id, principal)
        if again is not None:
            return Rebuilt(again.request)
        record = self._find(request_id, sees)
        if record is None:
            return Rebuilt(None, "it is not known here any more")
        if record.endpoint not in ("chat", "generate"):
            return Rebuilt(None, NO_GENERATION)
        if record.chat:
            return await self._from_chat(record, principal)
        if record.whole:
            return Rebuilt(_from_words(record))
        return Rebuilt(None, NOT_ALL if record.question else NO_WORDS)

    async def _from_chat(self, record: FinishedRequest, principal: str) -> Rebuilt:
        try:
            conversation = await self._history.get(record.chat, principal)
        except ConversationNotFound:
            return Rebuilt(None, ELSEWHERE)
        before = _before(conversation, record.message)
        if before is None:
            return Rebuilt(None, REPLACED, record.chat)
        texts = {name: value for name, value in before.options.items() if name not in plain_options(before.options)}
        asked = record.route.alias if record.route else record.model
        then = replace(before, model=asked, options={**texts, **record.options})
        return Rebuilt(chat_request(then), chat=record.chat)

    async def ask(self, request_id: str, caller: Caller, *, sees: str = "") -> str:
        """Begins it, past the cache; the new request's id. Raises `BadRequest` where it is not known enough."""
        rebuilt = await self.rebuild(request_id, caller.principal, sees=sees)
        if rebuilt.request is None:
            raise BadRequest(f"this request cannot be asked again: {rebuilt.why}")
        before = self.told(request_id, caller.principal)
        first = before.of if before is not None else request_id
        again = Again(caller.trace.id, first, caller.principal, rebuilt.request)
        self._again[again.id] = again
        for old in [one.id for one in self._again.values() if not one.running][: max(0, len(self._again) - KEPT)]:
            del self._again[old]
        anew = replace(caller, cache_mode=CacheMode.REFRESH)
        again.task = asyncio.create_task(self._read(again, rebuilt.request, anew), name=f"asked again {again.id}")
        await asyncio.sleep(0)  # it is among those that run before anybody is told its name
        return again.id

    async def stop(self, request_id: str, principal: str) -> None:
        """End it now, where it is theirs and runs; its slot is free when this returns."""
        again = self.told(request_id, principal)
        if again is not None and again.task is not None and not again.task.done():
            again.task.cancel()
            await asyncio.wait({again.task})

    def told(self, request_id: str, principal: str) -> Again | None:
        """What `principal` asked again under this id."""
        again = self._again.get(request_id)
        return again if again is not None and again.principal == principal else None

    def those_of(self, request_id: str, principal: str) -> tuple[str, ...]:
        """The ids of the requests by which `principal` asked this one again, the oldest first."""
        return tuple(
            one.id for one in tuple(self._again.values()) if one.of == request_id and one.principal == principal
        )

    async def close(self) -> None:
        """End those that run."""
        tasks = [one.task for one in self._again.values() if one.task is not None and not one.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, again: Again, request: GenerationRequest, caller: Caller) -> None:
        try:
            async with aclosing(self._chat.ask(request, caller)) as chunks:
                async for chunk in chunks:
                    again.text = (again.text + chunk.text)[:TEXT_LIMIT]
        except (asyncio.CancelledError, Cancelled):
            again.error = "stopped"
        except LoupeError as error:
            again.error = error.message
        except Exception:
            log.exception("asking again broke", request=again.id)
            again.error = "something broke; the log has the details"
        finally:
            again.running = False


def _before(conversation: Conversation, message: str) -> Conversation | None:
    """The conversation as it was when that answer was asked for; None where the answer is not in it any more."""
    place = next((place for place, one in enumerate(conversation.messages) if one.id == message), None)
    return None if place is None else replace(conversation, messages=conversation.messages[:place])


def _from_words(record: FinishedRequest) -> GenerationRequest:
    asked = record.route.alias if record.route else record.model
    body: dict[str, Json] = {"model": asked}
    if record.endpoint == "chat":
        body["messages"] = [{"role": "user", "content": record.question}]
    else:
        body["prompt"] = record.question
    options: Mapping[str, Json] = record.options
    if options:
        body["options"] = dict(options)
    return GenerationRequest("chat" if record.endpoint == "chat" else "generate", body)
