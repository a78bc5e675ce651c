"""A model host on a raw socket: paced, counted, and cut at any byte of what is sent, head included.

`python -m proving.raw_host --port 0 --pieces a1,a2 --prefill 0.05 --rate 200` is one as a process, which starts in a
fifth of a second; it prints its port. `host_process.HostProcess` starts and kills those.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from benchmarks.paced_host import whole_answer
from tests.faultproxy import reset

FLOOD_TEXT = 64 << 10
MODEL = "smollm2:135m-instruct-fp16"  # the stub Ollama's


@dataclass(slots=True)
class Cut:
    """After so many bytes of the answer: "reset" (RST), "close" (FIN), "stall"; `None` bytes is the whole answer."""

    after: int | None = None
    how: str = "close"


@dataclass(slots=True)
class RawHost:
    """Answers every chat with `pieces`: the first one after `prefill` seconds, the next ones at `rate` a second.

    `cut` is asked, with each chat, where to break off.
    """

    pieces: tuple[str, ...]
    cut: Callable[[], Cut] = field(default=Cut)
    prefill: float = 0.0
    rate: float = 0.0
    asked: int = 0
    """Chats so far."""
    flood: int = 0
    """Records of 64 KiB that the question "flood" is answered with."""
    flooding: int = 0
    held: list[float] = field(default_factory=list)
    """Seconds that each flood was under way, whole or broken off."""

    def parts(self) -> list[bytes]:
        """The answer to a chat as it is sent: head and first record, then a record at a time, with the end at last."""
        records = [_record(text) for text in self.pieces] + [_record("", done=True, done_reason="stop", **COUNTERS)]
        chunks = [b"%x\r\n%s\r\n" % (len(line), line) for line in records]
        head = _head(b"application/x-ndjson", b"Transfer-Encoding: chunked")
        return [head + chunks[0], *chunks[1:-1], chunks[-1] + b"0\r\n\r\n"]

    def answer(self) -> bytes:
        """Every byte of it."""
        return b"".join(self.parts())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A cancelled one is of a run that is over; asyncio's streams would tell it as an error.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._one(reader, writer):
                continue
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = head.partition("content-length:")[2].split("\r\n")[0].strip()
        body = await reader.readexactly(int(length or 0))
        path = head.split()[1]
        if path != "/api/chat":
            writer.write(_json(path))
            await writer.drain()
            return True
        self.asked += 1
        if self.flood and b'"flood"' in body:
            return await self._flood(writer)
        cut = self.cut()
        whole = await self._answer(writer, cut)
        if not whole and cut.how == "stall":
            await reader.read()  # until the client has had enough
            return False
        if not whole:
            reset(writer) if cut.how == "reset" else writer.close()
        return whole

    async def _flood(self, writer: asyncio.StreamWriter) -> bool:
        """An answer that is longer than anybody buffers."""
        line, began = _record("a" * FLOOD_TEXT), time.monotonic()
        piece = b"%x\r\n%s\r\n" % (len(line), line)
        self.flooding += 1
        # What a kernel would take at once, megabytes, is work of this process and none of the product's.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * FLOOD_TEXT)
        try:
            writer.write(_head(b"application/x-ndjson", b"Transfer-Encoding: chunked"))
            for _ in range(self.flood):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            return False
        finally:
            self.flooding -= 1
            self.held.append(time.monotonic() - began)
        writer.write(self.parts()[-1])
        return True

    async def _answer(self, writer: asyncio.StreamWriter, cut: Cut) -> bool:
        """Whether the whole of it was sent."""
        left = cut.after if cut.after is not None else sys.maxsize
        for number, part in enumerate(self.parts()):
            await asyncio.sleep((1 / self.rate if self.rate else 0) if number else self.prefill)
            if writer.is_closing():
                raise ConnectionResetError
            writer.write(part[:left])
            await writer.drain()
            if len(part) > left:
                break
            left -= len(part)
        else:
            return True
        while writer.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        return False


@contextlib.asynccontextmanager
async def listening(host: RawHost, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    server = await asyncio.start_server(host.serve, address, port)
    try:
        yield f"http://{address}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


COUNTERS = {
    "total_duration": 10**8, "load_duration": 10**6, "prompt_eval_count": 8, "prompt_eval_duration": 10**7,
    "eval_count": 4, "eval_duration": 10**7,
}  # fmt: skip


def _record(text: str, *, done: bool = False, **more: object) -> bytes:
    message = {"role": "assistant", "content": text}
    record = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "message": message, "done": done, **more}
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _json(path: str) -> bytes:
    body = json.dumps(whole_answer(path, [MODEL]) or {}).encode()
    return _head(b"application/json; charset=utf-8", b"Content-Length: %d" % len(body)) + body


def _head(kind: bytes, length: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s\r\n\r\n" % (kind, length)


async def _main(words: argparse.Namespace) -> None:
    host = RawHost(tuple(words.pieces.split(",")), prefill=words.prefill, rate=words.rate)
    async with listening(host, words.address, words.port) as url:
        print(url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m proving.raw_host")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--pieces", default="a1 ,a2 ,a3 ,a4 ", help="commas between them")
    parser.add_argument("--prefill", type=float, default=0.0, help="seconds until the first piece")
    parser.add_argument("--rate", type=float, default=0.0, help="pieces a second; 0 is all at once")
    asyncio.run(_main(parser.parse_args()))
