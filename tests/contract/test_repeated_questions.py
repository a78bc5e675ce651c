"""The way in front of the routes for a question that comes again: it says nothing that the routes would not say."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as some

from app.bootstrap import Services, build
from app.config import Settings
from app.core.errors import HostUnreachable, LoupeError
from app.core.generation import Chunk, GenerationRequest
from app.gateway import Lifecycle, create_gateway
from app.services.chat import Caller
from tests.fakes import MODEL, FakeBackend, FakeClock, answer, loaded_model, model_info

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
COLD = {"temperature": 0, "num_ctx": 1024}
TURNS = [{"role": "user", "content": 'Say "created_at":"now" \u00e9.'}]


def raw(**body: Any) -> bytes:
    return json.dumps({"model": MODEL, **body}).encode()


QUESTIONS = (
    ("/api/chat", raw(messages=TURNS, options=COLD, stream=False)),
    ("/api/chat", raw(messages=TURNS, options=COLD)),
    ("/api/chat", raw(messages=TURNS, options={"temperature": 0})),
    ("/api/chat", raw(options=COLD, messages=TURNS, keep_alive="5m", stream=False)),  # the same, in other bytes
    ("/api/chat", raw(messages=TURNS)),
    ("/api/chat", raw(messages=TURNS, options=COLD, stream=False) + b" "),
    ("/api/generate", raw(prompt="Paris?", options={"seed": 1, "num_ctx": 512}, stream=False)),
    ("/api/chat", b'{"model":'),
    ("/api/chat", raw(messages=[], options=COLD)),
)
FORMS: tuple[tuple[tuple[bytes, bytes], ...], ...] = (
    (), (), (), ((b"x-loupe-cache", b"use"),), ((b"x-loupe-cache", b" USE "),), ((b"x-loupe-cache", b"refresh"),),
    ((b"x-loupe-cache", b"bypass"),), ((b"x-loupe-cache", b"maybe"),), ((b"x-loupe-priority", b"batch"),),
    ((b"x-loupe-priority", b"first"),), ((b"x-loupe-patience", b"5"),), ((b"x-loupe-patience", b"no"),),
    ((b"x-loupe-cache", b"use"), (b"x-loupe-cache", b"bypass")),
)  # fmt: skip


class Numbered(FakeBackend):
    """Each answer says which one it is."""

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk, None]:
        self.enqueue(*answer(f"answer {len(self.requests)}", ' of "created_at":"then"', "."))
        async with aclosing(super().stream(request)) as chunks:
            async for chunk in chunks:
                yield chunk


class Stack:
    """Loupe's gateway over a host in memory, with the way in front of the routes or without it."""

    def __init__(self, services: Services, host: FakeBackend, clock: FakeClock, *, front: bool) -> None:
        self.services, self.host, self.clock = services, host, clock
        self.lifecycle = Lifecycle()
        gateway: Any = create_gateway(services, self.lifecycle)
        self.app, self.inner = (gateway if front else gateway._app), gateway._app
        self.routed = 0

        async def counting(*about: Any) -> None:
            self.routed += 1
            await self.inner(*about)

        gateway._app = counting

    async def ask(self, path: str, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> tuple[Any, ...]:
        """(status, headers, body) without what differs from one request to the next."""
        sent: list[Any] = []
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return given.pop() if given else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        length = (b"content-length", str(len(body)).encode())
        scope = {
            "type": "http", "method": "POST", "path": path, "query_string": b"", "scheme": "http",
            "headers": [(b"host", b"localhost"), length, *headers], "client": ("127.0.0.1", 1), "state": {},
        }  # fmt: skip
        await self.app(scope, receive, send)
        await self.settled()
        named = [pair for pair in map(tuple, sent[0]["headers"]) if pair[0] != b"x-loupe-request-id"]
        told = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], named, re.sub(rb'"created_at":"2[^"]*Z"', b"", told)

    async def settled(self) -> None:
        """Until what was answered is written and what was deleted is gone."""
        while tasks := list(self.services.chat._shared._tasks):
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.services.cache._store.run(lambda _: None)

    async def counted(self) -> tuple[Any, ...]:
        """What statistics, the list of requests and the metrics say."""
        stats, told = await self.services.cache.stats(), self.services.telemetry.snapshot()
        records = [
            (one.principal, one.flow, one.model, one.digest, one.host, one.endpoint, one.status, one.error, one.cache,
             one.started_at, one.usage, [dict(span.attributes) for span in one.spans if span.name == "cache"])
            for one in told.recent
        ]  # fmt: skip
        lines = [line for line in self.services.telemetry.render_metrics().split(b"\n") if b"_requests_total" in line]
        kept = replace(stats, bytes=0)  # how large the file is goes by when the disk came to what
        return kept, told.running, told.finished, told.failed, told.cache_hits, records, sorted(lines)


