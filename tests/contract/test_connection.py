"""A connection and its heads: what leaves in one piece, what is waited for, and that a head lets in itself alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as some
from starlette.types import Receive, Scope, Send

from app.connection_limits import JoinedWrites
from app.gateway.guards import AccessRules, Guards
from proving.stand import loupe
from tests.fakes import FakeClock, settle
from tests.stub_ollama import MODEL, StubOllama, lines, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
TURNS = [{"role": "user", "content": "Name the capital of France."}]
BODY = json.dumps({"model": MODEL, "messages": TURNS, "options": {"temperature": 0, "num_ctx": 512}}).encode()


class Wire:
    """The transport under a `JoinedWrites`."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def test_what_is_written_in_one_turn_leaves_together_and_all_of_it_before_the_end() -> None:
    wire: Any = Wire()
    joined = JoinedWrites(wire)
    joined.write(b"HTTP/1.1 200 OK\r\n\r\n")
    joined.write(b"one")
    joined.write(b"two")
    joined.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.sleep(0)
    joined.write(b"later")
    joined.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    joined.close()
    assert wire.written == [
        b"HTTP/1.1 200 OK\r\n\r\nonetwoHTTP/1.1 200 OK\r\n\r\n", b"laterHTTP/1.1 400 Bad Request\r\n\r\n",
    ]  # fmt: skip
    assert wire.closed


async def head_first(scope: Scope, receive: Receive, send: Send) -> None:
    """An answer whose body waits until the client has seen its head: it says so by its own body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.body", "body": b"done"})


async def test_the_head_of_an_answer_that_is_not_there_yet_is_not_held_back(tmp_path: Path) -> None:
    async with loupe(tmp_path, ["http://127.0.0.1:9"], wrap=lambda _: head_first) as product:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(product.url).port)
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"go")
        assert (head[:15], await reader.readexactly(4)) == (b"HTTP/1.1 200 OK", b"done")
        writer.close()


@contextlib.asynccontextmanager
async def relay(folder: Path, **more: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    stub = StubOllama()
    stub.on("/api/chat", lines("chat_stream"))
    async with (
        served(stub) as host,
        loupe(folder, [host], **more) as product,
        httpx.AsyncClient(base_url=product.url, timeout=20) as client,
    ):
        yield client, product


async def asked_in_pieces(url: str, pieces: list[bytes]) -> bytes:
    """Each piece after the server, in the same loop, had time to read the one before it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await settle()
    answer = await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    return answer


async def test_a_repeated_question_has_the_same_answer_however_its_bytes_come(tmp_path: Path) -> None:
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    async with relay(tmp_path) as (client, product):
        first = await client.post("/api/chat", content=BODY)
        while (await client.get("/loupe/cache")).json()["stored"] < 1:
            await asyncio.sleep(0)
        told = [
            await asked_in_pieces(product.url, pieces)
            for pieces in ([head + BODY], [head + BODY], [head, BODY], [head, BODY[:9], BODY[9:]], [head + BODY])
        ]
    said = {json.loads(line)["message"]["content"] for line in first.content.splitlines()}
    for answer in told:
        assert b"x-loupe-cache: hit; age=" in answer
        assert all(json.dumps(text).encode() in answer for text in said)


async def test_a_body_that_does_not_come_is_refused_after_its_time(tmp_path: Path) -> None:
    async with relay(tmp_path, body_seconds=1) as (_, product):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(product.url).port)
        writer.write(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the request body did not arrive within 1 s" in answer
    assert b"content-security-policy" in answer


# The door remembers heads that passed

HEADERS = some.lists(
    some.sampled_from([
        (b"host", b"localhost"), (b"host", b"evil.example"), (b"origin", b"http://localhost"),
        (b"origin", b"http://evil.example"), (b"origin", b"http://friend.example"), (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-site", b"same-origin"), (b"content-type", b"text/plain"), (b"content-type", b"application/json"),
        (b"content-length", b"0"), (b"content-length", b"9"), (b"authorization", b"Bearer right"),
        (b"authorization", b"Bearer wrong"), (b"accept", b"text/html"),
    ]),
    max_size=5,
)  # fmt: skip
HEADS = some.tuples(some.sampled_from(["GET", "POST", "OPTIONS"]), some.sampled_from(["/", "/api/chat"]), HEADERS)


async def _entered(guards: Guards, head: tuple[str, str, list[tuple[bytes, bytes]]]) -> tuple[Any, ...]:
    method, path, headers = head
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "scheme": "http",
        "headers": [(b"host", b"localhost"), *headers] if not headers or headers[0][0] != b"host" else headers,
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await guards(scope, receive, send)
    state = {name: value for name, value in scope.get("state", {}).items() if name != "request_name"}
    for message in sent:  # each request has a name of its own
        if "headers" in message:
            message["headers"] = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
    return state, sent


@given(some.lists(HEADS, min_size=2, max_size=4), some.lists(some.integers(0, 3), max_size=12), some.booleans())
def test_what_a_remembered_head_is_told_is_what_it_is_told_the_first_time(
    heads: list[Any], order: list[int], token: bool
) -> None:
    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"in"})

    def made() -> Guards:
        rules = AccessRules(("localhost",), ("http://friend.example",), "right" if token else None)
        return Guards(inside, rules, FakeClock())

    async def compare() -> None:
        remembering, forgetful = made(), made()
        for number in order:
            head = heads[number % len(heads)]
            forgetful._passed.clear()
            assert await _entered(remembering, head) == await _entered(forgetful, head)

    asyncio.run(compare())
