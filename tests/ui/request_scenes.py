"""States of Dashboard > Requests to look at."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from app.core.generation import Span, Usage
from app.services.chat import Caller
from app.services.request_trace import FinishedRequest, Route
from app.services.telemetry import CacheDecision
from tests.ui.fake_services import FakeServices

Q4, Q8, QWEN = "smollm2:135m-instruct-q4_K_M", "smollm2:135m-instruct-q8_0", "qwen3:4b-instruct-2507-q4_k_m"
QUESTION = "Why is the sky blue, and why is it red in the evening?"


def ended(services: FakeServices, name: str = "", *, age: float = 60.0, **fields: Any) -> FinishedRequest:
    """One request that ended `age` seconds ago: 0.1 s in the queue, 0.3 s to the first token, 64 tokens in 2 s."""
    trace = services.telemetry.trace()
    seconds = fields.get("seconds", 2.3)
    usual: dict[str, Any] = {
        "model": Q4, "host": "built-in", "endpoint": "chat", "cache": CacheDecision("bypass", "not deterministic"),
        "seconds": seconds, "ttft": 0.3, "finish_reason": "stop", "digest": "5f3a" * 16,
        "started_at": trace.started_at - age - seconds, "options": {"temperature": 0.7, "num_ctx": 4096},
        "usage": Usage(2_300_000_000, 0, 31, 180_000_000, 64, 2_000_000_000),
        "spans": (
            Span("cache", 0.0, 0.0004, {"outcome": "bypass"}), Span("queue", 0.0004, 0.1),
            Span("host", 0.1, 2.3, {"host": "built-in", "attempt": 1, "outcome": "ok"}),
            Span("load", 0.1, 0.1, {"seconds": 0.0}), Span("prefill", 0.12, 0.3, {"seconds": 0.18, "tokens": 31}),
            Span("decode", 0.3, 2.3, {"seconds": 2.0, "tokens": 64}), Span("write", 0.3, 2.3, {"seconds": 0.004}),
        ),
        "pace": tuple((0.3 + 2.0 * (n / 64) ** 1.15, n) for n in range(1, 65, 4)),
    }  # fmt: skip
    record = trace.finished("ok", "")._replace(**{**usual, **({"id": name} if name else {}), **fields})
    services.telemetry.add(record)
    return record


FAILOVER = (
    Span("cache", 0.0, 0.0004, {"outcome": "miss"}), Span("key", 0.0001, 0.0003), Span("queue", 0.0004, 0.8),
    Span("host", 0.8, 1.1, {"host": "bench", "attempt": 1, "outcome": "failed"}),
    Span("queue", 1.1, 1.4, {"again": True}),
    Span("host", 1.4, 6.2, {"host": "built-in", "attempt": 2, "outcome": "ok"}),
    Span("load", 1.4, 2.6, {"seconds": 1.2}), Span("prefill", 2.6, 3.0, {"seconds": 0.4, "tokens": 412}),
    Span("first token", 1.4, 3.0), Span("decode", 3.0, 6.1, {"seconds": 3.1, "tokens": 118}),
    Span("write", 3.0, 6.2, {"seconds": 0.02}),
)  # fmt: skip


def moved(services: FakeServices) -> FinishedRequest:
    """One that came by an alias, with its words, and had to go to a second host."""
    return ended(
        services, "a1b2c3d4e5f60718", age=12.0, seconds=6.2, ttft=3.0, spans=FAILOVER, cache=CacheDecision("miss"),
        options={"temperature": 0, "seed": 7, "num_ctx": 8192}, client_id="build-7/step:3", question=QUESTION,
        answer="Blue light is scattered more than red light.", whole=True, route=Route("small", 2, "bench was away"),
        usage=Usage(6_200_000_000, 1_200_000_000, 412, 400_000_000, 118, 3_100_000_000),
        pace=tuple((3.0 + 3.1 * (n / 118) ** 1.2, n) for n in range(1, 119, 6)),
    )  # fmt: skip


def requests(services: FakeServices) -> str:
    rng = random.Random(3)
    for number in range(160):
        model, host = ((Q4, "built-in"), (Q8, "built-in"), (QWEN, "bench"))[number % 7 % 3]
        written, first = rng.randrange(8, 300), 0.1 + rng.expovariate(3)
        decode = written / rng.uniform(28, 44)
        end = first + decode
        fields: dict[str, Any] = {
            "model": model, "host": host, "principal": "ada" if number % 5 == 0 else "local", "seconds": end,
            "ttft": first, "spans": (
                Span("queue", 0.0, first / 3), Span("prefill", first / 3, first), Span("decode", first, end),
            ),
            "usage": Usage(0, 0, 31, 1, written, int(decode * 1e9)),
        }  # fmt: skip
        if number % 9 == 4:
            fields |= {"cache": CacheDecision("hit", "", 40.0), "host": "", "seconds": 0.0008, "ttft": 0.0008}
            fields |= {"spans": (Span("cache", 0.0, 0.0008, {"outcome": "hit"}),), "pace": ()}
        elif number % 23 == 7:
            fields |= {"status": "host_unreachable", "error": "bench: connection refused", "usage": None, "ttft": None}
        elif number % 31 == 9:
            fields |= {"status": "cancelled"}
        ended(services, age=3000.0 - 18 * number, **fields)
    moved(services)
    services.telemetry.begin(services.telemetry.trace())
    return "/dashboard?view=Requests"


def requests_slow(services: FakeServices) -> str:
    return requests(services) + "&order=slow&user=local"


def requests_none(services: FakeServices) -> str:
    return requests(services) + "&q=xyzzy"


def requests_empty(services: FakeServices) -> str:
    return "/dashboard?view=Requests"


def request(services: FakeServices) -> str:
    return f"/dashboard?view=Requests&request={moved(services).id}"


def request_failed(services: FakeServices) -> str:
    failed = ended(
        services, status="host_unreachable", error="bench does not answer (connection refused)", usage=None, ttft=None,
        spans=(Span("queue", 0.0, 2.2), Span("host", 2.2, 2.3, {"host": "bench", "attempt": 1, "outcome": "failed"})),
        pace=(), finish_reason="",
    )  # fmt: skip
    return f"/dashboard?view=Requests&request={failed.id}"


def request_hit(services: FakeServices) -> str:
    hit = ended(
        services, cache=CacheDecision("hit", "", 184.0), host="", seconds=0.0008, ttft=0.0008, pace=(), options={},
        spans=(Span("cache", 0.0, 0.0008, {"outcome": "hit"}),),
    )  # fmt: skip
    return f"/dashboard?view=Requests&request={hit.id}"


def request_again(services: FakeServices) -> str:
    first = moved(services)

    async def ask() -> str:
        again = await services.asking_again.ask(first.id, Caller(trace=services.telemetry.trace()))
        task = services.asking_again._again[again].task
        assert task is not None
        await task
        return again

    return f"/dashboard?view=Requests&request={services.run(ask())}"


def request_running(services: FakeServices) -> str:
    first, (event, _) = moved(services), services.gate()
    services.model.script = lambda _: ["Blue light is", " scattered", event]

    async def ask() -> str:
        return await services.asking_again.ask(first.id, Caller(trace=services.telemetry.trace()))

    return f"/dashboard?view=Requests&request={services.run(ask())}"


def request_gone(services: FakeServices) -> str:
    ended(services)
    return "/dashboard?view=Requests&request=0123456789abcdef"


REQUEST_SCENES: dict[str, Callable[[FakeServices], str]] = {
    scene.__name__: scene
    for scene in (
        requests, requests_slow, requests_none, requests_empty, request, request_failed, request_hit, request_again,
        request_running, request_gone,
    )
}  # fmt: skip
