"""The queue over real sockets: what is told of it, its feed, and an operator's hand on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from proving.stand import Loupe, ask, chat, loupe, until
from tests.recordings import recording
from tests.stub_ollama import Reply, StubOllama, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
RECORDS = [line.encode() + b"\n" for line in recording("chat_stream").lines]


@asynccontextmanager
async def held(folder: Path) -> AsyncIterator[tuple[Loupe, httpx.AsyncClient, asyncio.Event]]:
    """Loupe over one host with one slot, which answers when the event is set."""
    stub, go = StubOllama(), asyncio.Event()
    stub.on("/api/chat", Reply([RECORDS[0], go, *RECORDS[1:]]))
    async with (
        served(stub) as host,
        loupe(folder, [host]) as product,
        httpx.AsyncClient(base_url=product.url, timeout=20) as client,
    ):
        try:
            yield product, client, go
        finally:
            go.set()


async def looked(client: httpx.AsyncClient) -> dict:
    return (await client.get("/loupe/queue")).json()


async def test_who_waits_and_who_runs_is_told_and_can_be_ended_or_moved(tmp_path: Path) -> None:
    async with held(tmp_path) as (product, client, go):
        begun = asyncio.Event()  # the first piece is there: what is ended after it ends in mid-answer
        asked = [
            asyncio.create_task(ask(product.url, chat(f"question {number}"), on_first=begun.set)) for number in range(3)
        ]
        await until(lambda: product.waiting == 2, 10)
        await asyncio.wait_for(begun.wait(), 10)
        queue = await looked(client)
        [running], [first, second] = queue["running"], queue["waiting"]
        assert (running["host"], running["phase"] in ("loading", "prefill", "decode")) == ("host0", True)
        assert [row["position"] for row in (first, second)] == [1, 2]
        assert (first["why"], second["why"]) == ("it is next", "one other goes first")
        assert queue["limits"]["waiting"] == 64

        moved = await client.post(f"/loupe/queue/{first['id']}", json={"priority": "batch"})
        assert [row["id"] for row in moved.json()["waiting"]] == [second["id"], first["id"]]
        for request in (second["id"], running["id"]):
            assert (await client.delete(f"/loupe/queue/{request}")).status_code == 200
        await until(lambda: product.waiting == 0, 10)
        go.set()
        outcomes = await asyncio.gather(*asked)
        assert sorted((one.status, one.complete) for one in outcomes) == [(200, False), (200, True), (503, False)]
        broken = next(one for one in outcomes if one.status == 200 and not one.complete)
        assert broken.last == {"error": "request canceled"}
        assert (await looked(client))["running"] == []


async def test_a_client_finds_its_request_by_the_name_it_gave_alone_and_shared(tmp_path: Path) -> None:
    async with held(tmp_path) as (product, client, _go):
        ahead = asyncio.create_task(ask(product.url, chat("ahead")))
        await until(lambda: product.busy == 1, 10)
        same = chat("the same", temperature=0)  # which the cache knows, so that the two share one answer
        asked = [asyncio.create_task(ask(product.url, same, headers={"X-Request-Id": name})) for name in ("me", "you")]
        await until(lambda: len(product.services.telemetry.running()) == 3 and product.waiting == 1, 10)

        [alone] = (await client.get("/loupe/queue", params={"request": "you"})).json()["waiting"]
        assert {one["client_id"] for one in alone["requests"]} == {"me", "you"}
        assert alone["position"] == 1
        none = (await client.get("/loupe/queue", params={"request": "nobody"})).json()
        assert (none["waiting"], none["running"]) == ([], [])
        async with client.stream("GET", "/loupe/queue/events", params={"request": "me"}) as feed:
            told = json.loads(await anext(line[6:] async for line in feed.aiter_lines() if line.startswith("data: ")))
        assert ([row["id"] for row in told["waiting"]], told["running"]) == ([alone["id"]], [])

        assert (await client.post("/loupe/queue/me", json={"priority": "batch"})).status_code == 200
        assert (await client.delete("/loupe/queue/you")).status_code == 200
        assert [one.status for one in await asyncio.gather(*asked)] == [503, 503]
        assert product.waiting == 0
        ahead.cancel()


async def test_a_refusal_says_which_bound_was_hit(tmp_path: Path) -> None:
    stub, go = StubOllama(), asyncio.Event()
    stub.on("/api/chat", Reply([RECORDS[0], go, *RECORDS[1:]]))
    async with served(stub) as host, loupe(tmp_path, [host], queue_per_client=1) as product:
        asked = [asyncio.create_task(ask(product.url, chat(str(number)))) for number in range(2)]
        await until(lambda: product.waiting == 1, 10)
        async with httpx.AsyncClient(base_url=product.url, timeout=20) as client:
            refused = await client.post("/api/chat", json=chat("one more"))
        assert (refused.status_code, refused.headers["x-loupe-queue"]) == (429, 'refused; reason="flow"; most=1')
        assert refused.json() == {"error": "server busy, please try again.  maximum pending requests exceeded"}
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        go.set()
        assert all(one.complete for one in await asyncio.gather(*asked))


async def test_bad_words_and_unknown_requests_are_told_so(tmp_path: Path) -> None:
    async with held(tmp_path) as (_, client, _go):
        wrong = await client.post("/loupe/queue/none", json={"priority": "first"})
        assert (wrong.status_code, wrong.json()) == (400, {"error": "priority must be one of: interactive, batch"})
        unknown = await client.post("/loupe/queue/none", json={"priority": "batch"})
        assert (unknown.status_code, unknown.json()) == (404, {"error": "no request none waits"})
        gone = await client.delete("/loupe/queue/none")
        assert (gone.status_code, gone.json()) == (404, {"error": "no request none waits or runs"})
        impatient = await ask(_.url, chat(), headers={"X-Loupe-Patience": "soon"})
        assert impatient.status == 400


async def test_a_paused_queue_takes_requests_and_serves_none_and_a_drained_one_takes_none(tmp_path: Path) -> None:
    async with held(tmp_path) as (product, client, go):
        go.set()
        assert (await client.post("/loupe/queue/pause")).json()["paused"] is True
        asked = asyncio.create_task(ask(product.url, chat()))
        await until(lambda: product.waiting == 1, 10)
        assert (await looked(client))["waiting"][0]["why"] == "dispatch is paused"
        assert (await client.post("/loupe/queue/drain")).json()["draining"] is True
        refused = await ask(product.url, chat())
        assert (refused.status, "drained" in refused.last["error"]) == (503, True)
        assert (await client.post("/loupe/queue/resume")).json()["draining"] is False
        assert (await asked).complete


async def test_one_who_wants_the_slot_soon_or_not_at_all_is_told_when_it_is_too_late(tmp_path: Path) -> None:
    async with held(tmp_path) as (product, _, _go):
        first = asyncio.create_task(ask(product.url, chat("one")))
        await until(lambda: product.busy == 1, 10)
        late = await ask(product.url, chat("two"), headers={"X-Loupe-Patience": "0.3"})
        assert (late.status, "no slot became free" in late.last["error"]) == (503, True)
        assert product.waiting == 0
        first.cancel()


async def test_the_feed_tells_each_change_and_sleeps_between(tmp_path: Path) -> None:
    async with held(tmp_path) as (product, client, go), client.stream("GET", "/loupe/queue/events") as feed:
        pictures = (json.loads(line[6:]) async for line in feed.aiter_lines() if line.startswith("data: "))
        assert (await anext(pictures))["running"] == []
        asked = asyncio.create_task(ask(product.url, chat()))
        while not (picture := await anext(pictures))["running"]:
            continue
        assert picture["waiting"] == []
        go.set()
        await asked
        while (await anext(pictures))["running"]:
            continue
