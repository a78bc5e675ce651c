"""A connection's deadlines, where nobody reads what comes, and who makes room when there are too many."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.connection_limits import BoundedHttpProtocol, Connections, Limits
from proving.stand import loupe

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
SECONDS = 30.0  # until what has to happen has happened; deadlines, not measurements
Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def reads_all(scope: Any, receive: Any, send: Any) -> None:
    """The pages, as far as a body goes: whatever it is, it is waited for."""
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


@contextlib.asynccontextmanager
async def limited(folder: Path, **limits: Any) -> AsyncIterator[tuple[str, Connections]]:
    keeper = Connections(Limits(**limits))

    def tune(config: Any) -> None:
        config.http = partial(BoundedHttpProtocol, keeper)

    async with loupe(folder, ["http://127.0.0.1:9"], tune=tune, pages=reads_all) as product:
        yield product.url, keeper


async def opened(url: str, data: bytes = b"") -> Wire:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    writer.write(data)
    return reader, writer


async def until_ended(wire: Wire, trickle: bytes = b"") -> bytes:
    """What the server says until it ends the connection, while a byte comes from time to time."""
    reader, writer = wire
    reading = asyncio.ensure_future(reader.read())
    async with asyncio.timeout(SECONDS):
        while not reading.done():
            await asyncio.wait({reading}, timeout=0.1)
            writer.write(trickle)
    await close(writer)
    return reading.result() if not reading.exception() else b""


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


async def test_a_body_that_nobody_reads_ends_with_the_answer(tmp_path: Path) -> None:
    async with limited(tmp_path, idle=0.2) as (url, _):
        told = await until_ended(await opened(url, GET + b"Content-Length: 9999\r\n\r\n"), b"a")
    assert told.startswith(b"HTTP/1.1 200 OK") and told.count(b"HTTP/1.1") == 1


async def test_empty_lines_after_an_answer_keep_no_connection(tmp_path: Path) -> None:
    async with limited(tmp_path, idle=0.2) as (url, _):
        assert (await until_ended(await opened(url, GET + b"\r\n"), b"\r\n")).startswith(b"HTTP/1.1 200 OK")


async def test_a_body_that_trickles_into_a_page_is_refused_in_time(tmp_path: Path) -> None:
    async with limited(tmp_path, body=0.2) as (url, _):
        head = b"PUT /_stcore/upload_file/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n"
        told = await until_ended(await opened(url, head), b"a")
    assert told.startswith(b"HTTP/1.1 408 ") and b"the request body did not arrive within 0.2 s" in told


@pytest.mark.parametrize(
    ("length", "status"),
    [(b"Content-Length: 99999999", 413), (b"Transfer-Encoding: chunked", 411), (b"Content-Length: 0", 200)],
)
async def test_what_is_sent_to_a_page_has_a_bound_and_says_how_long_it_is(
    tmp_path: Path, length: bytes, status: int
) -> None:
    async with limited(tmp_path) as (url, _):
        head = b"PUT /_stcore/upload_file/a/b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        told = await until_ended(await opened(url, head + length + b"\r\n\r\n"))
    assert told.startswith(b"HTTP/1.1 %d " % status)


async def test_who_never_asked_makes_room_and_who_asks_something_keeps_the_place(tmp_path: Path) -> None:
    body = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    async with limited(tmp_path, connections=3) as (url, keeper):
        asking = [await opened(url, body) for _ in range(2)]
        silent = await opened(url)
        async with asyncio.timeout(SECONDS):
            while len(keeper) < 3:
                await asyncio.sleep(0.01)
        newcomer = await opened(url, GET + b"\r\n")
        assert (await newcomer[0].readline()) == b"HTTP/1.1 200 OK\r\n"
        assert await until_ended(silent) == b""
        busy = await opened(url, body)  # the newcomer, between two requests now, makes room for it
        await until_ended(newcomer)
        refused = await until_ended(await opened(url, GET + b"\r\n"))
        assert refused.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1\r\n" in refused
        assert len(keeper) == 3
        for _, writer in [*asking, busy]:
            await close(writer)
