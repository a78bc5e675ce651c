"""What Loupe adds between a client and a model host: time to the first token, and CPU per request and per token.

    python -m benchmarks.gateway [--rounds 12] [--requests 40] [--part peers|paced|runtime] [--without-litellm]

The same requests go straight to the host and through Loupe, round about, over kept connections from this process. The
CPU column is Loupe's serving process alone. Sampled requests are never cached, so those rows show the whole way of a
request: guards, queue, pool, relay, telemetry; the rows named "cache" are deterministic ones. The part "peers" stands
beside LiteLLM's proxy, a bare TCP splice and Ollama's own client (benchmarks/gateway_peers.py).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import gateway_peers, subjects
from benchmarks.harness import Metric, Report, interleave
from benchmarks.over_http import MANY, NONCE, Body, Target, one_by_one
from benchmarks.paced_host import model_name
from benchmarks.subjects import Subject

PARTS = ("peers", "paced", "runtime")
STREAM = 128
IDLE_SECONDS = 4.0


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

    def at(self, subject: Subject) -> partial[Mapping[str, float]]:
        target = Target(subject.port, "/api/chat", self.body, self.headers)
        return partial(one_by_one, target, subject.cpu, self.requests, self.tokens)


def compare(report: Report, plan: Plan, host: Subject, app: Subject) -> None:
    samples = interleave({"host": plan.at(host), "through Loupe": plan.at(app)}, rounds=plan.rounds)
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
    parser.add_argument("--lines", type=int, default=5000, help="of the long answer beside the peers")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--without-litellm", action="store_true")
    options = parser.parse_args()
    report = Report("gateway", "What the gateway adds")
    if "peers" in options.part:
        with_litellm = not options.without_litellm
        gateway_peers.peers(report, options.rounds, options.requests, options.lines, with_litellm=with_litellm)
        gateway_peers.our_client(report, options.rounds, 32 * options.requests)
    with subjects.scratch() as folder:
        if "paced" in options.part:
            with subjects.paced_host(folder) as host:
                against(report, host, folder / "before-paced", paced_plans(options.rounds, options.requests))
        if "runtime" in options.part:
            with subjects.runtime(folder, (options.model,)) as host:
                against(report, host, folder / "before-runtime", runtime_plans(options.rounds, options.model))
    report.finish()


if __name__ == "__main__":
    main()
