"""States of the Dashboard to look at."""

from __future__ import annotations

import random
from collections.abc import Callable

from app.core.generation import Span, Usage
from app.services.telemetry import CacheDecision, FinishedRequest
from tests.ui.fake_services import FakeServices

Q4, Q8, QWEN = "smollm2:135m-instruct-q4_K_M", "smollm2:135m-instruct-q8_0", "qwen3:4b-instruct-2507-q4_k_m"


def answered(
    services: FakeServices, model: str = Q4, host: str = "built-in", *, ttft: float = 0.4, age: float = 60.0,
    principal: str = "local", queue: float = 0.1, load: float = 0.0, cache: str = "miss", status: str = "ok",
) -> FinishedRequest:  # fmt: skip
    """One request that ended `age` seconds ago. Of its time to the first token what is left over is prefill."""
    spans = [Span("queue", 0.0, queue), Span("prefill", queue + load, ttft * 0.97), Span("decode", ttft, ttft + 2.0)]
    if load:
        spans.append(Span("load", queue, queue + load))
    trace = services.telemetry.trace(principal=principal)
    record = trace.finished(status, "")._replace(
        model=model, host=host, endpoint="chat", cache=CacheDecision(cache), seconds=ttft + 2.0, ttft=ttft,
        started_at=trace.started_at - age - ttft - 2.0, usage=Usage(output_tokens=64, decode_ns=2_000_000_000),
        spans=tuple(sorted(spans, key=lambda span: span.start)),
    )  # fmt: skip
    services.telemetry.add(record)
    return record


def latency(services: FakeServices) -> str:
    """Three variants on two hosts, some hundred requests, with what did not end well."""
    rng = random.Random(2)
    for model, host, n, middle in ((Q4, "built-in", 240, 0.18), (Q8, "built-in", 64, 0.42), (QWEN, "bench", 9, 1.6)):
        for number in range(n):
            cold = number % 31 == 0
            queue = rng.expovariate(8) if number % 3 else 0.0
            first = queue + (1.1 if cold else 0.0) + middle * rng.lognormvariate(0, 0.35)
            answered(
                services, model, host, ttft=first, age=rng.uniform(1, 800), queue=queue, load=1.1 if cold else 0.0,
                principal="local" if number % 4 else "ada",
            )  # fmt: skip
    for cache, status in (("hit", "ok"), ("hit", "ok"), ("miss", "host_unreachable"), ("miss", "cancelled")):
        answered(services, cache=cache, status=status)
    return "/dashboard?view=Latency"


def latency_empty(services: FakeServices) -> str:
    return "/dashboard?view=Latency"


DASHBOARD_SCENES: dict[str, Callable[[FakeServices], str]] = {
    "dashboard_latency": latency, "dashboard_latency_empty": latency_empty,
}  # fmt: skip
