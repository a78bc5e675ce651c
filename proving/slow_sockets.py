"""Clients that hold on to connections: silent ones, heads and bodies that trickle, readers that do not read.

`python -m proving.slow_sockets URL --heads 50` keeps that many open, as a process of its own, until its standard input
ends; a JSON line each tells of a connection that the server ended: its kind, and how long it had lasted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

KINDS = ("idle", "head", "body", "reader")
TRICKLE = 0.5  # seconds between two bytes
APART = 0.25  # seconds between two readers: whoever reads slowly does not come with all the others at one instant
BODY = json.dumps({"model": "smollm2:135m-instruct-fp16", "messages": [{"role": "user", "content": "flood"}]}).encode()
_POST = "POST /api/chat HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"


@dataclass(slots=True)
class SlowSockets:
    """`ended` is told of each connection of `url` that the server ended: the kind, and seconds since it was made."""

    url: str
    ended: Callable[[str, float], None]
    again: bool = True
    """Whether one that was ended is opened anew."""
    open: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, kind: str, number: int) -> None:
        apart = APART if kind == "reader" and self.again else 0.0
        self._tasks |= {asyncio.create_task(self._keep(kind, nth * apart)) for nth in range(number)}

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _keep(self, kind: str, delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            with contextlib.suppress(OSError):
                await self._one(kind)
            if not self.again:
                return

    async def _one(self, kind: str) -> None:
        loop, where = asyncio.get_running_loop(), urlsplit(self.url)
        with socket.socket() as wire:
            wire.setblocking(False)
            if kind == "reader":
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(wire, (where.hostname, where.port))
            began = loop.time()
            self.open += 1
            try:
                await self._hold(kind, wire, where.netloc)
                self.ended(kind, loop.time() - began)
            finally:
                self.open -= 1

    async def _hold(self, kind: str, wire: socket.socket, host: str) -> None:
        """Until the server ends the connection."""
        loop = asyncio.get_running_loop()
        if kind == "reader":
            await loop.sock_sendall(wire, _POST.format(host=host, length=len(BODY)).encode() + BODY)
            while not wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                await asyncio.sleep(TRICKLE)
            return
        if kind == "head":
            await loop.sock_sendall(wire, f"GET /api/version HTTP/1.1\r\nHost: {host}\r\nX-Slow: ".encode())
        elif kind == "body":
            await loop.sock_sendall(wire, _POST.format(host=host, length=100_000).encode())
        reading = asyncio.ensure_future(_read_all(wire))
        try:
            while not reading.done():
                await asyncio.wait({reading}, timeout=TRICKLE)
                if kind != "idle" and not reading.done():
                    with contextlib.suppress(OSError):
                        await loop.sock_sendall(wire, b"a")
        finally:
            reading.cancel()


async def _read_all(wire: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(wire, 4096):
            pass


@contextlib.asynccontextmanager
async def in_a_process(url: str, numbers: dict[str, int]) -> AsyncIterator[list[tuple[str, float]]]:
    """The same in a process of its own; gives the list that fills with what ended."""
    words = [word for kind, number in numbers.items() for word in (f"--{kind}s", str(number))]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proving.slow_sockets", url, *words,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
    )  # fmt: skip
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    lines, ended = process.stdout, list[tuple[str, float]]()

    async def listen() -> None:
        while line := await lines.readline():
            kind, seconds = json.loads(line)
            ended.append((kind, seconds))

    await lines.readline()  # all are open
    listening = asyncio.create_task(listen())
    try:
        yield ended
    finally:
        process.stdin.close()
        await process.wait()
        await listening


async def _main(words: argparse.Namespace) -> None:
    def told(kind: str, seconds: float) -> None:
        print(json.dumps([kind, round(seconds, 3)]), flush=True)

    sockets = SlowSockets(words.url, told)
    numbers = {kind: getattr(words, f"{kind}s") for kind in KINDS}
    for kind, number in numbers.items():
        sockets.start(kind, number)
    while sockets.open < sum(numbers.values()):
        await asyncio.sleep(0.01)
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await sockets.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m proving.slow_sockets")
    parser.add_argument("url")
    for one in KINDS:
        parser.add_argument(f"--{one}s", type=int, default=0)
    asyncio.run(_main(parser.parse_args()))
