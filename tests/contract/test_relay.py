"""The gateway's relay over real sockets: a scripted Ollama behind it, the assembled services in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.bootstrap import Services, build
from app.config import Settings
from app.core.errors import HostProtocolError
from app.core.generation import Chunk
from app.gateway import create_gateway
from app.gateway.needs import Lifecycle
from app.gateway.streaming import generation, native
from tests.recordings import recording
from tests.stub_ollama import MODEL, Cut, Reply, StubOllama, error, lines, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
RECORDS = [line.encode() + b"\n" for line in recording("chat_stream").lines]


@asynccontextmanager
async def relay(stub: StubOllama, folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Services]]:
    async with served(stub) as upstream:
        services = build(Settings(data=folder / "data", ollama_host=upstream, starter=False, drain_seconds=0.0))
        (folder / "data").mkdir()
        await services.start()
        try:
            async with served(create_gateway(services)) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
                yield client, services
        finally:
            await services.stop()


async def test_each_line_reaches_a_client_that_takes_gzip_before_the_next_is_sent(tmp_path: Path) -> None:
    gates = [asyncio.Event() for _ in RECORDS]
    stub = StubOllama()
    stub.on("/api/chat", Reply([part for gate, record in zip(gates, RECORDS, strict=True) for part in (gate, record)]))
    seen = b""
    async with relay(stub, tmp_path) as (client, _):
        gates[0].set()
        async with client.stream("POST", "/api/chat", json=CHAT, headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["content-type"] == "application/x-ndjson"
            pieces = answer.aiter_bytes()
            for number, record in enumerate(RECORDS):
                gates[number].set()
                while len(seen) < sum(map(len, RECORDS[: number + 1])):
                    seen += await anext(pieces)
                assert seen.endswith(record)
    assert seen == b"".join(RECORDS)  # the host's own bytes


async def test_an_answer_that_is_not_streamed_is_gathered_from_the_stream(tmp_path: Path) -> None:
    stub = StubOllama()
    stub.on("/api/chat", lines("chat_stream"))
    async with relay(stub, tmp_path) as (client, _):
        answer = await client.post("/api/chat", json={**CHAT, "stream": False})
    told = [json.loads(record) for record in RECORDS]
    assert answer.json()["message"]["content"] == "".join(record["message"]["content"] for record in told)
    assert answer.json()["eval_count"] == told[-1]["eval_count"]
    assert stub.asked_for("/api/chat")[0].json["stream"] is True  # only then does a host notice that we leave


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_hangs_up_frees_the_host_within_a_second(tmp_path: Path, stream: bool) -> None:
    stub = StubOllama()
    stub.on("/api/chat", Reply([RECORDS[0], asyncio.Event()]))
    async with relay(stub, tmp_path) as (client, services):
        asking = asyncio.create_task(client.post("/api/chat", json={**CHAT, "stream": stream}))
        while not (stub.asked_for("/api/chat") and services.queue.running):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        async with asyncio.timeout(1):
            await stub.hung_up.wait()
            while services.queue.running:
                await asyncio.sleep(0)


async def test_a_client_that_leaves_the_queue_is_never_sent_on(tmp_path: Path) -> None:
    stub = StubOllama()
    stub.on("/api/chat", Reply([RECORDS[0], asyncio.Event()]))
    async with relay(stub, tmp_path) as (client, services):
        first = asyncio.create_task(client.post("/api/chat", json=CHAT))
        while not services.queue.running:
            await asyncio.sleep(0)
        second = asyncio.create_task(client.post("/api/chat", json=CHAT))
        while not services.queue.waiting:
            await asyncio.sleep(0)
        second.cancel()
        async with asyncio.timeout(1):
            while services.queue.waiting:
                await asyncio.sleep(0)
        assert len(stub.asked_for("/api/chat")) == 1
        first.cancel()


async def test_a_host_that_dies_in_mid_answer_is_exactly_one_error_line(tmp_path: Path) -> None:
    stub = StubOllama()
    stub.on("/api/chat", Reply([*RECORDS[:2], Cut()]))
    async with relay(stub, tmp_path) as (client, _):
        answer = await client.post("/api/chat", json=CHAT)
    got = [json.loads(line) for line in answer.content.splitlines()]
    assert answer.status_code == 200
    assert [("error" in record) for record in got] == [False, False, True]


async def test_an_error_before_the_first_line_keeps_the_hosts_status_and_words(tmp_path: Path) -> None:
    stub = StubOllama()
    stub.on("/api/chat", error(500, 'option "num_ctx" must be of type integer'))
    async with relay(stub, tmp_path) as (client, _):
        answer = await client.post("/api/chat", json=CHAT)
    assert (answer.status_code, answer.json()) == (500, {"error": 'option "num_ctx" must be of type integer'})


@pytest.mark.parametrize("case", ["malformed_chat", "wrong_type_chat", "empty_body_chat", "no_model_generate"])
async def test_bad_requests_are_refused_in_ollamas_words_and_not_sent_on(tmp_path: Path, case: str) -> None:
    stub, recorded = StubOllama(), recording(case)
    async with relay(stub, tmp_path) as (client, _):
        answer = await client.post(recorded.request.path, content=recorded.request.content)
    assert (answer.status_code, answer.text) == (recorded.status, recorded.text)
    assert not stub.asked_for(recorded.request.path)


async def test_pieces_that_are_here_together_are_one_message_and_an_error_comes_after_them() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def chunks() -> AsyncGenerator[Chunk, None]:
        for line, more in ((b"1", True), (b"2", False), (b"3", True)):
            yield Chunk(line, more=more)
        raise HostProtocolError("host", "it broke off")

    answer = generation(chunks(), native("chat"), stream=True, headers=dict, patience=9, lifecycle=Lifecycle())
    await answer({"type": "http", "path": "/api/chat"}, receive, send)
    bodies = [message["body"] for message in sent[1:]]
    assert bodies[0] == b"1\n2\n" and bodies[1].startswith(b'3\n{"error"') and bodies[1].count(b"\n") == 2
    assert [message["more_body"] for message in sent[1:]] == [True, False]
