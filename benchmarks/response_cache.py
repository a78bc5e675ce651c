"""The answer cache: against LiteLLM's local cache and a direct call over HTTP, and its disk against bare SQLite.

    python -m benchmarks.response_cache [--rounds 10] [--requests 200] [--without-litellm]

LiteLLM is installed into an environment of its own under build/ (pinned, once), and answers the same question out of
its own cache, through its Ollama provider and the same host without cost. Each subject in the dialect that it speaks,
answers not streamed, over kept connections; rounds alternate. The disk part runs in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from app.core.ports import SystemClock
from app.services.cached_answer import Origin, StoredAnswer, encode
from app.services.response_cache import ResponseCache
from benchmarks import subjects
from benchmarks.harness import Figures, Metric, Report, interleave
from benchmarks.over_http import CONNECTIONS, Target, at_once, ended
from benchmarks.paced_host import model_name
from tests.fakes import answer

ENTRIES = 2000
MODEL = model_name(1)
CONFIG = """\
model_list:
  - model_name: bench
    litellm_params: {{model: "ollama_chat/{model}", api_base: "{host}"}}
litellm_settings:
  cache: true
  cache_params: {{type: local, ttl: 86400, mode: default_on}}
"""


def latency(target: Target, requests: int) -> Figures:
    """One after another on one connection; the first is not counted."""
    times, wire = [], target.wire
    with socket.create_connection(("127.0.0.1", target.port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests + 1):
            began, received = time.perf_counter(), b""
            connection.sendall(wire)
            while not ended(received):
                received += connection.recv(1 << 16)
            times.append(time.perf_counter() - began)
    ordered = sorted(times[1:])
    return {"p50": statistics.median(ordered) * 1e3, "p95": ordered[int(0.95 * len(ordered))] * 1e3}


def over_http(report: Report, rounds: int, requests: int, *, with_litellm: bool) -> None:
    turns = [{"role": "user", "content": "Name the capital of France."}]
    body = {"model": MODEL, "messages": turns, "stream": False, "options": {"temperature": 0}}
    with ExitStack() as stack:
        folder = stack.enter_context(subjects.scratch())
        host = stack.enter_context(subjects.paced_host(folder))
        app = stack.enter_context(subjects.loupe(folder / "loupe", OLLAMA_HOST=host.url, LOUPE_LOG_LEVEL="warning"))
        app.wait("/readyz")
        targets = {
            "a direct call": Target(host.port, "/api/chat", lambda: body),
            "Loupe, cached": Target(app.port, "/api/chat", lambda: body),
        }
        if with_litellm:
            proxy = stack.enter_context(subjects.litellm(folder, CONFIG.format(model=MODEL, host=host.url)))
            asked = {"model": "bench", "messages": turns, "temperature": 0}
            targets["LiteLLM, cached"] = Target(proxy.port, "/v1/chat/completions", lambda: asked)
        for target in targets.values():
            latency(target, 20)
        by_one = {name: partial(latency, target, requests) for name, target in targets.items()}
        metrics = [Metric("p50", "p50", "ms", 3), Metric("p95", "p95", "ms", 3)]
        samples = interleave(by_one, rounds=rounds)
        for baseline in list(targets)[:1] + list(targets)[2:]:
            report.compare(f"One after another, against {baseline}", metrics, samples, baseline=baseline)
        many = {name: partial(at_once, target, 10 * requests) for name, target in targets.items()}
        samples = interleave(many, rounds=rounds)
        metrics = [Metric("rate", "answers", "a second", 0), Metric("refused", "refused", "a round", 0)]
        report.compare(f"{CONNECTIONS} connections at once", metrics, samples, baseline=list(targets)[-1])


def disk(report: Report, rounds: int, requests: int) -> None:
    """2,000 entries of 2 KB in a cache whose memory is empty; every read is of another one."""
    with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        folder = Path(name)
        cache = ResponseCache(folder / "cache", 1 << 28, SystemClock())
        runner.run(cache.start())
        chunks = answer(*(f"t{number} " for number in range(80)), os.urandom(600).hex())
        origin = Origin(MODEL, "d" * 64)
        blob = encode(StoredAnswer(tuple(chunks), origin, 1.0, 1.0))
        bare = sqlite3.connect(folder / "bare.db", isolation_level=None)
        bare.execute("PRAGMA journal_mode = WAL")
        bare.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB)")
        keys = [f"{number:064x}" for number in range(ENTRIES)]
        for key in keys:
            runner.run(cache.put(key, chunks, origin, seconds=1.0))
            bare.execute("INSERT INTO entries VALUES (?, ?)", (key, blob))
        store = cache._store

        def timed(read: Callable[[str], Any]) -> Figures:
            asked = [keys[number % ENTRIES] for number in range(requests * 5)]
            began = time.perf_counter()
            for key in asked:
                read(key)
            each = (time.perf_counter() - began) / len(asked)
            return {"time": each * 1e6, "rate": 1 / each}

        async def threaded() -> Figures:
            began, asked = time.perf_counter(), keys[: requests * 2]
            for key in asked:
                await asyncio.to_thread(store._disk.get, key)
            each = (time.perf_counter() - began) / len(asked)
            return {"time": each * 1e6, "rate": 1 / each}

        statement = "SELECT value FROM entries WHERE key = ?"
        measures: dict[str, Callable[[], Figures]] = {
            "bare SQLite": partial(timed, lambda key: bare.execute(statement, (key,)).fetchone()),
            "our disk, bytes": partial(timed, lambda key: store._disk.get(key)),
            "our disk, checked and unpacked": partial(timed, store.read),
            "bytes, through a thread": lambda: runner.run(threaded()),
        }
        samples = interleave(measures, rounds=rounds)
        metrics = [Metric("time", "a read", "µs", 1), Metric("rate", "reads", "a second", 0)]
        report.compare(f"An entry of {len(blob) / 1000:.1f} KB from disk", metrics, samples, baseline="bare SQLite")
        runner.run(cache.close())
        bare.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.response_cache", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=200, help="of one subject in a round")
    parser.add_argument("--without-litellm", action="store_true")
    options = parser.parse_args()
    report = Report("response_cache", "The answer cache")
    disk(report, options.rounds, options.requests)
    over_http(report, options.rounds, options.requests, with_litellm=not options.without_litellm)
    report.finish()


if __name__ == "__main__":
    main()
