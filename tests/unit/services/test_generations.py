"""Server-owned generations over a scripted chat and a real history file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from app.core.conversations import Conversation, MessageState, StoredMessage
from app.core.errors import BadRequest, Cancelled, Draining, HostUnreachable, StoreError
from app.core.generation import Chunk, GenerationRequest, Usage
from app.services import generations as module
from app.services.chat import Caller
from app.services.generations import Delta, Event, Failed, Finished, Generation, Generations, Progress, chat_request
from app.services.history import History

pytestmark = pytest.mark.anyio


class ScriptedChat:
    """Answers with what is put into it: chunks, or an error; `None` ends the answer."""

    def __init__(self) -> None:
        self.script: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()
        self.asked: list[GenerationRequest] = []
        self.closed = 0

    async def ask(self, request: GenerationRequest, caller: Caller) -> AsyncIterator[Chunk]:
        self.asked.append(request)
        try:
            while (item := await self.script.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed += 1

    def say(self, *texts: str) -> None:
        for text in texts:
            self.script.put_nowait(Chunk(b"{}", text))

    def done(self) -> None:
        self.script.put_nowait(Chunk(b"{}", "", done=True, done_reason="stop", usage=Usage(output_tokens=3)))
        self.script.put_nowait(None)


class Waiting:
    """A queue's count of those who wait."""

    waiting = 0


class Bench:
    def __init__(self, history: History) -> None:
        self.chat, self.queue, self.history = ScriptedChat(), Waiting(), history
        self.generations = Generations(cast(Any, self.chat), history, cast(Any, self.queue), grace_seconds=0.0)

    async def conversation(self) -> str:
        return (await self.history.create("local", model="m:q8_0", system="Be brief.")).id

    async def stored(self, conversation_id: str) -> tuple[StoredMessage, ...]:
        return (await self.history.get(conversation_id, "local")).messages


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    history = History(f"sqlite:///{tmp_path / 'h.db'}")
    await history.open()
    bench = Bench(history)
    yield bench
    await bench.generations.stop(0.0)
    await history.close()


async def read(generation: Generation) -> list[Event]:
    return [event async for event in generation.attach()]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


async def test_an_answer_is_streamed_and_stored_whole(bench: Bench) -> None:
    chat = await bench.conversation()
    generation = await bench.generations.send(chat, "Capital of France?", Caller())
    bench.chat.say("Par", "is.")
    bench.chat.done()
    events = await read(generation)
    assert isinstance(events[0], Progress) and text_of(events) == "Paris."
    assert isinstance(events[-1], Finished) and events[-1].message.state is MessageState.COMPLETE
    answer = (await bench.stored(chat))[-1]
    assert (answer.content, answer.state, answer.usage) == ("Paris.", MessageState.COMPLETE, Usage(output_tokens=3))
    assert bench.generations.active(chat) is None


async def test_the_model_sees_the_system_prompt_and_every_message_that_says_something(bench: Bench) -> None:
    chat = await bench.conversation()
    await bench.history.set_options(chat, {"temperature": 0, "keep_alive": "10m"})
    bench.chat.done()
    await read(await bench.generations.send(chat, "one", Caller()))
    bench.chat.done()
    await read(await bench.generations.send(chat, "two", Caller()))
    assert bench.chat.asked[1].body == {
        "model": "m:q8_0", "stream": True, "keep_alive": "10m", "options": {"temperature": 0},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one"},
            {"role": "user", "content": "two"},
        ],
    }  # fmt: skip


async def test_a_page_that_comes_back_gets_everything_so_far_and_goes_on(bench: Bench) -> None:
    chat = await bench.conversation()
    generation = await bench.generations.send(chat, "hi", Caller())
    bench.chat.say("first ")
    async with aclosing(cast(Any, generation.attach())) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    assert generation.attached == 0
    second = asyncio.create_task(read(generation))
    bench.chat.say("second")
    bench.chat.done()
    assert text_of(await second) == "first second"
    assert bench.generations.active(chat) is None


async def test_stop_keeps_what_was_answered_and_closes_the_upstream(bench: Bench) -> None:
    chat = await bench.conversation()
    generation = await bench.generations.send(chat, "hi", Caller())
    bench.chat.say("half of")
    async with aclosing(cast(Any, generation.attach())) as events:
        async for event in events:
            if isinstance(event, Delta):
                await generation.stop()
                break
    answer = (await bench.stored(chat))[-1]
    assert (answer.content, answer.state, bench.chat.closed) == ("half of", MessageState.STOPPED, 1)


async def test_an_error_keeps_the_part_that_was_answered_and_says_why(bench: Bench) -> None:
    chat = await bench.conversation()
    generation = await bench.generations.send(chat, "hi", Caller())
    bench.chat.say("half")
    bench.chat.script.put_nowait(HostUnreachable("local"))
    events = await read(generation)
    assert isinstance(events[-1], Failed) and isinstance(events[-1].error, HostUnreachable)
    answer = (await bench.stored(chat))[-1]
    assert (answer.content, answer.state) == ("half", MessageState.ERROR)
    assert "local does not answer" in answer.error


