"""The supervisor's HTTP to a worker, against a server that answers byte by byte, lies, falls silent and hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from app.core.errors import GenerationFailed, HostRefused
from app.runtime import worker_client
from app.runtime.worker_client import Final, Piece, WorkerClient, WorkerSilent

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FINAL = b'data: {"content":"","stop":true,"stop_type":"limit","timings":{"prompt_n":3,"predicted_n":2}}\n\n'
Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@asynccontextmanager
async def worker(behaviour: Behaviour) -> AsyncIterator[WorkerClient]:
    """A worker that reads a request and then does as told; `left` is set when its client has closed."""
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Authorization: Bearer the key\r\n" in head
        try:
            await behaviour(writer)
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        finally:
            left.set()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = WorkerClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "the key")
    client.left = left  # type: ignore[attr-defined]
    async with server:
        yield client


def writes(*pieces: bytes, hang_up: bool = False) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if hang_up:
            writer.close()

    return behave


async def events(client: WorkerClient) -> list[Piece | Final]:
    return [event async for event in client.complete({"prompt": "Hi"})]


async def test_an_answer_in_single_bytes_is_read_as_one_in_a_piece():
    answer = (
        HEAD + chunk(b'data: {"content":"a"}\n\n') + chunk(b'data: {"content":"\xc3\xa9"}\n\n' + FINAL) + chunk(b"")
    )
    for pieces in ([answer], [bytes([byte]) for byte in answer]):
        async with worker(writes(*pieces)) as client:
            found = await events(client)
    assert [event.text for event in found] == ["a", "é", ""]
    assert isinstance(found[-1], Final) and found[-1].limited and found[-1].prompt_tokens == 3


async def test_an_answer_that_ends_early_is_a_failure():
    for answer in (HEAD + chunk(b'data: {"content":"a"}\n\n'), HEAD + chunk(b'data: {"content":"a"}\n\n') + chunk(b"")):
        async with worker(writes(answer, hang_up=True)) as client:
            with pytest.raises(GenerationFailed, match="an error was encountered while running the model"):
                await events(client)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_no_answer_is_a_worker_that_has_stopped(answer: bytes):
    async with worker(writes(answer, hang_up=True)) as client:
        with pytest.raises(GenerationFailed, match="model runner has unexpectedly stopped"):
            await events(client)


async def test_nobody_there_is_a_worker_that_has_stopped(free_port):
    with pytest.raises(GenerationFailed, match="model runner has unexpectedly stopped"):
        await events(WorkerClient(f"http://127.0.0.1:{free_port()}", "the key"))
    assert not await WorkerClient(f"http://127.0.0.1:{free_port()}", "the key").is_well(5)


async def test_a_refusal_carries_status_and_text():
    async with worker(writes(b'HTTP/1.1 400 Bad\r\nContent-Length: 9\r\n\r\n{"a":"b"}')) as client:
        with pytest.raises(HostRefused) as caught:
            await events(client)
    assert (caught.value.status, caught.value.message) == (400, '{"a":"b"}')


async def test_a_worker_that_falls_silent_is_told_apart_from_a_dead_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_client, "SILENCE_SECONDS", 0.05)
    for answer in (b"", HEAD, HEAD + chunk(b'data: {"content":"a"}\n\n')):
        async with worker(writes(answer)) as client:
            with pytest.raises(WorkerSilent):
                await events(client)
            await asyncio.wait_for(client.left.wait(), 5)  # type: ignore[attr-defined]


async def test_leaving_closes_the_connection_at_once():
    async with worker(writes(HEAD, chunk(b'data: {"content":"a"}\n\n'))) as client:
        answer = client.complete({"prompt": "Hi"})
        assert (await anext(answer)).text == "a"
        await answer.aclose()
        await asyncio.wait_for(client.left.wait(), 5)  # type: ignore[attr-defined]


async def test_cancelling_before_the_first_byte_closes_the_connection():
    async with worker(writes(b"")) as client:
        asking = asyncio.create_task(client.tokenize("Hi"))
        done, _ = await asyncio.wait({asking}, timeout=0.1)
        assert not done
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(client.left.wait(), 5)  # type: ignore[attr-defined]


async def test_a_reader_that_is_slow_makes_the_worker_wait_and_loses_nothing():
    text = "x" * 1000
    event = chunk(f'data: {{"content":"{text}"}}\n\n'.encode())
    waited = asyncio.Event()

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        for _ in range(20_000):
            writer.write(event)
            if writer.transport.get_write_buffer_size() > 1 << 15:
                waited.set()
            await writer.drain()
        writer.write(chunk(FINAL) + chunk(b""))
        await writer.drain()

    async with worker(behave) as client:
        answer = client.complete({"prompt": "Hi"})
        await anext(answer)
        await asyncio.wait_for(waited.wait(), 10)
        count = 1 + len([one async for one in answer])
    assert count == 20_001
