"""States of the Dashboard to look at."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from app.core.generation import Span, Usage
from app.core.hardware import Gpu, Gpus, Machine
from app.models.catalog import CatalogView
from app.services.happenings import Happening
from app.services.queueing.views import QueueSnapshot
from app.services.telemetry import CacheDecision, FinishedRequest
from tests.ui.fake_services import EMBEDDED, MIB, FakeServices, loaded, qwen, smollm2

GIB = 2**30
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


def past(services: FakeServices, gpus: int = 0) -> None:
    """Fifteen minutes in which a variant was loaded, asked by a few people, and replaced by another."""
    rng, now = random.Random(5), int(time.time())
    for ago in range(900, 0, -1):
        busy = 0.5 + 0.5 * math.sin(ago / 70) if ago < 700 else 0.0
        figures = {
            "cpu": 0.04 + 0.8 * busy * (0.9 + 0.1 * rng.random()), "memory_used": (5.2 + 0.4 * busy) * GIB,
            "queue_waiting": float(round(4 * max(0.0, busy - 0.6) * rng.random())), "queue_running": float(busy > 0.1),
            "tokens_per_second": 38 * (busy > 0.1) * (0.9 + 0.2 * rng.random()), "hosts_down": 0.0,
        }  # fmt: skip
        if busy > 0.1:
            figures |= {"ttft_p50": 0.25 + 0.3 * busy, "ttft_p95": 0.7 + 1.5 * busy * rng.random()}
            figures["cache_hit_rate"] = 0.3 + 0.1 * busy
        if ago < 700:
            figures["loaded." + (Q4 if ago > 300 else Q8)] = float((327 if ago > 300 else 366) * MIB)
        for index in range(gpus):
            figures |= {
                f"gpu{index}.utilisation": min(1.0, busy * (0.7 + 0.05 * index)),
                f"gpu{index}.temperature": 45 + 30 * busy, f"gpu{index}.power": 60 + 200 * busy,
                f"gpu{index}.memory_used": (9.0 + index) * GIB,
            }  # fmt: skip
            figures[f"loaded_gpu.{QWEN}"] = 2.6 * GIB * gpus
        services.figures.add(now - ago, figures)
    for ago, kind, text in (
        (700, "load", f"{Q4} was loaded on the built-in runtime"),
        (300, "unload", f"{Q4} left the memory of the built-in runtime"),
        (299, "load", f"{Q8} was loaded on the built-in runtime"),
        (120, "error", f"2 requests to {QWEN} failed: host unreachable"),
        (118, "host", "host bench does not answer"),
    ):  # fmt: skip
        services.figures.mark(Happening(now - ago, kind, text))


def rtx(index: int) -> Gpu:
    return Gpu(
        index, "NVIDIA RTX 4090", f"GPU-{index}", 0.4 + 0.05 * index, (9 + index) * GIB, 24 * GIB, 61.0 + index,
        180.5 + 9 * index, 450.0,
    )  # fmt: skip


def writing(services: FakeServices) -> None:
    """Two answers are being made while it is looked at, and three wait."""
    from tests.ui.scenes import run_row, ticket  # which knows all scenes, and so this module

    services.queue.pace = 41.0
    services.queue.view = QueueSnapshot(
        tuple(ticket(place) for place in (1, 2, 3)),
        (run_row(1, "built-in", "decode"), run_row(2, "built-in", "prefill")),
    )


def dashboard(services: FakeServices) -> str:
    return _gpus(services, 0)


def _gpus(services: FakeServices, number: int, *, busy: bool = False) -> str:
    past(services, number)
    held = replace(loaded(Q8), size=366 * MIB)
    if number:
        held = replace(loaded(QWEN), size=int(2.6 * GIB) * number, size_vram=int(2.6 * GIB) * number)
        services.gpus = lambda: Gpus(tuple(map(rtx, range(number))), "570.86")
    services.pool.held = ((EMBEDDED, held),)
    services.catalog.view = CatalogView((smollm2(), qwen()), services.pool.hosts)
    if busy:
        writing(services)
    answered(services, QWEN if number else Q8, ttft=0.42, age=5)
    return "/dashboard"


def dashboard_faults(services: FakeServices) -> str:
    """One GPU of two is lost, one figure of the other is refused, /proc is partly denied, and the disk is full."""
    _gpus(services, 2)
    whole, lost = services.gpus().devices
    denied = dict.fromkeys(("cpu", "memory_used"), "the system does not tell: Permission denied")
    telling = replace(whole, power=None, unknown={"power": "this GPU does not tell"})
    fell = Gpu(1, lost.name, lost.uuid, lost="the GPU does not answer any more: it fell off the bus or lost its power")
    services.gpus = lambda: Gpus((telling, fell), "570.86")
    services.machine = lambda: Machine(memory_total=16 * GIB, unknown=denied)
    services.figures._write = lambda now: None  # type: ignore[method-assign]
    services.figures._problem = "what is drawn here is not written down: database or disk is full"
    return "/dashboard"


def dashboard_empty(services: FakeServices) -> str:
    return "/dashboard"


DASHBOARD_SCENES: dict[str, Callable[[FakeServices], str]] = {
    "dashboard": dashboard, "dashboard_empty": dashboard_empty, "dashboard_latency": latency,
    "dashboard_latency_empty": latency_empty, "dashboard_gpu": partial(_gpus, number=1),
    "dashboard_gpus": partial(_gpus, number=8), "dashboard_busy": partial(_gpus, number=0, busy=True),
    "dashboard_gpu_busy": partial(_gpus, number=1, busy=True),
    "dashboard_gpus_busy": partial(_gpus, number=8, busy=True),
    "dashboard_faults": dashboard_faults,
}  # fmt: skip
