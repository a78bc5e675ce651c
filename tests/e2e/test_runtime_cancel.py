"""Clients that leave the runtime: their place is free soon, in every phase, and nothing of them stays.

`python -m benchmarks.cancel` does the same fifty times each, and a thousand times, and prints what it took.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from app.runtime.settings import read_settings
from app.runtime.supervisor import Supervisor
from tests.cancelling import ENDLESS, SHORT, Leaver
from tests.runtime_process import RuntimeProcess, runtime
from tests.served import wait_for
from tests.starter_cache import linked_store

pytestmark = pytest.mark.model

FREE_SECONDS = 1.0
ABANDONED = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    folder = tmp_path_factory.mktemp("cancel")
    store = linked_store(folder / "store", ("q4_0",))
    with runtime(store, folder / "log", OLLAMA_NUM_PARALLEL="1") as process:
        yield process


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("phase", ["queued", "loading", "decode"])
def test_the_place_of_a_client_that_leaves_is_free_within_a_second(server: RuntimeProcess, phase: str, streamed: bool):
    leaver = Leaver(server)
    leaver.next_answer()
    assert min(leaver.phases[phase](streamed) for _ in range(3)) < FREE_SECONDS


def test_a_prefill_is_left_at_the_end_of_its_batch(server: RuntimeProcess):
    leaver = Leaver(server, prefill_words=170)
    whole = leaver.whole_prefill()
    deadline = max(FREE_SECONDS, whole / 2)  # eight batches; a busy machine may take longer than a second for each
    for streamed in (True, False):
        assert min(leaver.prefill(streamed) for _ in range(2)) < deadline


def test_abandoned_requests_leave_no_descriptor_socket_thread_or_process(server: RuntimeProcess):
    leaver = Leaver(server)
    leaver.decode(True)
    before = leaver.footprint()
    for number in range(10):
        leaver.queued(number % 2 == 0)
        leaver.decode(number % 2 == 0)

    def as_before() -> bool:
        now = leaver.footprint()
        return (now.processes, now.sockets, now.threads) == (before.processes, before.sockets, before.threads) and (
            now.descriptors <= before.descriptors
        )

    wait_for("everything of them to be gone", as_before)
    assert leaver.footprint().memory < before.memory * 1.1


@asynccontextmanager
async def served_here(store: Path) -> AsyncIterator[int]:
    """A supervisor in this very loop, whose tasks can be counted; its port."""
    supervisor = Supervisor(read_settings(str(store), {"OLLAMA_NUM_PARALLEL": "1"}))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(supervisor, lifespan="off", log_config=None, access_log=False, ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            await supervisor.close()
            server.should_exit = True
            await serving


async def leave(port: int, body: object, after: bytes) -> None:
    """Asks, reads until `after` has come (or nothing, where it is empty), and hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = json.dumps(body).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()
    if after:
        await asyncio.wait_for(reader.readuntil(after), 60)
    writer.close()
    await writer.wait_closed()


@pytest.mark.anyio
async def test_abandoned_requests_leave_no_task(tmp_path: Path):
    async with served_here(linked_store(tmp_path / "store", ("q4_0",))) as port:
        await leave(port, SHORT, b'"done":true')
        before = asyncio.all_tasks()
        for number in range(ABANDONED // 4):
            line = b'"done":false'
            await leave(port, ENDLESS, line)
            await leave(port, {**ENDLESS, "stream": False}, b"")
            await asyncio.gather(*(leave(port, {**ENDLESS, "stream": number % 2 == 0}, b"") for _ in range(2)))
        await leave(port, SHORT, b'"done":true')
        if left := asyncio.all_tasks() - before:
            _, left = await asyncio.wait(left, timeout=10)
        assert not left
