"""What Loupe adds between a client and a model host: time to the first token, and CPU per request and per token.

    python -m benchmarks.gateway [--rounds 12] [--requests 40] [--model TAG of the starter family]

The same requests go straight to the host and through Loupe, round about, over kept connections from this process. The
CPU column is Loupe's serving process alone. Sampled requests are never cached, so those rows show the whole way of a
request: guards, queue, pool, relay, telemetry; the rows named "cache" are deterministic ones.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import subjects
from benchmarks.harness import Figures, Metric, Report, interleave
from benchmarks.paced_host import model_name
from benchmarks.subjects import Subject

STREAM = 128
IDLE_SECONDS = 4.0
MANY = 20  # requests in a round from which a 95th percentile says anything
NONCE = itertools.count()
Body = Callable[[], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one round asks, on either side: `requests` times `body()`, answers of `tokens` tokens."""

    caption: str
    body: Body
    requests: int
    tokens: int
    rounds: int
    headers: str = ""
    host_cpu: bool = True


class Connection:
    """One kept connection, with as little client in it as can be: the same for both sides."""

    def __init__(self, port: int, headers: str = "") -> None:
        self._head = f"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}Content-Length: "
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, body: Mapping[str, object]) -> tuple[float, float]:
        """Seconds to the first bytes of the answer's body, and to its end."""
        payload = json.dumps(body).encode()
        began = time.perf_counter()
        self._socket.sendall(f"{self._head}{len(payload)}\r\n\r\n".encode() + payload)
        received, first = b"", 0.0
        while not received.endswith(b"\r\n0\r\n\r\n"):
            piece = self._socket.recv(1 << 16)
            received += piece
            assert piece and received.startswith(b"HTTP/1.1 200"), received[:500]
            if not first and not received.endswith(b"\r\n\r\n"):
                first = time.perf_counter() - began
        return first, time.perf_counter() - began

    def close(self) -> None:
        self._socket.close()


def measure(subject: Subject, plan: Plan) -> Figures:
    """One round, on a new connection whose first request is not counted."""
    connection = Connection(subject.port, plan.headers)
    connection.ask(plan.body())
    cpu = subject.cpu()
    timed = [connection.ask(plan.body()) for _ in range(plan.requests)]
    cpu = subject.cpu() - cpu
    connection.close()
    firsts = sorted(first for first, _ in timed)
    figures = {
        "ttft": statistics.median(firsts) * 1e3,
        "whole": statistics.median(ended for _, ended in timed) * 1e3,
        "cpu": cpu / plan.requests * 1e6,
        "cpu_token": cpu / plan.requests / plan.tokens * 1e6,
    }
    if plan.requests >= MANY:
        figures["ttft_p95"] = firsts[math.ceil(0.95 * len(firsts)) - 1] * 1e3
    return figures


def compare(report: Report, plan: Plan, host: Subject, app: Subject) -> None:
    samples = interleave(
        {"host": partial(measure, host, plan), "through Loupe": partial(measure, app, plan)}, rounds=plan.rounds
    )
    if not plan.host_cpu:  # a real host's CPU is inference
        samples["host"] = [{"ttft": one["ttft"], "whole": one["whole"]} for one in samples["host"]]
    metrics = [
        Metric("ttft", "request to first token", digits=2),
        *([Metric("ttft_p95", "its 95th percentile in a round", digits=2)] if plan.requests >= MANY else []),
        Metric("whole", "request to end of answer", digits=2),
        Metric("cpu", "CPU a request", "µs", 0),
    ]
    if plan.tokens > 1:
        metrics.append(Metric("cpu_token", "the same, a token", "µs", 1))
    report.compare(plan.caption, metrics, samples, baseline="host", difference=True)


def asked(model: str, *, nonce: bool = False, **options: object) -> Mapping[str, object]:
    question = "Count to a hundred in words." + (f" Run {next(NONCE)}." if nonce else "")
    return {"model": model, "messages": [{"role": "user", "content": question}], "options": options}


def paced_plans(rounds: int, requests: int) -> list[Plan]:
    one, burst, paced = model_name(1), model_name(STREAM), model_name(STREAM, 200)
    return [
        Plan("One token; host without cost", partial(asked, one), requests, 1, rounds),
        Plan(f"{STREAM} tokens at once; host without cost", partial(asked, burst), requests // 2, STREAM, rounds),
        Plan(f"{STREAM} tokens at 200 a second; host without cost", partial(asked, paced), 2, STREAM, rounds),
        Plan(
            f"{STREAM} tokens, deterministic, not in the cache yet (looked up, kept, stored)",
            partial(asked, burst, nonce=True, temperature=0), requests // 2, STREAM, rounds,
        ),
        Plan(f"{STREAM} tokens out of the cache", partial(asked, burst, temperature=0), requests // 2, STREAM, rounds),
    ]  # fmt: skip


def runtime_plans(rounds: int, tag: str) -> list[Plan]:
    """The same greedy answer each time, so that both sides wait for the same work; nothing out of our cache."""
    body, bypass = partial(asked, f"smollm2:135m-instruct-{tag}", temperature=0), "X-Loupe-Cache: bypass\r\n"
    return [
        Plan(f"One token; runtime, {tag}", partial(body, num_predict=1), 10, 1, rounds, bypass, host_cpu=False),
        Plan(
            f"{STREAM} tokens; runtime, {tag}", partial(body, num_predict=STREAM), 1, STREAM, rounds, bypass,
            host_cpu=False,
        ),
    ]  # fmt: skip


def against(report: Report, host: Subject, folder: Path, plans: list[Plan]) -> None:
    """All plans with Loupe in front of this host."""
    with subjects.loupe(folder, OLLAMA_HOST=host.url) as app:
        app.wait("/readyz")
        began, cpu = time.perf_counter(), app.cpu()
        while time.perf_counter() - began < IDLE_SECONDS:
            time.sleep(0.1)
        idle = (app.cpu() - cpu) / (time.perf_counter() - began)
        for plan in plans:
            compare(report, plan, host, app)
        report.say(f"Loupe doing nothing, right after its start: {idle * 100:.1f} % of a core.")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--requests", type=int, default=40, help="one-token requests in a round")
    parser.add_argument("--model", default="q4_0", help="variant of the starter family for the rows with the runtime")
    parser.add_argument("--host", choices=("both", "paced", "runtime"), default="both")
    options = parser.parse_args()
    report = Report("gateway", "What the gateway adds")
    with subjects.scratch() as folder:
        if options.host != "runtime":
            with subjects.paced_host(folder) as host:
                against(report, host, folder / "before-paced", paced_plans(options.rounds, options.requests))
        if options.host != "paced":
            with subjects.runtime(folder, (options.model,)) as host:
                against(report, host, folder / "before-runtime", runtime_plans(options.rounds, options.model))
    report.finish()


if __name__ == "__main__":
    main()
