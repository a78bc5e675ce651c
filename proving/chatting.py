"""Loupe as `python -m app serve` runs it, with people in it who chat as its pages do: to be killed or stopped.

Each is a process, forked from one that has imported everything, so that it is there in a fraction of a second. What
its people were told goes to a file, a line at a time, before they go on: `{"asked": …}` once a question was taken,
`{"answered": …}` once its answer was said to be finished. What a process has written to a file survives its kill -9.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path

import streamlit.starlette  # noqa: F401  # imported before the fork

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
from proving.raw_host import MODEL

TURNS = 5  # in one conversation, then the next one begins
FORKS = multiprocessing.get_context("forkserver")
COMMITS_LATER = "questions acknowledged before they are committed"
ENDS_AT_ONCE = "the first signal ends the server at once"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process does. `off` names the defence that it is to be without."""

    data: Path
    hosts: str
    told: Path
    number: int
    people: int = 4
    drain: float = 30.0
    off: str = ""


class Chatting:
    """One process. `url` is there once the first question was taken."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._process = FORKS.Process(target=_serve, args=(plan,), daemon=True)
        self._process.start()
        self.pid = int(self._process.pid or 0)

    @property
    def url(self) -> str:
        found = instance.find_running(self.plan.data)
        return found.url if found is not None and found.pid == self.pid else ""

    @property
    def ended(self) -> bool:
        return not self._process.is_alive()

    @property
    def status(self) -> int | None:
        """Its exit status, negative where a signal ended it."""
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def join(self, seconds: float = 30.0) -> None:
        """Wait until it is gone. Raises `TimeoutError`."""
        self._process.join(seconds)
        if not self.ended:
            raise TimeoutError(f"process {self.pid} is still there after {seconds:g} s")

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()


@contextlib.contextmanager
def chatting(plan: Plan) -> Iterator[Chatting]:
    FORKS.set_forkserver_preload([__name__])
    one = Chatting(plan)
    try:
        yield one
    finally:
        one.close()


def told(path: Path) -> tuple[list[str], list[str]]:
    """The questions that were taken, and those of them whose answers were said to be finished."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    asked = [line["asked"] for line in lines if "asked" in line]
    return asked, [line["answered"] for line in lines if "answered" in line]


def _serve(plan: Plan) -> None:
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
