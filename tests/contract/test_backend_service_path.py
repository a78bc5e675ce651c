"""The service layer over real sockets: slots freed at once, hosts killed and brought back, nothing in the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.backends.ollama_http import HostTimeouts, OllamaHttp
from app.core.errors import HostProtocolError, LoupeError, NoHealthyHost
from app.core.generation import GenerationRequest
from app.core.hosts import HostAddress, HostState
from app.core.ports import SystemClock
from app.services.chat import Caller, ChatService
from app.services.host_pool import HostPool
from app.services.request_queue import RequestQueue
from app.services.response_cache import ResponseCache
from app.services.retry_policy import RetryBudget
from app.services.telemetry import Telemetry
from tests.recordings import recording
from tests.stub_ollama import MODEL, Cut, Reply, StubOllama, served

pytestmark = pytest.mark.anyio
FIRST = recording("chat_stream").lines[0].encode() + b"\n"
TEXT = "The capital of France is Paris."


def chat(text: str = "Name the capital of France.", **options: float) -> GenerationRequest:
    messages = [{"role": "user", "content": text}]
    return GenerationRequest("chat", {"model": MODEL, "messages": messages, "options": options})


@dataclass
class Service:
    pool: HostPool
    queue: RequestQueue
    chat: ChatService
    telemetry: Telemetry

    def caller(self, flow: str = "a") -> Caller:
        return Caller(flow=flow, trace=self.telemetry.trace())

    async def read(self, request: GenerationRequest, flow: str = "a") -> str:
        async with aclosing(self.chat.ask(request, self.caller(flow))) as chunks:
            return "".join([chunk.text async for chunk in chunks])

    @property
    def busy(self) -> int:
        return sum(status.busy_slots for status in self.pool.statuses())


@asynccontextmanager
async def service(folder: Path, *urls: str) -> AsyncIterator[Service]:
    clock = SystemClock()
    patience = HostTimeouts(first_token=5, stall=5)
    hosts = [OllamaHttp(HostAddress(f"host{n}", url), timeouts=patience) for n, url in enumerate(urls)]
    pool = HostPool(hosts, clock)
    queue = RequestQueue(pool, clock)
    pool.on_change(queue.poke)
    cache, telemetry = ResponseCache(folder / "cache", 1 << 26, clock), Telemetry(clock)
    chat_service = ChatService(cache, queue, pool, telemetry, RetryBudget(clock))
    await cache.start()
    await pool.start()
    try:
        yield Service(pool, queue, chat_service, telemetry)
    finally:
        await chat_service.close()
        await pool.stop()
        await cache.close()


async def until(check, seconds: float = 5.0) -> float:
    """Wait for real sockets; the seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_an_answer_goes_the_whole_way_and_the_second_one_comes_from_the_cache(tmp_path):
    stub = StubOllama()
    async with served(stub) as url, service(tmp_path, url) as loupe:
        question = chat(temperature=0, seed=7, num_ctx=512)
        assert await loupe.read(question) == TEXT
        await until(lambda: not loupe.chat._shared._tasks)
        assert await loupe.read(question) == TEXT
        assert len(stub.asked_for("/api/chat")) == 1
        hit, miss = loupe.telemetry.snapshot().recent
        assert (hit.cache.outcome, miss.cache.outcome) == ("hit", "miss")
        assert {"queue", "host", "load", "prefill", "decode"} <= {span.name for span in miss.spans}


async def test_stop_frees_the_slot_and_the_hosts_connection_within_a_second(tmp_path):
    stub = StubOllama()
    stub.on("/api/chat", Reply([FIRST, asyncio.Event()]))
    async with served(stub) as url, service(tmp_path, url) as loupe:
        chunks = loupe.chat.ask(chat(), loupe.caller())
        assert (await anext(chunks)).text == "The"
        began = time.monotonic()
        await chunks.aclose()
        assert loupe.busy == 0
        await asyncio.wait_for(stub.hung_up.wait(), 1)
        assert time.monotonic() - began < 1


async def test_a_waiting_request_whose_caller_left_is_never_sent(tmp_path):
    stub, gate = StubOllama(), asyncio.Event()
    stub.on("/api/chat", Reply([gate, *(line.encode() + b"\n" for line in recording("chat_stream").lines)]))
    async with served(stub) as url, service(tmp_path, url) as loupe:
        tasks = [asyncio.create_task(loupe.read(chat(str(n)), str(n))) for n in range(6)]
        await until(lambda: loupe.queue.waiting == 5)
        for task in tasks[1:5]:
            task.cancel()
        gate.set()
        assert [await tasks[0], await tasks[5]] == [TEXT, TEXT]
        assert [asked.json["messages"][0]["content"] for asked in stub.asked_for("/api/chat")] == ["0", "5"]


async def test_a_host_that_comes_back_is_used_again_within_five_seconds(tmp_path, free_port):
    port = free_port()
    async with AsyncExitStack() as first:
        url = await first.enter_async_context(served(StubOllama(), port=port))
        async with service(tmp_path, url) as loupe:
            assert await loupe.read(chat()) == TEXT
            await first.aclose()
            with pytest.raises(LoupeError):
                await loupe.read(chat())
            assert loupe.pool.statuses()[0].state is HostState.OFFLINE
            with pytest.raises(NoHealthyHost, match="host0"):
                await loupe.read(chat())
            async with served(StubOllama(), port=port):
                assert await until(lambda: loupe.pool.statuses()[0].state is HostState.HEALTHY) < 5
                assert await loupe.read(chat()) == TEXT


async def test_requests_that_had_not_begun_survive_the_death_of_one_of_two_hosts(tmp_path):
    healthy, dying = StubOllama(), StubOllama()
    dying.on("/api/chat", Reply([Cut()]))
    async with served(dying) as one, served(healthy) as two, service(tmp_path, one, two) as loupe:
        for pair in range(3):
            answers = await asyncio.gather(*(loupe.read(chat(f"{pair} {n}"), str(n)) for n in range(2)))
            assert answers == [TEXT] * 2
        assert len(healthy.asked_for("/api/chat")) == 6
        assert len(dying.asked_for("/api/chat")) >= 1


async def test_an_answer_that_had_begun_ends_with_one_error(tmp_path):
    dying, other = StubOllama(), StubOllama()
    for stub in (dying, other):
        stub.on("/api/chat", Reply([FIRST, Cut()]))
    async with served(dying) as one, served(other) as two, service(tmp_path, one, two) as loupe:
        seen = []
        with pytest.raises(HostProtocolError):
            async for chunk in loupe.chat.ask(chat(), loupe.caller()):
                seen.append(chunk.text)
        assert seen == ["The"]
        assert len(dying.asked_for("/api/chat")) + len(other.asked_for("/api/chat")) == 1
        assert loupe.busy == 0


async def test_a_server_that_is_no_ollama_is_said_to_be_one(tmp_path):
    async def other(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"<html>hello</html>"})

    async with served(other) as url, service(tmp_path, url) as loupe:
        assert loupe.pool.statuses()[0].state is HostState.MISCONFIGURED
        with pytest.raises(NoHealthyHost, match="not JSON"):
            await loupe.read(chat())
