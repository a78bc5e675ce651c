"""Traces on their way to a collector over a real socket: what it is told, and that nothing of it hurts anybody."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.exported_spans import Delivery
from app.core.trace_context import span_id
from app.services import span_export
from app.services.metrics import Metrics
from app.services.span_export import SpanExport
from proving.stand import loupe
from tests.recordings import recording
from tests.stub_ollama import MODEL, Cut, Reply, StubOllama, served
from tests.unit.services.test_request_log import record

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Who?"}], "options": {"temperature": 0.5, "top_k": 3}}
TAKEN = Reply([b""], content_type="application/x-protobuf")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for more requests to go with, nor long between tries."""
    monkeypatch.setattr(span_export, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(span_export, "EVERY_SECONDS", 0.01)


async def until(check: Callable[[], Any], what: str) -> Any:
    async with asyncio.timeout(30):
        while not (found := check()):
            await asyncio.sleep(0.01)
    assert found, what
    return found


def told_to(collector: StubOllama) -> list[Any]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = []
    for asked in collector.asked_for("/v1/traces"):
        for resource in ExportTraceServiceRequest.FromString(asked.body).resource_spans:
            assert {pair.key: pair.value.string_value for pair in resource.resource.attributes}[
                "service.name"
            ] == "mine"
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    return spans


def values(span: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in span.attributes}


async def test_a_collector_is_told_of_a_request_and_its_layers(tmp_path: Path) -> None:
    stub, collector = StubOllama(), StubOllama()
    collector.on("/v1/traces", TAKEN)
    settings = {"otlp_headers": "x-key=a%20b", "otlp_service": "mine"}
    async with (
        served(stub) as host,
        served(collector) as there,
        loupe(tmp_path, [host], otlp_endpoint=there, **settings) as product,
        httpx.AsyncClient(base_url=product.url, timeout=30) as client,
    ):
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
        name = (await client.post("/api/chat", json=CHAT, headers=headers)).headers["x-loupe-request-id"]
        await until(lambda: len(told_to(collector)) >= 8, "the spans")
        unsampled = {"traceparent": f"00-{'1' * 32}-{PARENT}-00"}
        await client.post("/api/chat", json=CHAT, headers=unsampled)
        own = (await client.post("/api/chat", json=CHAT)).headers["x-loupe-request-id"]
        spans = await until(
            lambda: own in {span.span_id.hex() for span in told_to(collector)} and told_to(collector), "its own trace"
        )
        counted = (await client.get("/metrics")).text
    assert 'loupe_trace_export_requests_total{outcome="sent"} 2.0' in counted
    assert collector.asked[0].headers["content-type"] == "application/x-protobuf"
    assert collector.asked[0].headers["x-key"] == "a b"
    root = next(span for span in spans if span.span_id.hex() == name)
    mine = {span.name: span for span in spans if span.trace_id == root.trace_id}
    assert (root.trace_id.hex(), root.parent_span_id.hex(), root.trace_state) == (TRACE, PARENT, "vendor=1")
    assert (root.name, root.kind) == (f"chat {MODEL}", 2)
    about = values(root)
    assert about["gen_ai.operation.name"] == "chat"
    assert about["gen_ai.request.model"] == about["gen_ai.response.model"] == MODEL
    assert (about["gen_ai.request.temperature"], about["gen_ai.request.top_k"]) == (0.5, 3)
    assert about["gen_ai.usage.output_tokens"] > 0
    assert not any("messages" in key for key in about)
    host = next(span for span in spans if span.kind == 3 and span.trace_id == root.trace_id)
    assert (host.span_id.hex(), host.parent_span_id.hex()) == (span_id(name, 1), name)
    sent = [asked.headers.get("traceparent") for asked in stub.asked_for("/api/chat")]
    assert sent[0] == f"00-{TRACE}-{host.span_id.hex()}-01"
    assert sent[2] is not None  # a trace that begins here goes on too
    assert {"cache", "queue", "load", "prefill", "first token", "decode", "write"} <= set(mine)
    assert mine["decode"].parent_span_id == host.span_id
    assert all(root.start_time_unix_nano <= span.start_time_unix_nano for span in mine.values())
    assert not any(span.trace_id.hex() == "1" * 32 for span in spans)  # its client did not want it told


@pytest.mark.parametrize("refusal", [Reply([b""], 503, headers={"retry-after": "0"}), Reply([Cut()])])
async def test_what_a_collector_could_not_take_is_told_again(tmp_path: Path, refusal: Reply) -> None:
    stub, collector = StubOllama(), StubOllama()
    collector.on("/v1/traces", refusal, refusal, TAKEN)
    async with (
        served(stub) as host,
        served(collector) as there,
        loupe(tmp_path, [host], otlp_endpoint=there, otlp_service="mine") as product,
        httpx.AsyncClient(base_url=product.url, timeout=30) as client,
    ):
        await client.post("/api/chat", json=CHAT)
        await until(lambda: len(collector.asked_for("/v1/traces")) >= 3, "the third try")
    bodies = {asked.body for asked in collector.asked_for("/v1/traces")}
    assert len(bodies) == 1


async def test_a_collector_that_is_away_or_never_answers_costs_nobody_an_answer(tmp_path: Path) -> None:
    stub, collector = StubOllama(), StubOllama()
    collector.on("/v1/traces", Reply([asyncio.Event()]))  # never set
    async with served(stub) as host, served(collector) as there:
        for endpoint in ("http://127.0.0.1:9", there):
            async with (
                loupe(tmp_path / endpoint.rpartition(":")[2], [host], otlp_endpoint=endpoint) as product,
                httpx.AsyncClient(base_url=product.url, timeout=30) as client,
            ):
                for _ in range(5):
                    answer = await client.post("/api/chat", json=CHAT)
                    assert answer.content.endswith(recording("chat_stream").lines[-1].encode() + b"\n")
                assert "loupe_trace_export_waiting" in (await client.get("/metrics")).text


class Sender:
    """A collector that answers as it is told to."""

    def __init__(self, *deliveries: Delivery) -> None:
        self.deliveries, self.batches = list(deliveries), list[int]()

    async def send(self, spans: Any) -> Delivery:
        self.batches.append(len(spans))
        return self.deliveries.pop(0) if len(self.deliveries) > 1 else self.deliveries[0]

    async def close(self) -> None:
        self.deliveries = []


def counted(metrics: Metrics, outcome: str) -> float:
    lines = metrics.render().decode().splitlines()
    key = f'loupe_trace_export_requests_total{{outcome="{outcome}"}} '
    return sum(float(line.removeprefix(key)) for line in lines if line.startswith(key))


async def test_what_finds_no_room_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_export, "QUEUE_LIMIT", 10)
    metrics, sender = Metrics(), Sender(Delivery(taken=True))
    export = SpanExport(sender, metrics)
    for _ in range(25):
        export.offer(record())
    assert counted(metrics, "dropped") == 15
    export.start()
    await until(lambda: counted(metrics, "sent") == 10, "the ten that had room")
    await export.stop()
    assert sender.batches == [10]


