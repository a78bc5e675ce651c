"""A model host on a raw socket, whose answer to a chat can be cut at any byte of what is sent, head included."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from benchmarks.paced_host import whole_answer
from tests.faultproxy import reset
from tests.stub_ollama import MODEL


@dataclass(slots=True)
class Cut:
    """After so many bytes of the answer: "reset" (RST), "close" (FIN); `None` bytes is the whole answer."""

    after: int | None = None
    how: str = "close"


@dataclass(slots=True)
class RawHost:
    """Answers every chat with `pieces`; `cut` is asked, with each chat, where to break off."""

    pieces: tuple[str, ...]
    cut: Callable[[], Cut] = field(default=Cut)
    asked: int = 0
    """Chats so far."""

    def answer(self) -> bytes:
        """Every byte of the answer to a chat, as it is sent."""
        records = [_record(text) for text in self.pieces] + [_record("", done=True, done_reason="stop", eval_count=1)]
        chunks = (b"%x\r\n%s\r\n" % (len(line), line) for line in records)
        return _head(b"application/x-ndjson", b"Transfer-Encoding: chunked") + b"".join(chunks) + b"0\r\n\r\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                continue
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = head.partition("content-length:")[2].split("\r\n")[0].strip()
        await reader.readexactly(int(length or 0))
        path = head.split()[1]
        if path != "/api/chat":
            writer.write(_json(path))
            await writer.drain()
            return True
        self.asked += 1
        cut, data = self.cut(), self.answer()
        writer.write(data[: cut.after])
        await writer.drain()
        if cut.after is None or cut.after >= len(data):
            return True
        while writer.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        reset(writer) if cut.how == "reset" else writer.close()
        return False


@contextlib.asynccontextmanager
async def listening(host: RawHost, address: str = "127.0.0.1") -> AsyncIterator[str]:
    server = await asyncio.start_server(host.serve, address, 0)
    try:
        yield f"http://{address}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def _record(text: str, *, done: bool = False, **more: object) -> bytes:
    message = {"role": "assistant", "content": text}
    record = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "message": message, "done": done, **more}
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _json(path: str) -> bytes:
    body = json.dumps(whole_answer(path, [MODEL]) or {}).encode()
    return _head(b"application/json; charset=utf-8", b"Content-Length: %d" % len(body)) + body


def _head(kind: bytes, length: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s\r\n\r\n" % (kind, length)
