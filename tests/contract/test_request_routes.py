"""The last requests over real sockets: names, span trees, trace context to the host, and who sees which."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.trace_context import span_id
from app.services.chat import Caller
from proving.stand import loupe
from tests.recordings import recording
from tests.stub_ollama import MODEL, Reply, StubOllama, error, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
RECORDS = [line.encode() + b"\n" for line in recording("chat_stream").lines]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
EMBEDDED = Reply([b'{"model":"m","embeddings":[[1.0]]}'], content_type="application/json; charset=utf-8")
COLD = {"temperature": 0, "num_ctx": 1024}


def chat(text: str = "Name the capital of France.", **more: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "options": COLD, **more}


@asynccontextmanager
async def relay(folder: Path, **settings: object) -> AsyncIterator[tuple[httpx.AsyncClient, StubOllama]]:
    stub = StubOllama()
    async with (
        served(stub) as host,
        loupe(folder, [host], **settings) as product,
        httpx.AsyncClient(base_url=product.url, timeout=30) as client,
    ):
        yield client, stub


async def told(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    """A request that has ended. Its line comes when its last byte has been read, a moment after the client has it."""
    async with asyncio.timeout(30):
        while (answer := await client.get(f"/loupe/requests/{name}")).json().get("status") in (None, "running"):
            await asyncio.sleep(0.01)
    found: dict[str, Any] = answer.json()
    return found


def spans(node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node["name"]: node} | {name: one for child in node["children"] for name, one in spans(child).items()}


async def test_a_request_is_told_with_its_layers_options_counts_and_cache_decision(tmp_path: Path) -> None:
    async with relay(tmp_path) as (client, _):
        answer = await client.post("/api/chat", json=chat())
        one = await told(client, answer.headers["x-request-id"])
        rows = (await client.get("/loupe/requests")).json()
    assert answer.headers["x-loupe-request-id"] == answer.headers["x-request-id"] == one["id"]
    last = json.loads(RECORDS[-1])
    assert (one["model"], one["endpoint"], one["status"], one["host"]) == (MODEL, "chat", "ok", "host0")
    assert (one["prompt_tokens"], one["output_tokens"]) == (last["prompt_eval_count"], last["eval_count"])
    assert one["options"] == COLD
    assert one["cache"] == {"outcome": "miss", "reason": None, "age": None}
    assert (one["finish_reason"], one["question"], one["answer"]) == ("stop", None, None)
    assert one["pace"][-1][1] == sum(bool(json.loads(line)["message"]["content"]) for line in RECORDS)
    found = spans(one["spans"])
    assert set(found) == {
        "request", "cache", "key", "queue", "host", "load", "prefill", "first token", "decode", "write",
    }  # fmt: skip
    assert found["host"]["attributes"] == {"host": "host0", "attempt": 1, "outcome": "ok"}
    assert all(0 <= each["start_ns"] <= one["duration_ns"] for each in found.values())
    assert found["request"]["duration_ns"] == one["duration_ns"] >= one["ttft_ns"] > 0
    assert [row["id"] for row in rows["requests"]] == [one["id"]]
    assert "spans" not in rows["requests"][0]
    assert rows["running"] == 0
    assert 0 < rows["kept"]["bytes"] < rows["kept"]["limit"]


async def test_every_answer_bears_a_request_id_and_a_sane_one_of_the_client_is_kept(tmp_path: Path) -> None:
    async with relay(tmp_path) as (client, _):
        for path in ("/api/tags", "/healthz", "/nowhere/at/all", "/api/nowhere", "/loupe/requests"):
            answer = await client.get(path, headers={"X-Request-Id": "build-7/step:3"})
            if path != "/nowhere/at/all":  # a page's
                assert answer.headers["x-request-id"] == "build-7/step:3", path
        answer = await client.post("/api/chat", json=chat(), headers={"X-Request-Id": "build-7/step:3"})
        assert answer.headers["x-request-id"] == "build-7/step:3"
        one = await told(client, answer.headers["x-loupe-request-id"])
        assert one["client_id"] == "build-7/step:3"
        for wrong in ("", "two words", "x" * 129, "<script>", "\xe9", '"', "-"):
            answer = await client.get("/api/version", headers={"X-Request-Id": wrong.encode("latin-1")})
            assert len(bytes.fromhex(answer.headers["x-request-id"])) == 8, wrong
        twice = [("X-Request-Id", "a"), ("X-Request-Id", "b")]
        assert (await client.get("/api/version", headers=twice)).headers["x-request-id"] not in ("a", "b", "a, b")


async def test_an_answer_from_the_cache_in_front_of_the_routes_is_told_as_well(tmp_path: Path) -> None:
    async with relay(tmp_path) as (client, _):
        await client.post("/api/chat", json=chat())
        async with asyncio.timeout(30):
            while (await client.get("/loupe/cache")).json()["stored"] < 1:
                await asyncio.sleep(0.01)
        named = {"X-Request-Id": "again", "traceparent": f"00-{TRACE}-{PARENT}-01"}
        told_ids = [
            (await client.post("/api/chat", json=chat(), headers=named)).headers["x-loupe-request-id"] for _ in "123"
        ]
        for request_id in told_ids:
            one = await told(client, request_id)
            assert (one["cache"]["outcome"], one["client_id"], one["trace_id"]) == ("hit", "again", TRACE)
            assert one["options"] == COLD
        newest = await told(client, "again")
        rows = (await client.get("/loupe/requests", params={"cache": "hit"})).json()["requests"]
    assert newest["id"] == told_ids[-1]
    assert [row["id"] for row in rows] == told_ids[::-1]


async def test_a_clients_question_is_asked_again_past_the_cache_also_where_that_had_answered(tmp_path: Path) -> None:
    stub = StubOllama()
    async with (
        served(stub) as host,
        loupe(tmp_path, [host], trace_words=True) as product,
        httpx.AsyncClient(base_url=product.url, timeout=30) as client,
    ):
        asking, telemetry = product.services.asking_again, product.services.telemetry
        first = (await client.post("/api/chat", json=chat())).headers["x-loupe-request-id"]
        async with asyncio.timeout(30):
            while (await client.get("/loupe/cache")).json()["stored"] < 1:
                await asyncio.sleep(0.01)
        ids = [(await client.post("/api/chat", json=chat())).headers["x-loupe-request-id"] for _ in "12"]
        assert [(await told(client, one))["cache"]["outcome"] for one in ids] == ["hit", "hit"]
        asked = [request.json for request in stub.asked_for("/api/chat")]
        for request_id in (first, *ids):
            again = await asking.ask(request_id, Caller(trace=telemetry.trace()))
            one = await told(client, again)
            assert (one["cache"]["outcome"], one["status"]) == ("refresh", "ok")
            found = asking.told(again, "local")
            assert found is not None and found.text == one["answer"]
        anew = [request.json for request in stub.asked_for("/api/chat")]
    assert len(asked) == 1 and len(anew) == 4
    assert all((one["messages"], one["options"]) == (asked[0]["messages"], asked[0]["options"]) for one in anew)


async def test_a_trace_context_is_passed_on_to_the_host_and_a_malformed_one_is_not(tmp_path: Path) -> None:
    good = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    async with relay(tmp_path) as (client, stub):
        stub.on("/api/embed", EMBEDDED)
        sent = []
        for headers in (good, {"traceparent": f"00-{TRACE}-{PARENT}-zz", "tracestate": "vendor=1"}, {}):
            body = chat(options={})  # sampled: each goes to the host
            sent.append((await client.post("/api/chat", json=body, headers=headers)).headers["x-loupe-request-id"])
        told_v1 = {"model": MODEL, "messages": chat()["messages"], "temperature": 0}
        sent.append(
            (await client.post("/v1/chat/completions", json=told_v1, headers=good)).headers["x-loupe-request-id"]
        )
        await client.post("/api/embed", json={"model": MODEL, "input": "a"}, headers=good)
        heads = [asked.headers for asked in stub.asked_for("/api/chat") + stub.asked_for("/api/embed")]
        others = [asked.headers for asked in stub.asked if asked.path not in ("/api/chat", "/api/embed")]
    own = f"00-{TRACE}-{span_id(sent[0], 1)}-01"
    assert [head.get("traceparent") for head in heads[:4]] == [own, None, None, f"00-{TRACE}-{span_id(sent[3], 1)}-01"]
    assert [head.get("tracestate") for head in heads[:4]] == ["vendor=1", None, None, "vendor=1"]
    assert heads[4]["traceparent"].startswith(f"00-{TRACE}-")
    assert others
    assert not any("traceparent" in head for head in others)


async def test_failures_embeddings_and_what_still_runs_are_told_too(tmp_path: Path) -> None:
    async with relay(tmp_path) as (client, stub):
        stub.on("/api/embed", EMBEDDED)
        gate = asyncio.Event()
        stub.on("/api/chat", error(500, "no room"), Reply([RECORDS[0], gate, *RECORDS[1:]]))
        await client.post("/api/embed", json={"model": MODEL, "input": "a"})
        assert (await client.post("/api/chat", json=chat("a"))).status_code == 500
        async with client.stream("POST", "/api/chat", json=chat("b"), headers={"X-Request-Id": "long"}) as answer:
            records = answer.aiter_lines()
            await anext(records)
            running = (await client.get("/loupe/requests/long")).json()
            count = (await client.get("/loupe/requests")).json()["running"]
            gate.set()
            async for _ in records:
                pass
        await told(client, "long")
        failed = (await client.get("/loupe/requests", params={"status": "failed"})).json()["requests"]
        rows = (await client.get("/loupe/requests")).json()["requests"]
    assert (running["status"], running["model"], count) == ("running", MODEL, 1)
    assert [(row["status"], row["error"]) for row in failed] == [("host_refused", "no room")]
    assert [row["endpoint"] for row in rows] == ["chat", "chat", "embed"]


async def test_words_are_kept_only_where_the_setting_says_so(tmp_path: Path) -> None:
    for words in (False, True):
        async with relay(tmp_path / str(words), trace_words=words) as (client, _):
            one = await told(client, (await client.post("/api/chat", json=chat())).headers["x-request-id"])
            found = (await client.get("/loupe/requests", params={"q": "CAPITAL"})).json()["requests"]
            everything = (await client.get("/metrics")).text
        said = "".join(json.loads(line)["message"]["content"] for line in RECORDS)
        assert (one["question"], one["answer"]) == ((chat()["messages"][0]["content"], said) if words else (None, None))  # type: ignore[index]
        assert len(found) == words
        assert "capital" not in everything


@pytest.mark.parametrize(
    ("query", "about"),
    [
        ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=%C2%B2", "limit"), ("limit=many", "limit"),
        ("since=yesterday", "since"), ("since=nan", "since"), ("order=fast", "order"), ("modell=x", "modell"),
    ],
)  # fmt: skip
async def test_a_wrong_filter_is_refused_by_name(shared: httpx.AsyncClient, query: str, about: str) -> None:
    answer = await shared.get(f"/loupe/requests?{query}")
    assert answer.status_code == 400
    assert about in answer.json()["error"]


async def test_an_unknown_request_is_a_404(shared: httpx.AsyncClient) -> None:
    answer = await shared.get("/loupe/requests/ffffffffffffffff")
    assert (answer.status_code, "not known" in answer.json()["error"]) == (404, True)


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with relay(tmp_path) as (client, _):
        yield client
