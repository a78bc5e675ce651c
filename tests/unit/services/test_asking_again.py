"""A request that has ended is asked once more: what of it is known, and that the new one takes the usual way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.core.conversations import MessageState
from app.core.errors import BadRequest
from app.core.generation import GenerationRequest
from app.services.asking_again import ELSEWHERE, KEPT, NO_WORDS, NOT_ALL, REPLACED, AskingAgain
from app.services.cached_answer import QUESTION_LIMIT, one_question
from app.services.generations import Generations
from app.services.history import History
from tests.fakes import MODEL, FakeBackend, chat
from tests.unit.services.test_chat import Rig, end, rig_of

pytestmark = pytest.mark.anyio
COLD = {"temperature": 0, "num_ctx": 1024}


class Stand:
    """The real way over a fake host, with words kept, a history, and what asks again."""

    def __init__(self, rig: Rig, history: History) -> None:
        self.rig, self.history = rig, history
        rig.telemetry.words = True
        self.asking = AskingAgain(rig.chat, history, rig.telemetry.find)
        self.generations = Generations(rig.chat, history, rig.queue)

    @property
    def sent(self) -> list[dict[str, Any]]:
        return [dict(request.body) for host in self.rig.hosts for request in host.requests]

    async def ended(self, request_id: str) -> None:
        again = self.asking._again[request_id]
        assert again.task is not None
        async with asyncio.timeout(30):
            await again.task


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    rig, history = await rig_of(tmp_path, FakeBackend()), History(f"sqlite:///{tmp_path}/history.db")
    await history.open()
    made = Stand(rig, history)
    yield made
    await made.asking.close()
    assert (rig.busy, rig.queue.running, rig.telemetry.running()) == (0, 0, ())
    await history.close()
    await end(rig)


def plain(text: str = "why?", **more: Any) -> GenerationRequest:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "options": COLD, **more}
    return GenerationRequest("chat", body)


async def test_it_is_asked_past_the_cache_and_its_answer_is_kept_for_who_asked(stand: Stand) -> None:
    caller = stand.rig.caller(principal="me")
    await stand.rig.read(plain(), caller)
    again = await stand.asking.ask(caller.trace.id, stand.rig.caller(principal="me"), sees="me")
    assert stand.rig.telemetry.find(again, "me") is not None, "known from the moment on that its name is told"
    await stand.ended(again)
    first, second = stand.sent
    assert (second["messages"], second["options"]) == (first["messages"], first["options"])
    record = stand.rig.telemetry.find(again)
    assert record is not None and record.status == "ok" and record.cache.outcome == "refresh"
    told = stand.asking.told(again, "me")
    assert told is not None and told.text == record.answer and not told.error
    assert stand.asking.told(again, "you") is None
    assert (
        stand.asking.those_of(caller.trace.id, "me") == (again,) and stand.asking.those_of(caller.trace.id, "you") == ()
    )
    third = await stand.asking.ask(again, stand.rig.caller(principal="me"), sees="me")
    await stand.ended(third)
    assert stand.asking.those_of(caller.trace.id, "me") == (again, third)
    assert stand.sent[2]["messages"] == first["messages"]


async def test_who_may_not_see_a_request_cannot_ask_it_again(stand: Stand) -> None:
    caller = stand.rig.caller(principal="me")
    await stand.rig.read(plain(), caller)
    with pytest.raises(BadRequest, match="not known here"):
        await stand.asking.ask(caller.trace.id, stand.rig.caller(principal="you"), sees="you")
    assert len(stand.sent) == 1


async def test_a_chats_answer_is_rebuilt_with_the_turns_before_it(stand: Stand) -> None:
    stand.rig.telemetry.words = False
    chat_id = (await stand.history.create("me", model=MODEL, options={"temperature": 0.5, "stop": ["END"]})).id
    traces = []
    for text in ("first", "second"):
        caller = stand.rig.caller(principal="me")
        generation = await stand.generations.send(chat_id, text, caller)
        async with asyncio.timeout(30):
            async for _ in generation.attach():
                pass
        assert generation.message.state is MessageState.COMPLETE
        traces.append(caller.trace.id)
    for request_id, sent in zip(traces, list(stand.sent), strict=True):
        rebuilt = await stand.asking.rebuild(request_id, "me")
        assert rebuilt.request is not None and dict(rebuilt.request.body) == sent and rebuilt.chat == chat_id
    assert (await stand.asking.rebuild(traces[1], "you")).why == ELSEWHERE
    generation = await stand.generations.regenerate(chat_id, stand.rig.caller(principal="me"))
    async with asyncio.timeout(30):
        async for _ in generation.attach():
            pass
    assert (await stand.asking.rebuild(traces[1], "me")).why == REPLACED


async def test_what_is_not_known_is_not_made_up(stand: Stand) -> None:
    said: dict[str, tuple[GenerationRequest, bool, str]] = {
        "turns": (plain(messages=[*chat().body["messages"], {"role": "assistant", "content": "x"}]), True, NOT_ALL),  # type: ignore[misc]
        "unkept": (plain(), False, NO_WORDS),
        "schema": (plain(format="json"), True, NOT_ALL),
    }
    for name, (request, words, why) in said.items():
        stand.rig.telemetry.words = words
        caller = stand.rig.caller()
        await stand.rig.read(request, caller)
        rebuilt = await stand.asking.rebuild(caller.trace.id, "local")
        assert (rebuilt.request, rebuilt.why) == (None, why), name


async def test_the_answers_of_the_last_ones_are_kept(stand: Stand) -> None:
    caller = stand.rig.caller()
    await stand.rig.read(plain(), caller)
    ids = []
    for _ in range(KEPT + 3):
        ids.append(await stand.asking.ask(caller.trace.id, stand.rig.caller()))
        await stand.ended(ids[-1])
    assert stand.asking.those_of(caller.trace.id, "local") == tuple(ids[-KEPT:])


async def test_one_that_runs_is_stopped_and_frees_its_slot(stand: Stand) -> None:
    caller = stand.rig.caller()
    await stand.rig.read(plain(), caller)
    stand.rig.hosts[0].enqueue(asyncio.Event())
    again = await stand.asking.ask(caller.trace.id, stand.rig.caller())
    async with asyncio.timeout(30):
        while not stand.rig.busy:
            await asyncio.sleep(0)
    await stand.asking.stop(again, "somebody else")
    told = stand.asking.told(again, "local")
    assert told is not None and told.running
    await stand.asking.stop(again, "local")
    assert not told.running and told.error == "stopped"
    record = stand.rig.telemetry.find(again)
    assert record is not None and record.status == "cancelled"


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        ({"prompt": "why?"}, True), ({"prompt": "why?", "system": "Be brief."}, False), ({"prompt": ""}, False),
        ({"prompt": "why?", "images": []}, True), ({"prompt": "why?", "images": ["aGk="]}, False),
        ({"prompt": "x" * QUESTION_LIMIT}, True), ({"prompt": "x" * (QUESTION_LIMIT + 1)}, False),
        ({"prompt": "why?", "raw": True}, False), ({"prompt": "why?", "think": False}, False),
        ({"prompt": "why?", "stream": False, "keep_alive": "5m", "format": None}, True),
        ({"messages": [{"role": "user", "content": "why?"}]}, True),
        ({"messages": [{"role": "user", "content": "why?", "images": ["aGk="]}]}, False),
        ({"messages": [{"role": "system", "content": "why?"}]}, False), ({"messages": []}, False), ({}, False),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "why?"}]}, False),
    ],
)  # fmt: skip
async def test_a_question_is_all_of_a_request_where_nothing_stands_beside_it(body: dict[str, Any], whole: bool) -> None:
    assert (
        one_question(GenerationRequest("chat" if "messages" in body else "generate", {"model": "m", **body})) is whole
    )
