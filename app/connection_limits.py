"""uvicorn's HTTP protocol with the bounds it lacks: how long a head and a body may take, how large a head may be, how
many connections there are, and how long a reader may stand still.

Without them a silent connection, half a head, a trickle of bytes or a reader with a closed window stays open for ever.
One look a second at all connections costs less than a timer for each of them. And what is there together, an answer's
head and its first piece, leaves in one packet: two of them are two system calls, and wake the client twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from dataclasses import dataclass
from enum import Enum
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
WHOLE = "whole"  # in the state of a request whose body is here to its last byte: reading it waits for nothing
LOOK_SECONDS = 1.0
HELD_BYTES = 64 << 10
_ERROR = (
    b"HTTP/1.1 %s\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: %d\r\n"
    b"%sconnection: close\r\n\r\n%s"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and bytes; `connections` counts all of them, websockets too.

    `buffer` is what is written ahead for a reader before whoever writes has to wait: a long answer whole, so that a
    slow reader keeps no model busy. `unsent` is what the kernel may hold besides, not yet sent: it would take
    megabytes for each reader that reads nothing. `body` is extended by a second for every `pace` bytes that have come.
    """

    connections: int = 256
    head: float = 10.0
    body: float = 30.0
    idle: float = 6.0  # between two requests; uvicorn itself closes after 5 s in which no byte comes
    reader: float = 30.0
    pace: int = 16 << 10
    buffer: int = 512 << 10
    unsent: int = 128 << 10


class Phase(Enum):
    """What a connection waits for."""

    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    IDLE = "idle"
    PAGE = "page"  # a websocket


