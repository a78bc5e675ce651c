"""The faulty proxy itself: each toxic does to real sockets what its name says, alone, together, on open connections."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.faultproxy import (
    Bandwidth,
    Down,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    blackhole,
    faulty,
)

pytestmark = pytest.mark.anyio
TEXT = bytes(range(256)) * 4


class Echo:
    """A host that sends back what it gets, and closes when its client does."""

    def __init__(self) -> None:
        self.got = b""
        self.ends: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.got += data
                writer.write(data)
                await writer.drain()
            self.ends.append("closed")
        except ConnectionError:
            self.ends.append("reset")
        writer.close()


@asynccontextmanager
async def echo(**options) -> AsyncIterator[tuple]:
    host = Echo()
    server = await asyncio.start_server(host, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with faulty(address, **options) as (proxy, url):
        yield proxy, url, host
    server.close()


async def connect(url):
    where = urlsplit(url)
    return await asyncio.open_connection(where.hostname, where.port)


async def exchange(url, data: bytes = TEXT, seconds: float = 5.0) -> tuple[bytes, float]:
    """What came back of `data`, and after how long the last of it."""
    reader, writer = await connect(url)
    began = time.monotonic()
    writer.write(data)
    async with asyncio.timeout(seconds):
        got = await reader.readexactly(len(data))
    took = time.monotonic() - began
    writer.close()
    return got, took


async def rest(reader) -> tuple[bytes, str]:
    """Everything that still comes, and how it ends."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            got += data
        return got, "closed"
    return got, "reset"


async def silent(reader, seconds: float = 0.2) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return not await reader.read(1)
    except TimeoutError:
        return True


async def test_without_toxics_everything_passes_and_both_sides_close():
    async with echo() as (proxy, url, host):
        reader, writer = await connect(url)
        writer.write(TEXT)
        assert await reader.readexactly(len(TEXT)) == TEXT
        writer.write_eof()
        assert await rest(reader) == (b"", "closed")
        assert (host.ends, proxy.connections) == (["closed"], 1)
        writer.close()


async def test_another_loopback_address_is_another_machine():
    async with echo(address="127.0.0.2") as (_, url, _):
        assert url.startswith("http://127.0.0.2:")
        assert (await exchange(url))[0] == TEXT


async def test_latency_delays_what_passes_and_does_not_add_up():
    async with echo() as (proxy, url, _):
        await proxy.add(Latency(0.2))
        reader, writer = await connect(url)
        began = time.monotonic()
        for number in range(5):
            writer.write(b"%d" % number)
            await writer.drain()
            await asyncio.sleep(0)
        assert await reader.readexactly(5) == b"01234"
        assert 0.2 <= time.monotonic() - began < 0.9
        writer.close()


async def test_latency_of_both_directions_is_that_of_the_round_trip():
    async with echo() as (proxy, url, _):
        await proxy.add(Latency(0.15))
        await proxy.add(Latency(0.15, jitter=0.05, upstream=True))
        assert (await exchange(url))[1] >= 0.25


async def test_down_refuses_new_connections_closes_open_ones_and_comes_back_on_its_port():
    async with echo() as (proxy, url, host):
        reader, writer = await connect(url)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        down = await proxy.add(Down())
        assert (await rest(reader))[0] == b""
        with pytest.raises(ConnectionRefusedError):
            await connect(url)
        await proxy.remove(down)
        assert (await exchange(url))[0] == TEXT
        writer.close()


async def test_bandwidth_bounds_the_rate():
    async with echo() as (proxy, url, _):
        await proxy.add(Bandwidth(4096))
        got, took = await exchange(url, TEXT)
        assert got == TEXT
        assert took >= len(TEXT) / 4096 * 0.9


async def test_slow_close_delays_the_end_alone():
    async with echo() as (proxy, url, _):
        await proxy.add(SlowClose(0.2))
        reader, writer = await connect(url)
        writer.write(TEXT)
        assert await reader.readexactly(len(TEXT)) == TEXT
        began = time.monotonic()
        writer.write_eof()
        assert await rest(reader) == (b"", "closed")
        assert time.monotonic() - began >= 0.2
        writer.close()


async def test_timeout_lets_nothing_through_and_closes_after_its_time():
    async with echo() as (proxy, url, _):
        await proxy.add(Timeout(0.2))
        reader, writer = await connect(url)
        began = time.monotonic()
        writer.write(TEXT)
        assert (await rest(reader))[0] == b""
        assert 0.15 <= time.monotonic() - began < 3
        writer.close()


async def test_timeout_without_a_time_is_silence_until_it_is_taken_off():
    async with echo() as (proxy, url, host):
        quiet = await proxy.add(Timeout())
        reader, writer = await connect(url)
        writer.write(b"lost")
        assert await silent(reader)
        assert host.got == b"lost"
        await proxy.remove(quiet)
        writer.write(b"heard")
        assert await reader.readexactly(5) == b"heard"
        writer.close()


