"""The response cache over real sockets: how an answer says where it came from, and the routes to what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from proving.stand import loupe
from tests.recordings import recording
from tests.stub_ollama import MODEL, Reply, StubOllama, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
RECORDS = [line.encode() + b"\n" for line in recording("chat_stream").lines]
SAID = "".join(json.loads(record)["message"]["content"] for record in RECORDS)
COLD = {"temperature": 0, "num_ctx": 1024}


def chat(text: str = "Name the capital of France.", **more: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "options": COLD, **more}


@asynccontextmanager
async def relay(folder: Path, **settings: object) -> AsyncIterator[tuple[httpx.AsyncClient, StubOllama]]:
    stub = StubOllama()
    stub.on("/api/chat", Reply(RECORDS))
    async with (
        served(stub) as host,
        loupe(folder, [host], **settings) as product,
        httpx.AsyncClient(base_url=product.url, timeout=20) as client,
    ):
        yield client, stub


async def kept(client: httpx.AsyncClient, answers: int) -> None:
    """An answer is kept when it has been sent: the next one may join it a moment longer."""
    while (await client.get("/loupe/cache")).json()["stored"] < answers:
        await asyncio.sleep(0)


def came_from(answer: httpx.Response) -> str:
    return answer.headers["x-loupe-cache"]


async def test_an_answer_says_where_it_came_from_streamed_or_not(tmp_path: Path) -> None:
    async with relay(tmp_path) as (client, stub):
        first = await client.post("/api/chat", json=chat())
        await kept(client, 1)
        streamed = await client.post("/api/chat", json=chat())
        whole = await client.post("/api/chat", json=chat(stream=False, keep_alive="1m"))
        asked = len(stub.asked_for("/api/chat"))
    assert (came_from(first), came_from(streamed), came_from(whole)) == ("miss", "hit; age=0", "hit; age=0")
    assert asked == 1
    told = [json.loads(line) for line in streamed.content.splitlines()]
    before = [json.loads(line) for line in first.content.splitlines()]
    assert streamed.headers["content-type"] == first.headers["content-type"]
    assert [{**record, "created_at": ""} for record in told] == [{**record, "created_at": ""} for record in before]
    assert all(record["created_at"] > "2026" for record in told)
    assert whole.json()["message"]["content"] == SAID
    assert whole.json()["eval_count"] == before[-1]["eval_count"]


async def test_the_header_says_what_a_request_wants_and_an_unknown_word_is_refused(tmp_path: Path) -> None:
    async with relay(tmp_path) as (client, stub):

        async def ask(stored: int, mode: str, **more: object) -> httpx.Response:
            headers = {"X-Loupe-Cache": mode} if mode else {}
            answer = await client.post("/api/chat", json=chat(**more), headers=headers)
            await kept(client, stored)
            return answer

        asked = [await ask(*each) for each in ((1, ""), (1, "Bypass"), (2, "refresh"), (2, ""))]
        options = {"num_ctx": 1024}
        sampled = [await ask(*each, options=options) for each in ((2, ""), (3, "USE"), (3, "use"))]
        wrong = await client.post("/api/chat", json=chat(), headers={"X-Loupe-Cache": "maybe"})
        sent = len(stub.asked_for("/api/chat"))
    assert [*map(came_from, asked)] == ["miss", 'bypass; reason="asked for"', "refresh", "hit; age=0"]
    assert [*map(came_from, sampled)] == ['bypass; reason="not deterministic"', "miss", "hit; age=0"]
    assert wrong.status_code == 400
    assert "use, refresh, bypass" in wrong.json()["error"]
    assert sent == 5


async def test_the_setting_speaks_for_requests_that_do_not(tmp_path: Path) -> None:
    async with relay(tmp_path, cache_mode="bypass") as (client, _):
        silent = [came_from(await client.post("/api/chat", json=chat())) for _ in range(2)]
        wish = {"X-Loupe-Cache": "use"}
        first = came_from(await client.post("/api/chat", json=chat(), headers=wish))
        await kept(client, 1)
        again = came_from(await client.post("/api/chat", json=chat(), headers=wish))
    assert silent == ['bypass; reason="asked for"'] * 2
    assert (first, again) == ("miss", "hit; age=0")


async def test_requests_that_join_say_so(tmp_path: Path) -> None:
    async with relay(tmp_path) as (client, stub):
        gate = asyncio.Event()
        stub.on("/api/chat", Reply([RECORDS[0], gate, *RECORDS[1:]]))
        asking = [asyncio.create_task(client.post("/api/chat", json=chat())) for _ in range(3)]
        while (await client.get("/loupe/cache")).json()["joined"] < 2:
            await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(*asking)
    assert sorted(came_from(answer).partition(";")[0] for answer in answers) == ["joined", "joined", "miss"]
    assert len({answer.content for answer in answers}) == 1


async def test_the_owner_sees_searches_deletes_and_exports_what_is_kept(tmp_path: Path) -> None:
    async with relay(tmp_path) as (client, _):
        for text in ("Name the capital of France.", "Name the capital of Spain.", "Count to three."):
            await client.post("/api/chat", json=chat(text))
        await kept(client, 3)
        await client.post("/api/chat", json=chat("Count to three."))
        stats = (await client.get("/loupe/cache")).json()
        assert (stats["entries"], stats["hits"], stats["misses"], stats["hit_rate"]) == (3, 1, 3, 0.25)
        assert stats["tokens_saved"] > 0 and stats["off"] == "" and sum(band["entries"] for band in stats["ages"]) == 3

        page = (await client.get("/loupe/cache/entries", params={"limit": 2})).json()
        rest = (await client.get("/loupe/cache/entries", params={"limit": 2, "before": page["next"]})).json()
        questions = [entry["question"] for entry in page["entries"] + rest["entries"]]
        assert questions == ["Count to three.", "Name the capital of Spain.", "Name the capital of France."]
        assert rest["next"] == ""
        [spain] = (await client.get("/loupe/cache/entries", params={"q": "spain"})).json()["entries"]
        one = (await client.get(f"/loupe/cache/entries/{spain['key']}")).json()
        assert (one["answer"], one["model"], one["done_reason"]) == (SAID, MODEL, "stop")

        exported = await client.get("/loupe/cache/export")
        lines = [json.loads(line) for line in exported.content.splitlines()]
        assert [(line["question"], line["answer"]) for line in lines] == [(question, SAID) for question in questions]
        assert exported.headers["content-type"] == "application/x-ndjson"

        assert (await client.delete(f"/loupe/cache/entries/{spain['key']}")).json() == {"deleted": 1}
        for gone in (
            await client.get(f"/loupe/cache/entries/{spain['key']}"),
            await client.delete("/loupe/cache/entries/x"),
        ):
            assert gone.status_code == 404 and "not in the cache" in gone.json()["error"]
        assert (await client.delete("/loupe/cache/entries")).status_code == 400
        assert (await client.delete("/loupe/cache/entries", params={"model": "other"})).json() == {"deleted": 0}
        assert (await client.delete("/loupe/cache/entries", params={"model": MODEL})).json() == {"deleted": 2}
        await client.post("/api/chat", json=chat())
        await kept(client, 4)
        assert (await client.delete("/loupe/cache")).json() == {"deleted": 1}
        assert (await client.get("/loupe/cache/entries")).json() == {"entries": [], "next": ""}
        for wrong in ({"limit": "0"}, {"limit": "many"}, {"before": "then"}):
            assert (await client.get("/loupe/cache/entries", params=wrong)).status_code == 400


async def test_a_cache_that_is_off_answers_chats_and_says_why(tmp_path: Path) -> None:
    async with relay(tmp_path, cache_bytes=0) as (client, stub):
        answers = [await client.post("/api/chat", json=chat()) for _ in range(2)]
        stats = (await client.get("/loupe/cache")).json()
        refused = await client.get("/loupe/cache/export")
        sent = len(stub.asked_for("/api/chat"))
    assert came_from(answers[0]) == 'miss; reason="the cache is off"'
    # The second may come while the first, of which its client has all, is not quite over yet.
    assert came_from(answers[1]).partition(";")[0] == ("miss" if sent == 2 else "joined")
    assert stats["off"] == "turned off: LOUPE_CACHE_BYTES is 0"
    assert refused.status_code == 503 and "LOUPE_CACHE_BYTES" in refused.json()["error"]


async def test_the_answers_of_a_model_die_with_its_content(tmp_path: Path) -> None:
    async with relay(tmp_path) as (client, stub):
        await client.post("/api/chat", json=chat())
        await kept(client, 1)
        [entry] = (await client.get("/loupe/cache/entries")).json()["entries"]
        stub.models[MODEL] = "e" * 64
        await client.get("/readyz")  # asks the host for its list
        assert (await client.get("/loupe/cache/entries")).json()["entries"] == []
        assert came_from(await client.post("/api/chat", json=chat())) == "miss"
        await kept(client, 2)
        [anew] = (await client.get("/loupe/cache/entries")).json()["entries"]
    assert (entry["digest"], anew["digest"]) == ("d" * 64, "e" * 64)