class Connections:
    """All connections of one server. When there are too many, one that waits for a request makes room."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._all: set[BoundedHttpProtocol] = set()
        self._next: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, one: BoundedHttpProtocol) -> bool:
        """Whether there is a place for it; if so it has it until `forget`."""
        if len(self._all) >= self.limits.connections:
            self._all = {other for other in self._all if not other.gone}
            if len(self._all) >= self.limits.connections and not self._make_room():
                return False
        self._all.add(one)
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
        return True

    def forget(self, one: BoundedHttpProtocol) -> None:
        self._all.discard(one)

    def _make_room(self) -> bool:
        """The one that has been silent longest goes; those between two requests only after those that never sent one
        whole."""
        silent = [one for one in self._all if one.phase in (Phase.HEAD, Phase.IDLE) and not one.answering]
        if not silent:
            return False
        oldest = min(silent, key=lambda one: (one.phase is Phase.IDLE, one.since))
        self.forget(oldest)
        oldest.cut()
        return True

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for one in tuple(self._all):
            self.forget(one) if one.gone else one.look(now)
        self._next = loop.call_later(LOOK_SECONDS, self._look) if self._all else None


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection that takes too long over a head or a body, whose head is too large, or that reads nothing."""

    def __init__(self, keeper: Connections, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self._keeper, self._limits = keeper, keeper.limits
        self.phase, self.since = Phase.HEAD, self.loop.time()
        self._head_bytes = self._received = 0
        self._written: JoinedWrites | None = None
        self._full = False  # there is no place for it: what it asks is answered with that, for it to be heard
        self._progress = (self.since, 0)  # when the reader was last seen to have taken something, and how much by then

    @property
    def answering(self) -> bool:
        """Whether an answer to an earlier request is on its way."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def gone(self) -> bool:
        """Whether it was a page's, which has left: of a websocket's end its own protocol is told, not this one."""
        return self.phase is Phase.PAGE and self.transport.is_closing() and not self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(self._limits.buffer)
        _hold_little(transport, self._limits.unsent)
        super().connection_made(transport)
        self.transport: Any = JoinedWrites(transport)
        self._written = self.transport
        self._full = not self._keeper.admit(self)
        if self._full:
            self.loop.call_later(LOOK_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._keeper.forget(self)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._enter(Phase.PAGE)
        self.transport = self.transport.inner
        self._written, self._progress = None, (self.since, 0)
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._enter(Phase.HEAD)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._received = 0
        self._enter(Phase.BODY)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.scope["state"][WHOLE] = True
        self._enter(Phase.ANSWER if self.answering else Phase.IDLE)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.phase is Phase.ANSWER and not self.answering:
            self._enter(Phase.IDLE)
        else:
            self.since = self.loop.time()  # what was sent ahead has its time from now on

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._full:
            sentence = "there are too many connections; try again"
            self._refuse(b"503 Service Unavailable", sentence, b"retry-after: 1\r\n")
            return
        if self.phase is Phase.HEAD:
            if self._head_bytes > HEAD_BYTES:
                self.send_400_response("Request head too large.")
                return
            self._head_bytes += len(data)
        super().data_received(data)

    def _enter(self, phase: Phase) -> None:
        self.phase, self.since = phase, self.loop.time()

    def look(self, now: float) -> None:
        """Close it if its time is up."""
        if self._stands_still(now):
            self.cut()
        elif self.transport.is_closing():
            return
        elif self.phase is Phase.BODY:
            self._look_at_body(now)
        elif not self.answering and now - self.since > self._patience():
            self.transport.close()

    def _patience(self) -> float:
        times = {Phase.HEAD: self._limits.head, Phase.IDLE: self._limits.idle}
        return times.get(self.phase, math.inf)

    def cut(self) -> None:
        """End it without another word, whatever is still to be sent."""
        self.transport.abort()

    def _look_at_body(self, now: float) -> None:
        """Whoever reads the body gives up first, and says so; this is for bodies that nobody reads."""
        limits, waited = self._limits, now - self.since
        if self.flow.read_paused:
            self.since, self._received = now, 0  # it is we who do not read
        elif not self.answering:
            if waited > limits.idle:  # it was answered long ago
                self.transport.close()
        elif waited > limits.body + 2 * LOOK_SECONDS + self._received / limits.pace:
            if self.cycle.response_started:
                self.transport.close()
            else:
                self._refuse(b"408 Request Timeout", f"the request body did not arrive within {limits.body:g} s")

    def _stands_still(self, now: float) -> bool:
        """Whether the reader has taken next to nothing of what waits for it, for too long."""
        left = self.transport.get_write_buffer_size()
        taken = (self._written.bytes if self._written else 0) - left
        when, before = self._progress
        if not left or taken - before >= self._limits.pace:
            self._progress = (now, taken)
            return False
        return now - when > self._limits.reader

    def _refuse(self, status: bytes, sentence: str, more: bytes = b"") -> None:
        body = b'{"error":"%s"}' % sentence.encode()
        self.transport.write(_ERROR % (status, len(body), more, body))
        self.transport.close()


def _hold_little(transport: asyncio.Transport, unsent: int) -> None:
    """Have the kernel take no more than this ahead of what the reader takes (tcp(7): TCP_NOTSENT_LOWAT).

    What is under way is not bounded by it, so that a fast reader far away is as fast as before.
    """
    wire = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS
    if wire is not None and option is not None and wire.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            wire.setsockopt(socket.IPPROTO_TCP, option, unsent)


class JoinedWrites:
    """A transport in which what is written in one turn of the loop leaves together, in one packet where it fits.

    `bytes` counts what was given to it.
    """

    def __init__(self, inner: asyncio.Transport) -> None:
        self.inner = inner
        self.bytes = 0
        self.is_closing = inner.is_closing
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._size = 0
        self._turn: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        self.bytes += len(data)
        self._size += len(data)
        self._held.append(data)
        if self._size >= HELD_BYTES:
            self._let_go()
        elif self._turn is None:
            self._turn = self._loop.call_soon(self._let_go)

    def close(self) -> None:
        self._let_go()
        self.inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _let_go(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        held, self._held, self._size = self._held, [], 0
        if held and not self.is_closing():  # it was cut meanwhile
            self.inner.write(held[0] if len(held) == 1 else b"".join(held))
