"""Clients that leave the runtime in every phase of a request, and how soon their place is free for the next one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from tests.runtime_process import Connection, RuntimeProcess
from tests.served import wait_for

MODEL = "smollm2:135m-instruct-q4_0"
NUM_CTX = 4096
COUNTING = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"  # greedy, the model goes on counting and never ends by itself
SHORT = {
    "model": MODEL, "prompt": COUNTING, "raw": True, "stream": False,
    "options": {"num_predict": 1, "num_ctx": NUM_CTX, "temperature": 0},
}  # fmt: skip
ENDLESS = {**SHORT, "stream": True, "options": {"num_predict": 3000, "num_ctx": NUM_CTX, "temperature": 0}}
PREFILL_WORDS = 330  # six tokens each
_NONCE = itertools.count(int(time.time()) % 1000 * 1000)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the runtime and its workers hold. `memory` in bytes, resident."""

    processes: int
    descriptors: int
    sockets: int
    threads: int
    memory: int


class Leaver:
    """Leaves a runtime that has one slot. Each method is one trial and returns seconds until the place was free.

    For a queued client that is when the runtime has closed its side of the connection, while a model is being loaded
    when the worker is gone, else when the next request has been answered (with what that takes by itself).
    """

    def __init__(self, server: RuntimeProcess, prefill_words: int = PREFILL_WORDS) -> None:
        self._server, self._prefill_words = server, prefill_words
        self.phases: dict[str, Callable[[bool], float]] = {
            "queued": self.queued, "loading": self.loading, "prefill": self.prefill, "decode": self.decode,
        }  # fmt: skip

    def next_answer(self) -> float:
        """Seconds of a request of one token."""
        began = time.monotonic()
        reply = self._server.send("POST", "/api/generate", SHORT)
        assert reply.status == 200, reply.body
        return time.monotonic() - began

    def queued(self, streamed: bool) -> float:
        holder, answer = self._server.open("/api/generate", ENDLESS)
        answer.readline()
        waiting = self._server.start("/api/generate", {**ENDLESS, "stream": streamed})
        port = waiting.sock.getsockname()[1]
        wait_for("the runtime to have taken it", lambda: self._holds(port), every=0.005)
        free = self._leave(waiting, lambda: not self._holds(port))
        holder.close()
        self.next_answer()
        return free

    def loading(self, streamed: bool) -> float:
        self._server.send("POST", "/api/generate", {"model": MODEL, "keep_alive": 0})
        wait_for("the model to be unloaded", lambda: not self._server.workers(), every=0.005)
        loading = self._server.start("/api/generate", {**ENDLESS, "stream": streamed})
        wait_for("a worker to load it", self._server.workers, every=0.005)
        return self._leave(loading, lambda: not self._server.workers())

    def whole_prefill(self) -> float:
        """Seconds of a prefill that nobody leaves."""
        self.next_answer()
        began = time.monotonic()
        assert self._server.send("POST", "/api/generate", {**SHORT, "prompt": self._new_prompt()}).status == 200
        return time.monotonic() - began

    def prefill(self, streamed: bool) -> float:
        self.next_answer()
        asking = self._server.start("/api/generate", {**ENDLESS, "prompt": self._new_prompt(), "stream": streamed})
        self._wait_until_busy()
        asking.close()
        return self.next_answer()

    def decode(self, streamed: bool) -> float:
        self.next_answer()
        if streamed:
            asking, answer = self._server.open("/api/generate", ENDLESS)
            for _ in range(3):
                answer.readline()
        else:
            asking = self._server.start("/api/generate", {**ENDLESS, "stream": False})
            self._wait_until_busy()
        asking.close()
        return self.next_answer()

    def footprint(self) -> Footprint:
        processes = [psutil.Process(self._server.pid), *self._server.workers()]
        return Footprint(
            processes=1 + len(psutil.Process(self._server.pid).children(recursive=True)),
            descriptors=sum(process.num_fds() for process in processes),
            sockets=sum(len(process.net_connections("inet")) for process in processes),
            threads=sum(process.num_threads() for process in processes),
            memory=sum(process.memory_info().rss for process in processes),
        )

    def _new_prompt(self) -> str:
        """Words that are in no cache."""
        number = next(_NONCE)
        return " ".join(f"{number + index} word" for index in range(self._prefill_words))

    def _holds(self, port: int) -> bool:
        connections: list[Any] = psutil.Process(self._server.pid).net_connections("tcp")
        return any(connection.raddr and connection.raddr.port == port for connection in connections)

    def _wait_until_busy(self) -> None:
        worker = self._server.one_worker()
        wait_for("the worker to compute", lambda: worker.cpu_percent(0.05) > 30, every=0.0)

    @staticmethod
    def _leave(connection: Connection, free: Callable[[], bool]) -> float:
        connection.close()
        began = time.monotonic()
        wait_for("its place to be free", free, every=0.002)
        return time.monotonic() - began