@asynccontextmanager
async def stack(folder: Path, *, front: bool) -> AsyncGenerator[Stack, None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    clock, host = FakeClock(), Numbered()
    services = build(Settings(data=folder, port=0, starter=False, hosts="one=http://one.test"), clock)
    services.pool.populate([host])
    await services.cache.start()
    await services.pool.start()
    try:
        made = Stack(services, host, clock, front=front)
        await looked(made)
        yield made
    finally:
        await services.chat.close()
        await services.pool.stop()
        await services.cache.close()


@asynccontextmanager
async def both() -> AsyncGenerator[tuple[Stack, Stack], None]:
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as opened:
            yield (
                await opened.enter_async_context(stack(Path(folder) / "front", front=True)),
                await opened.enter_async_context(stack(Path(folder) / "plain", front=False)),
            )


# What happens between the questions

Event = Callable[[Stack], Awaitable[object]]


def asks(question: int, form: int = 0) -> Event:
    async def event(on: Stack) -> object:
        path, body = QUESTIONS[question]
        return await on.ask(path, body, FORMS[form])

    return event


def passes(seconds: float) -> Event:
    async def event(on: Stack) -> object:
        return on.clock.advance(seconds)

    return event


async def purge(on: Stack) -> object:
    return await tolerant(on.services.cache.purge("local", model=MODEL))


async def clear(on: Stack) -> object:
    return await tolerant(on.services.cache.clear())


async def delete_newest(on: Stack) -> object:
    page = await tolerant(on.services.cache.entries("local", limit=1))
    return [await on.services.cache.delete(entry.key, "local") for entry in getattr(page, "entries", ())]


async def tolerant(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except LoupeError as error:
        return type(error)


async def pulled_anew(on: Stack) -> object:
    """Seen at the next look, which a pull brings about."""
    digest = "e" * 64 if on.host.model_list[0].digest.startswith("d") else "d" * 64
    on.host.model_list, on.host.loaded_list = [model_info(digest=digest)], [loaded_model(digest=digest)]
    on.services.pool.look_again()
    return await looked(on)


async def renewed(on: Stack) -> object:
    on.host.told_version = ("0.33.1" if on.host.told_version[0] == "0.33.0" else "0.33.0", "")
    return await looked(on)


async def other_context(on: Stack) -> object:
    now = on.host.loaded_list[0]
    on.host.loaded_list = [loaded_model(digest=now.digest, context=12288 - now.context_length)]
    model = on.services.pool.known(MODEL)
    return await on.services.pool.learn_context(model) if model else None


async def down_or_up(on: Stack) -> object:
    on.host.down = None if on.host.down else HostUnreachable("one", "it is off")
    for _ in range(3):
        await looked(on)
    on.clock.advance(6.0)  # nobody is held for it any more
    return None


async def looked(on: Stack) -> object:
    for host in on.services.pool._hosts:
        await host.check()
        await tolerant(host.refresh())
    return None


async def out_of_memory(on: Stack) -> object:
    """Only the disk has the answers now."""
    on.services.cache._memory.clear()
    on.services.cache._memory_bytes = 0
    return None


async def damaged(on: Stack) -> object:
    await out_of_memory(on)
    with sqlite3.connect(on.services.cache._store.folder / "cache.db") as rows:
        return rows.execute("UPDATE Cache SET value = CAST(SUBSTR(value, 1, 80) || 'x' AS BLOB)").rowcount


async def turned_off(on: Stack) -> object:
    return on.services.cache._store._fail(OSError(28, "no space left"))


async def somebody_else_asks(on: Stack) -> object:
    request = GenerationRequest("chat", json.loads(QUESTIONS[0][1]))
    caller = Caller(principal="other", trace=on.services.telemetry.trace())
    async with aclosing(on.services.chat.ask(request, caller)) as chunks:
        try:
            text = "".join([chunk.text async for chunk in chunks])
        except LoupeError as error:
            text = error.code
    await on.settled()
    return caller.trace.cache.outcome, text


async def going_down(on: Stack) -> object:
    on.lifecycle.draining = not on.lifecycle.draining
    return None


async def drained(on: Stack) -> object:
    on.services.pool.drain("one", draining=not on.services.pool.statuses()[0].draining)
    return None


questions = some.builds(asks, some.integers(0, len(QUESTIONS) - 1), some.integers(0, len(FORMS) - 1))
repeats = some.builds(asks, some.integers(0, 2))
events = some.one_of(
    repeats, repeats, questions, some.builds(passes, some.sampled_from([0.4, 0.7, 1.5, 61.0])),
    some.sampled_from([
        purge, clear, delete_newest, pulled_anew, renewed, other_context, down_or_up, looked, out_of_memory, damaged,
        turned_off, somebody_else_asks, going_down, drained,
    ]),
)  # fmt: skip


@given(some.lists(events, min_size=6, max_size=24))
@settings(max_examples=25)
def test_whatever_happens_the_answer_is_the_one_that_the_routes_give(history: list[Event]) -> None:
    async def told() -> None:
        async with both() as (front, plain):
            for event in history:
                assert await event(front) == await event(plain), event
                assert await front.counted() == await plain.counted(), event

    asyncio.run(told())


@pytest.mark.parametrize("question", [0, 1, 2, 6])
async def test_a_question_that_comes_again_reaches_no_route(question: int) -> None:
    async with both() as (front, plain):
        told = [(await asks(question)(front), await asks(question)(plain)) for _ in range(5)]
        assert all(ours == theirs for ours, theirs in told)
        assert front.routed == 2, "the answer that was kept, and the first one out of the cache"
        assert len(front.host.requests) == 1
        assert await front.counted() == await plain.counted()