async def test_reset_peer_resets_both_sides():
    async with echo() as (proxy, url, host):
        reader, writer = await connect(url)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await proxy.add(ResetPeer())
        assert await rest(reader) == (b"", "reset")
        async with asyncio.timeout(2):
            while not host.ends:
                await asyncio.sleep(0)
        assert host.ends == ["reset"]
        writer.close()


async def test_slicer_cuts_into_pieces_with_pauses():
    async with echo() as (proxy, url, _):
        await proxy.add(Slicer(64, 10, delay=0.02))
        reader, writer = await connect(url)
        writer.write(TEXT)
        sizes = []
        while sum(sizes) < len(TEXT):
            sizes.append(len(await reader.read(1 << 16)))
        assert len(sizes) >= 8
        writer.close()


@pytest.mark.parametrize("size", [0, 1, 300, 1023])
async def test_limit_data_ends_a_connection_after_so_many_bytes(size):
    async with echo() as (proxy, url, _):
        await proxy.add(LimitData(size))
        for _ in range(2):  # of each connection
            reader, writer = await connect(url)
            writer.write(TEXT)
            assert (await rest(reader))[0] == TEXT[:size]
            writer.close()


async def test_limit_data_can_reset_or_stall_instead():
    async with echo() as (proxy, url, _):
        reset = await proxy.add(LimitData(10, "reset"))
        reader, writer = await connect(url)
        writer.write(TEXT)
        assert await rest(reader) == (TEXT[:10], "reset")
        writer.close()
        await proxy.remove(reset)
        stall = await proxy.add(LimitData(10, "stall"))
        reader, writer = await connect(url)
        writer.write(TEXT)
        assert await reader.readexactly(10) == TEXT[:10]
        assert await silent(reader)
        await proxy.remove(stall)
        assert await reader.readexactly(len(TEXT) - 10) == TEXT[10:]
        writer.close()


async def test_a_limit_that_is_not_exceeded_does_nothing():
    async with echo() as (proxy, url, _):
        await proxy.add(LimitData(len(TEXT)))
        assert (await exchange(url))[0] == TEXT


async def test_toxics_work_together_in_their_order():
    async with echo() as (proxy, url, _):
        await proxy.add(Latency(0.1))
        await proxy.add(Slicer(7))
        await proxy.add(LimitData(100))
        await proxy.add(SlowClose(0.1))
        reader, writer = await connect(url)
        began = time.monotonic()
        writer.write(TEXT)
        assert (await rest(reader))[0] == TEXT[:100]
        assert time.monotonic() - began >= 0.1
        writer.close()


async def test_a_toxic_upstream_leaves_the_answer_alone():
    async with echo() as (proxy, url, host):
        await proxy.add(LimitData(5, "stall", upstream=True))
        reader, writer = await connect(url)
        writer.write(b"0123456789")
        assert await reader.readexactly(5) == b"01234"
        assert await silent(reader)
        assert host.got == b"01234"
        writer.close()


async def test_toxicity_is_the_share_of_connections_that_are_met():
    async with echo(seed=3) as (proxy, url, _):
        await proxy.add(ResetPeer(toxicity=0.5))
        ends = []
        for _ in range(30):
            reader, writer = await connect(url)
            with contextlib.suppress(ConnectionError):
                writer.write(b"x")
                await writer.drain()
            try:
                ends.append(await reader.readexactly(1) == b"x")
            except (ConnectionError, asyncio.IncompleteReadError):
                ends.append(False)
            writer.close()
        assert 5 <= sum(ends) <= 25


async def test_what_is_held_back_passes_once_when_toxics_are_taken_off():
    async with echo() as (proxy, url, _):
        slow = await proxy.add(Latency(30))
        reader, writer = await connect(url)
        writer.write(TEXT)
        assert await silent(reader)
        await proxy.remove(slow)
        assert await reader.readexactly(len(TEXT)) == TEXT
        assert await silent(reader)
        writer.close()


async def test_a_host_that_is_away_resets_whoever_connects(free_port):
    async with faulty(f"http://127.0.0.1:{free_port()}") as (_, url):
        reader, writer = await connect(url)
        assert await rest(reader) == (b"", "reset")
        writer.close()


async def test_stopping_leaves_no_connection_open():
    async with echo() as (proxy, url, host):
        writers = [(await connect(url))[1] for _ in range(5)]
        for writer in writers:
            writer.write(b"x")
        async with asyncio.timeout(2):
            while proxy.open < 5 or len(host.got) < 5:
                await asyncio.sleep(0)
        await proxy.stop()
        assert proxy.open == 0
        async with asyncio.timeout(2):
            while len(host.ends) < 5:
                await asyncio.sleep(0)
        for writer in writers:
            writer.close()


async def test_a_black_hole_neither_accepts_nor_refuses():
    with blackhole() as url, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await connect(url)
