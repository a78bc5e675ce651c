"""Clients with as little in them as can be, the same for every subject: one request after another, and many at once."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import uvloop

from benchmarks.harness import Figures

CONNECTIONS = 32
MANY = 20  # requests in a round from which a 95th percentile says anything
BUSY = b"HTTP/1.1 429"  # a cache that does not learn in time what would answer lets the queue decide
NONCE = itertools.count()
Body = Callable[[], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Target:
    """One subject's address and what it is asked. `headers` are further lines of the request's head."""

    port: int
    path: str
    body: Body
    headers: str = ""

    @property
    def wire(self) -> bytes:
        """The next request."""
        data = json.dumps(self.body()).encode()
        fields = f"Host: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        return f"POST {self.path} HTTP/1.1\r\n{self.headers}{fields}\r\n\r\n".encode() + data


def ended(received: bytes) -> bool:
    """Whether a whole answer is there: with a length, or chunked."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    if not head.startswith((b"HTTP/1.1 200", BUSY)):
        raise RuntimeError(received[:500].decode(errors="replace"))
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line[15:])
    return body.endswith(b"0\r\n\r\n")


class Connection:
    """One kept connection."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._socket = socket.create_connection(("127.0.0.1", target.port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> tuple[float, float]:
        """Seconds to the first bytes of the answer's body, and to its end. For answers in pieces (chunked)."""
        wire = self._target.wire
        began = time.perf_counter()
        self._socket.sendall(wire)
        received, first = bytearray(), 0.0
        while not received.endswith(b"\r\n0\r\n\r\n"):
            piece = self._socket.recv(1 << 16)
            received += piece
            assert piece and received.startswith(b"HTTP/1.1 200"), bytes(received[:500])
            if not first and not received.endswith(b"\r\n\r\n"):
                first = time.perf_counter() - began
        whole = time.perf_counter() - began
        return first or whole, whole  # it may all come at once

    def close(self) -> None:
        self._socket.close()


def one_by_one(target: Target, cpu: Callable[[], float], requests: int, tokens: int) -> Figures:
    """A round on a new connection, whose first request is not counted. `cpu`: seconds that the subject used so far."""
    connection = Connection(target)
    connection.ask()
    used = cpu()
    timed = [connection.ask() for _ in range(requests)]
    used = cpu() - used
    connection.close()
    firsts = sorted(first for first, _ in timed)
    whole = statistics.median(ended for _, ended in timed)
    figures = {
        "ttft": statistics.median(firsts) * 1e3, "whole": whole * 1e3, "line": whole / tokens * 1e6,
        "cpu": used / requests * 1e6, "cpu_token": used / requests / tokens * 1e6,
    }  # fmt: skip
    if requests >= MANY:
        figures["ttft_p95"] = firsts[math.ceil(0.95 * len(firsts)) - 1] * 1e3
    return figures


def at_once(target: Target, requests: int, cpu: Callable[[], float] = lambda: 0.0) -> Figures:
    """All connections at once, each asking as soon as it was answered. `per_core`: answers for a second of CPU."""
    refused = 0

    async def talk() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        for _ in range(requests // CONNECTIONS):
            writer.write(target.wire)
            received = b""
            while not ended(received):
                piece = await reader.read(1 << 16)
                assert piece, received[:500]
                received += piece
            refused += received.startswith(BUSY)
        writer.close()

    async def all_of_them() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(talk() for _ in range(CONNECTIONS)))
        return time.perf_counter() - began

    used = cpu()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds = runner.run(all_of_them())
    used = cpu() - used
    answered = requests // CONNECTIONS * CONNECTIONS - refused
    figures = {"rate": answered / seconds, "refused": float(refused)}
    return figures | ({"per_core": answered / used} if used else {})
