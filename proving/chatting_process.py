"""What a process of `proving.chatting` does. Imported once, in the process that the others are forked from."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from multiprocessing.connection import wait

import alembic.command  # noqa: F401  # these three would be imported by each process on its way
import streamlit.starlette  # noqa: F401

import app.asgi
import app.ui.assets  # noqa: F401
from app import instance, serving
from app.bootstrap import Services
from app.config import Settings
from app.config_report import LoadedSettings
from app.core.conversations import Answer, Conversation, MessageState, StoredMessage
from app.core.errors import Draining
from app.services.chat import Caller
from app.services.generations import Finished
from app.services.history import History
from app.services.telemetry import Trace
from proving.chatting import COMMITS_LATER, ENDS_AT_ONCE, Plan
from proving.raw_host import MODEL

TURNS = 5  # in one conversation, then the next one begins


def run(plan: Plan) -> None:
    """The process's whole life."""
    log = os.open(plan.data.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if plan.off == COMMITS_LATER:
        History.begin_turn = _begin_later  # type: ignore[method-assign]
    elif plan.off == ENDS_AT_ONCE:
        serving.LoupeServer._on_signal = _end_at_once  # type: ignore[method-assign]
    threading.Thread(target=_let_people_in, args=(plan,), daemon=True).start()
    settings = Settings(data=plan.data, port=0, hosts=plan.hosts, starter=False, drain_seconds=plan.drain)
    sys.exit(serving.serve(LoadedSettings(settings, {}, ())))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _let_people_in(plan: Plan) -> None:
    services = None
    while services is None or not services.started:
        time.sleep(0.005)
        with contextlib.suppress(instance.ServicesNotInstalled):
            services = instance.current()
    file = os.open(plan.told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(**what: str) -> None:
        os.write(file, json.dumps(what).encode() + b"\n")

    people = [_chat(services, f"{plan.number}-{person}", tell) for person in range(plan.people)]
    chats = [asyncio.run_coroutine_threadsafe(one, services.loop) for one in people]
    for chat in chats:
        with contextlib.suppress(Draining, CancelledError):
            chat.result()


async def _chat(services: Services, person: str, tell: Callable[..., None]) -> None:
    """One person, who asks the next question as soon as the last one is answered."""
    for chat in range(10**6):
        conversation = await services.history.create("local", model=MODEL)
        for turn in range(TURNS):
            question = f"question {person}-{chat}-{turn}"
            caller = Caller(principal="local", flow=person, trace=Trace(services.clock))
            generation = await services.generations.send(conversation.id, question, caller)
            tell(asked=question)
            async for event in generation.attach():
                if isinstance(event, Finished) and event.message.state == "complete":
                    tell(answered=question)


async def _begin_later(
    self: History, conversation_id: str, principal: str, *, ask: str | None = None, replace_from: str | None = None
) -> tuple[Conversation, StoredMessage]:
    """`History.begin_turn` of a control: it is said to be written, and is written half a second later."""
    conversation, now = await self.get(conversation_id, principal), time.time()

    async def write() -> None:
        await asyncio.sleep(0.5)
        await _BEGIN_TURN(self, conversation_id, principal, ask=ask, replace_from=replace_from)

    _LATER.add(asyncio.ensure_future(write()))
    asked = StoredMessage("", "user", ask or "", now, MessageState.COMPLETE)
    answer = StoredMessage("", "assistant", "", now, MessageState.STREAMING, answer=Answer(model=conversation.model))
    return replace(conversation, messages=(*conversation.messages, asked)), answer


_BEGIN_TURN = History.begin_turn
_LATER: set[asyncio.Future[None]] = set()


def _end_at_once(self: serving.LoupeServer, number: int) -> None:
    """`LoupeServer._on_signal` of a control, as uvicorn's own is."""
    self.should_exit = True
