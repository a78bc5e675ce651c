"""Loupe beside LiteLLM's proxy and beside a bare TCP splice, in one run, with everything on that Loupe has.

All of them stand before the same host, which costs almost nothing; each is asked in turn over kept connections. Loupe
is the process that serves the pages too; it asks for a key, makes a cache key of each question (deterministic, and
never asked before), keeps each answer, and writes its log lines. LiteLLM speaks OpenAI's dialect on both sides, and so
does the splice; Loupe is asked in OpenAI's and in Ollama's. "Added" is less what the same request to the host takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import ollama
import uvloop

from app.backends.ollama_http import OllamaHttp
from app.core.hosts import HostAddress
from benchmarks import subjects
from benchmarks.harness import Figures, Metric, Report, Samples, interleave
from benchmarks.over_http import CONNECTIONS, NONCE, Target, at_once, one_by_one
from benchmarks.paced_host import model_name
from benchmarks.subjects import Subject

OPENAI, NATIVE = "/v1/chat/completions", "/api/chat"
KEY = "the-key-of-the-benchmark"
CONFIG = """\
model_list:
  - model_name: "bench:*"
    litellm_params: {{model: "openai/bench:*", api_base: "{host}/v1", api_key: none}}
"""
PEERS = ("TCP splice", "LiteLLM", "Loupe, /v1", "Loupe, /api")
DIRECT = {"Loupe, /api": "host, /api"}  # what each is compared with, if not with the host's /v1


@dataclass(frozen=True, slots=True)
class Door:
    """One way to the host: by whom, and in which dialect."""

    subject: Subject
    path: str
    headers: str = ""

    def target(self, model: str) -> Target:
        return Target(self.subject.port, self.path, partial(question, model, self.path), self.headers)


def question(model: str, path: str) -> Mapping[str, object]:
    """A deterministic question that nobody asked before."""
    turns = [{"role": "user", "content": f"Count to a hundred in words. Run {next(NONCE)}."}]
    body: dict[str, object] = {"model": model, "messages": turns, "stream": True}
    return body | ({"options": {"temperature": 0}} if path == NATIVE else {"temperature": 0})


def doors(stack: ExitStack, lines: int, *, with_litellm: bool) -> dict[str, Door]:
    folder = stack.enter_context(subjects.scratch())
    host = stack.enter_context(subjects.paced_host(folder, model_name(1), model_name(lines)))
    splice = stack.enter_context(subjects.splice(folder, host.port))
    slots = str(2 * CONNECTIONS)  # the host takes all at once, and so does every other door
    app = stack.enter_context(
        subjects.loupe(folder / "loupe", OLLAMA_HOST=host.url, LOUPE_TOKEN=KEY, LOUPE_SLOTS=slots)
    )
    shown = f"Authorization: Bearer {KEY}\r\n"
    app.wait("/readyz")
    found = {
        "host, /v1": Door(host, OPENAI), "host, /api": Door(host, NATIVE), "TCP splice": Door(splice, OPENAI),
        "Loupe, /v1": Door(app, OPENAI, shown), "Loupe, /api": Door(app, NATIVE, shown),
    }  # fmt: skip
    if with_litellm:
        proxy = stack.enter_context(subjects.litellm(folder, CONFIG.format(host=host.url)))
        found["LiteLLM"] = Door(proxy, OPENAI)
    return found


def added(samples: Samples, metrics: Sequence[str]) -> Samples:
    """What each peer takes more than the host, round by round."""
    return {
        name: [
            {metric: one[metric] - other[metric] for metric in metrics}
            for one, other in zip(samples[name], samples[DIRECT.get(name, "host, /v1")], strict=True)
        ]
        for name in PEERS
        if name in samples
    }


def peers(report: Report, rounds: int, requests: int, lines: int, *, with_litellm: bool) -> None:
    """Rows 7 to 10: added time to the first token, answers for a second of CPU, and what a line costs."""
    with ExitStack() as stack:
        found = doors(stack, lines, with_litellm=with_litellm)
        baselines = ("LiteLLM", "TCP splice") if with_litellm else ("TCP splice",)

        one = interleave({name: _one_by_one(door, 1, requests) for name, door in found.items()}, rounds=rounds)
        firsts = [Metric("ttft", "to the first token", "ms", 3), Metric("ttft_p95", "its 95th percentile", "ms", 3)]
        report.compare("One token, one request after another", [*firsts, Metric("cpu", "CPU", "µs", 0)], one)
        extra = added(one, ("ttft", "ttft_p95"))
        for baseline in baselines:
            report.compare(f"The same, added to the host's, beside {baseline}", firsts, extra, baseline=baseline)

        many = interleave({name: _at_once(door, requests) for name, door in found.items()}, rounds=rounds)
        rates = [
            Metric("per_core", "answers a second of CPU", "n", 0), Metric("rate", "answers a second", "n", 0),
            Metric("refused", "refused a round", "n", 0),
        ]  # fmt: skip
        report.compare(f"One token, {CONNECTIONS} connections at once", rates, many, baseline=baselines[0])

        long = interleave({name: _one_by_one(door, lines, 1) for name, door in found.items()}, rounds=rounds)
        costs = [Metric("line", "to the end, a line", "µs", 1), Metric("cpu_token", "CPU a line", "µs", 1)]
        for baseline in (*baselines[:1], "host, /v1", "host, /api"):
            report.compare(f"{lines} lines as fast as they come, beside {baseline}", costs, long, baseline=baseline)


def _one_by_one(door: Door, tokens: int, requests: int) -> Callable[[], Figures]:
    return partial(one_by_one, door.target(model_name(tokens)), door.subject.cpu, requests, tokens)


def _at_once(door: Door, requests: int) -> Callable[[], Figures]:
    return partial(at_once, door.target(model_name(1)), CONNECTIONS * max(1, requests // 8), door.subject.cpu)


def our_client(report: Report, rounds: int, requests: int) -> None:
    """Row 17: the client that Loupe asks hosts with, beside Ollama's own as it comes: the same short question."""
    with subjects.scratch() as folder, subjects.paced_host(folder) as host:
        measures: dict[str, Callable[[], Figures]] = {
            "ollama.AsyncClient": lambda: _run(lambda: _in_flight(ollama.AsyncClient(host.url).ps, requests)),
            "Loupe's": lambda: _run(lambda: _ours(host.url, requests)),
        }
        samples = interleave(measures, rounds=rounds)
    rate = Metric("rate", "answers a second", "n", 0)
    report.compare(f"What is loaded, {CONNECTIONS} in flight", [rate], samples, baseline="ollama.AsyncClient")


async def _ours(url: str, requests: int) -> Figures:
    client = OllamaHttp(HostAddress("bench", url))
    figures = await _in_flight(client.loaded, requests)
    await client.close()
    return figures


async def _in_flight(ask: Callable[[], Awaitable[object]], requests: int) -> Figures:
    async def repeat() -> None:
        for _ in range(requests // CONNECTIONS):
            await ask()

    await ask()
    began = time.perf_counter()
    await asyncio.gather(*(repeat() for _ in range(CONNECTIONS)))
    return {"rate": requests // CONNECTIONS * CONNECTIONS / (time.perf_counter() - began)}


def _run(work: Callable[[], Coroutine[None, None, Figures]]) -> Figures:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())