async def test_a_bug_in_a_layer_below_ends_the_answer_with_one_error_and_no_details(bench: Bench) -> None:
    chat = await bench.conversation()
    generation = await bench.generations.send(chat, "hi", Caller())
    bench.chat.script.put_nowait(KeyError("secret"))
    events = await read(generation)
    assert isinstance(events[-1], Failed) and "secret" not in events[-1].message.error


async def test_a_second_question_while_one_is_answered_is_refused_and_not_stored(bench: Bench) -> None:
    chat = await bench.conversation()
    await bench.generations.send(chat, "one", Caller())
    with pytest.raises(BadRequest, match="still being answered"):
        await bench.generations.send(chat, "two", Caller())
    assert [m.content for m in await bench.stored(chat)] == ["one", ""]


async def test_two_sends_at_the_same_moment_start_one_generation(bench: Bench) -> None:
    chat = await bench.conversation()
    results = await asyncio.gather(
        *(bench.generations.send(chat, text, Caller()) for text in ("one", "two")), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["BadRequest", "Generation"]


async def test_regenerate_replaces_the_last_answer_and_asks_the_same(bench: Bench) -> None:
    chat = await bench.conversation()
    bench.chat.say("bad")
    bench.chat.done()
    await read(await bench.generations.send(chat, "one", Caller()))
    bench.chat.say("good")
    bench.chat.done()
    await read(await bench.generations.regenerate(chat, Caller()))
    assert [m.content for m in await bench.stored(chat)] == ["one", "good"]
    assert bench.chat.asked[0].body == bench.chat.asked[1].body


async def test_an_answer_that_cannot_be_saved_still_reaches_the_page_with_the_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await bench.conversation()
    generation = await bench.generations.send(chat, "hi", Caller())

    async def full(message: StoredMessage) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(bench.history, "finish", full)
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    bench.chat.say("an answer")
    bench.chat.done()
    events = await read(generation)
    assert text_of(events) == "an answer"
    assert isinstance(events[-1], Failed) and "disk is full" in events[-1].error.message


async def test_every_checkpoint_is_in_the_store_while_the_answer_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    chat = await bench.conversation()
    generation = await bench.generations.send(chat, "hi", Caller())
    bench.chat.say("so far")
    async with aclosing(cast(Any, generation.attach())) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    bench.chat.say("")  # taken only after the checkpoint of the first piece
    while bench.chat.script.qsize():
        await asyncio.sleep(0)
    stored = (await bench.stored(chat))[-1]
    assert (stored.content, stored.state) == ("so far", MessageState.STREAMING)


async def test_an_unread_answer_is_cut_only_when_someone_else_waits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.0)
    chat = await bench.conversation()
    generation = await bench.generations.send(chat, "hi", Caller())
    generation.caller.trace.enter("decode")
    bench.generations.start()
    for _ in range(50):
        await asyncio.sleep(0)
    assert bench.generations.active(chat) is generation
    bench.queue.waiting = 1
    while bench.generations.active(chat):
        await asyncio.sleep(0)
    answer = (await bench.stored(chat))[-1]
    assert (answer.state, answer.answer.done_reason) == (MessageState.STOPPED, "page closed")


async def test_an_answer_that_an_operator_ends_says_so(bench: Bench) -> None:
    chat = await bench.conversation()
    generation = await bench.generations.send(chat, "hi", Caller())
    bench.chat.say("half")
    bench.chat.script.put_nowait(Cancelled("stop"))
    while bench.generations.active(chat):
        await asyncio.sleep(0)
    assert (generation.message.state, generation.message.answer.done_reason) == (MessageState.STOPPED, "operator")
    assert (await bench.stored(chat))[-1].content == "half"


async def test_while_draining_nothing_new_begins_and_what_runs_is_written_as_interrupted(bench: Bench) -> None:
    chat = await bench.conversation()
    await bench.generations.send(chat, "hi", Caller())
    bench.chat.say("half")
    while bench.chat.script.qsize():
        await asyncio.sleep(0)
    await bench.generations.stop(0.0)
    assert [(m.content, m.state) for m in await bench.stored(chat)][-1] == ("half", MessageState.INTERRUPTED)
    with pytest.raises(Draining):
        await bench.generations.send(chat, "more", Caller())


def test_options_the_user_did_not_touch_are_not_sent() -> None:
    conversation = Conversation("c", "local", "t", "m", "", {}, 0.0, 0.0, (StoredMessage("1", "user", "hi", 0.0),))
    assert chat_request(conversation).body == {
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True,
    }  # fmt: skip
