"""What the embedded runtime costs beside the HTTP server of its own worker: the same wheel, model, flags and requests.

    python -m benchmarks.runtime [--rounds 10] [--tag q4_0]

Round about, a new connection for each request on either side: the answer of one token, a prefill, a decode, and four
streams at once. The supervisor's share is CPU time of its process alone. A further worker has the wheel's default
batch: the runtime's is capped so that a prefill can be left within a second, and this is what the cap costs.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from app.runtime.settings import RuntimeSettings, usable_threads
from app.runtime.worker_process import Worker, WorkerConfig, start_worker
from benchmarks import subjects
from benchmarks.harness import Figures, Metric, Report, interleave
from benchmarks.subjects import Subject

NUM_CTX, DECODED, STREAMS, SHORT_ANSWERS = 2048, 128, 4, 15
DEFAULT_BATCH = 2048  # of the wheel; it computes 512 tokens of it at a time
COUNTING = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"  # greedy, the model goes on counting and never ends by itself
NONCE = itertools.count()
SAMPLING = {
    "temperature": 0.0, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0,
    "repeat_last_n": 64, "frequency_penalty": 0.0, "presence_penalty": 0.0, "seed": 1, "n_keep": 4, "stop": [],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """One streamed answer: seconds to its first token, between its first and last one, and to its end."""

    first: float
    decoding: float
    whole: float
    tokens: int
    prompt_tokens: int
    wire: int


class Side:
    """A server under test. `cpu` is what its supervisor has used; a worker alone has none."""

    def __init__(self, name: str, port: int, supervisor: Subject | None = None, key: str = "") -> None:
        self.name, self._port, self._key, self._supervisor = name, port, key, supervisor

    def cpu(self) -> float:
        return self._supervisor.cpu() if self._supervisor else 0.0

    @property
    def supervised(self) -> bool:
        return self._supervisor is not None

    def ask(self, prompt: str, tokens: int) -> Answer:
        path, body = self._request(prompt, tokens)
        payload = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {self._key}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
        received: list[tuple[float, bytes]] = []
        with socket.create_connection(("127.0.0.1", self._port), timeout=300) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = time.perf_counter()
            connection.sendall(head.encode() + payload)
            while piece := connection.recv(1 << 16):
                received.append((time.perf_counter() - began, piece))
        return _read(received)

    def _request(self, prompt: str, tokens: int) -> tuple[str, Mapping[str, object]]:
        if not self.supervised:
            wanted = {"prompt": prompt, "stream": True, "cache_prompt": True, "return_progress": True}
            return "/completion", {**wanted, "n_predict": tokens, **SAMPLING}
        options = {"num_ctx": NUM_CTX, "num_predict": tokens, "temperature": 0, "seed": 1}
        return "/api/generate", {"model": self.name, "prompt": prompt, "raw": True, "options": options}


def _read(received: Sequence[tuple[float, bytes]]) -> Answer:
    """Figures of an answer, taken apart after it has ended: reading it costs the measured server nothing."""
    head, _, first = received[0][1].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), received[0][1][:500]
    times: list[float] = []
    wire, last = 0, b""
    for at, piece in [(received[0][0], first), *received[1:]]:
        wire += len(piece)
        for line in piece.split(b"\n"):
            if b'"content":"' in line or b'"response":"' in line:
                last = line
                if b'"content":""' not in line and b'"response":""' not in line:
                    times.append(at)
    final = json.loads(last.removeprefix(b"data: "))
    timings = final.get("timings") or {}
    tokens = final.get("eval_count") or timings["predicted_n"]
    prompt = final.get("prompt_eval_count") or timings["prompt_n"] + timings["cache_n"]
    return Answer(times[0], times[-1] - times[0], received[-1][0], tokens, prompt, wire)


def short(side: Side) -> Figures:
    """Answers of one token to a prompt that is in the cache."""
    cpu = side.cpu()
    answers = [side.ask(COUNTING, 1) for _ in range(SHORT_ANSWERS)]
    figures = {"whole": statistics.median(one.whole for one in answers) * 1e3}
    return figures | ({"cpu": (side.cpu() - cpu) / SHORT_ANSWERS * 1e6} if side.supervised else {})


def prefill(side: Side) -> Figures:
    """A prompt that nobody has asked before."""
    number = next(NONCE)
    answer = side.ask(" ".join(f"{number} word{index}" for index in range(120)), 1)
    return {"rate": answer.prompt_tokens / answer.first, "tokens": answer.prompt_tokens}


def decode(side: Side) -> Figures:
    cpu = side.cpu()
    answer = side.ask(COUNTING, DECODED)
    figures = {"rate": (answer.tokens - 1) / answer.decoding, "bytes": answer.wire / answer.tokens}
    return figures | ({"cpu": (side.cpu() - cpu) / answer.tokens * 1e6} if side.supervised else {})


def streams(side: Side) -> Figures:
    """Four at once: tokens of all of them over the time until the last one has ended."""
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(side.ask(COUNTING, DECODED // 2))) for _ in range(STREAMS)
    ]
    cpu, began = side.cpu(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, tokens = time.perf_counter() - began, sum(answer.tokens for answer in answers)
    assert len(answers) == STREAMS
    return {"rate": tokens / spent} | ({"cpu": (side.cpu() - cpu) / tokens * 1e6} if side.supervised else {})


class Workers:
    """Workers of the benchmark's own, with the code that starts the runtime's. Their loop reads their logs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._running: list[Worker] = []

    def start(self, config: WorkerConfig) -> Side:
        worker = asyncio.run_coroutine_threadsafe(start_worker(config, config.model.name), self._loop).result()
        self._running.append(worker)
        address = worker.running.address
        return Side("worker", address.port, key=address.key)

    def end(self) -> None:
        for worker in self._running:
            asyncio.run_coroutine_threadsafe(worker.kill(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


@contextmanager
def workers() -> Iterator[Workers]:
    made = Workers()
    try:
        yield made
    finally:
        made.end()


def config_of(model: Path, *, parallel: int) -> WorkerConfig:
    """The flags with which the runtime starts a worker for these requests."""
    batch = RuntimeSettings(model.parent).physical_batch
    return WorkerConfig(
        model=model, num_ctx=NUM_CTX, parallel=parallel, batch=batch, threads=usable_threads(), shift=True,
        mmap=False, load_timeout_s=300.0,
    )  # fmt: skip


def alone(report: Report, folder: Path, model: Path, tag: str, rounds: int) -> None:
    """One request at a time."""
    name, config = f"smollm2:135m-instruct-{tag}", config_of(model, parallel=1)
    with workers() as started, subjects.runtime(folder, (tag,)) as server:
        sides = {"worker": started.start(config), "runtime": Side(name, server.port, server)}
        sides["runtime"].ask(COUNTING, 1)

        def each(measure: object, subjects_: Mapping[str, Side]) -> dict:
            return interleave(
                {label: (lambda side=side: measure(side)) for label, side in subjects_.items()},  # type: ignore
                rounds=rounds,
            )

        samples = each(short, sides)
        metrics = [Metric("whole", "request to end of answer", digits=2), Metric("cpu", "supervisor's CPU", "µs", 0)]
        report.compare("One token, prompt in the cache", metrics, samples, baseline="worker", difference=True)
        samples = each(decode, sides)
        metrics = [
            Metric("rate", "decode", "tokens/s"), Metric("bytes", "on the wire a token", "B", 0),
            Metric("cpu", "supervisor's CPU a token", "µs", 0),
        ]  # fmt: skip
        report.compare(f"{DECODED} tokens, streamed", metrics, samples, baseline="worker")
        sides["default batch"] = started.start(replace(config, batch=DEFAULT_BATCH))
        samples = each(prefill, sides)
        length = samples["worker"][0]["tokens"]
        metrics = [Metric("rate", "prefill", "tokens/s")]
        report.compare(f"Prefill of {length:.0f} tokens", metrics, samples, baseline="worker")
        report.say(
            f"The runtime computes {config.batch} tokens at a time; `default batch` is a worker as the wheel starts it."
        )


def together(report: Report, folder: Path, model: Path, tag: str, rounds: int) -> None:
    name, slots = f"smollm2:135m-instruct-{tag}", str(STREAMS)
    with workers() as started, subjects.runtime(folder, (tag,), OLLAMA_NUM_PARALLEL=slots) as server:
        sides = {
            "worker": started.start(config_of(model, parallel=STREAMS)),
            "runtime": Side(name, server.port, server),
        }
        sides["runtime"].ask(COUNTING, 1)
        samples = interleave({label: (lambda side=side: streams(side)) for label, side in sides.items()}, rounds=rounds)
        metrics = [Metric("rate", "all streams", "tokens/s"), Metric("cpu", "supervisor's CPU a token", "µs", 0)]
        report.compare(f"{STREAMS} streams of {DECODED // 2} tokens", metrics, samples, baseline="worker")


def main() -> None:
    from tests.starter_cache import variant_gguf

    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtime", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tag", default="q4_0", help="variant of the starter family")
    options = parser.parse_args()
    model = variant_gguf(options.tag)
    report = Report("runtime", "The runtime beside its worker")
    with subjects.scratch() as folder:
        alone(report, folder, model, options.tag, options.rounds)
        together(report, folder, model, options.tag, options.rounds)
    report.finish()


if __name__ == "__main__":
    main()