@pytest.mark.parametrize(
    ("deliveries", "outcome", "tries"),
    [
        ([Delivery(taken=False, why="400")], "refused", 1),
        ([Delivery(taken=False, again=True, wait=0.0, why="503")], "dropped", span_export.TRIES),
    ],
)
async def test_a_batch_that_is_not_taken_is_given_up_and_the_next_one_goes(
    deliveries: list[Delivery], outcome: str, tries: int
) -> None:
    metrics, sender = Metrics(), Sender(*deliveries)
    export = SpanExport(sender, metrics)
    export.start()
    export.offer(record())
    await until(lambda: counted(metrics, outcome) == 1, "it was given up")
    assert sender.batches == [1] * tries
    sender.deliveries = [Delivery(taken=True)]
    export.offer(record())
    await until(lambda: counted(metrics, "sent") == 1, "the next one")
    await export.stop()


async def test_what_waits_goes_out_when_the_process_ends() -> None:
    metrics, sender = Metrics(), Sender(Delivery(taken=True))
    export = SpanExport(sender, metrics, every=1000.0)
    export.start()
    export.offer(record())
    await export.stop()
    assert (counted(metrics, "sent"), sender.batches) == (1, [1])


def test_nothing_of_it_is_loaded_where_no_collector_is_set() -> None:
    look = "import sys, app.asgi, app.bootstrap; print([m for m in sys.modules if m.startswith('opentelemetry.proto')])"
    told = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
