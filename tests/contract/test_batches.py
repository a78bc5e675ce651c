"""Batch jobs as they are served, before a scripted host: begun, paused, gone on with, read, and never before people."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.errors import DiskFull
from app.services.access_keys import KeyScope, KeyWish
from app.services.batches import running
from app.services.batches.store import BatchStore
from app.services.jobs import JobView
from proving.stand import Loupe, ask, chat, loupe, until
from tests.stub_ollama import Asked, Reply, StubOllama, error, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90)]
MODEL, OTHER = "m:1b", "n:1b"
SECONDS = 30


def answer(text: str, hold: asyncio.Event | None = None) -> Reply:
    head = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", "content": text}}
    end = {**head, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop",
           "prompt_eval_count": 4, "eval_count": 2}  # fmt: skip
    parts = [json.dumps({**head, "done": False}).encode() + b"\n", json.dumps(end).encode() + b"\n"]
    return Reply([parts[0], hold, parts[1]] if hold else parts)


class Host(StubOllama):
    """Answers each chat with its question in capitals, unless `says` has something for it."""

    def __init__(self, says: Callable[[str], Reply | None] = lambda question: None) -> None:
        super().__init__(models={MODEL: "d" * 64, OTHER: "e" * 64})
        self.says = says

    def _reply(self, asked: Asked) -> Reply:
        if asked.path != "/api/chat" or not asked.json.get("messages"):
            return super()._reply(asked)
        question = asked.json["messages"][-1]["content"]
        return self.says(question) or answer(question.upper())

    @property
    def questions(self) -> list[str]:
        return [one.json["messages"][-1]["content"] for one in self.asked_for("/api/chat") if one.json.get("messages")]


@asynccontextmanager
async def running_on(folder: Path, host: str, slots: int = 1) -> AsyncIterator[tuple[Loupe, httpx.AsyncClient]]:
    async with (
        loupe(folder, [f"one={host};slots={slots}"]) as product,
        httpx.AsyncClient(base_url=product.url, timeout=20) as client,
    ):
        yield product, client


async def begin(client: httpx.AsyncClient, content: str, **more: object) -> dict[str, Any]:
    body = {"name": "prompts.txt", "content": content, "model": MODEL, **more}
    answered = await client.post("/loupe/batches", json=body)
    assert answered.status_code == 202, answered.text
    told: dict[str, Any] = answered.json()
    return told


async def over(product: Loupe, client: httpx.AsyncClient, batch: dict[str, Any]) -> dict[str, Any]:
    batches = product.services.batches
    await until(lambda: not batches.get(batch["id"]).active and not _works(batches.job(batch["id"])), SECONDS)
    told: dict[str, Any] = (await client.get(f"/loupe/batches/{batch['id']}")).json()
    return told


def _works(job: JobView | None) -> bool:
    return job is not None and job.active


async def test_a_file_is_answered_and_fetched_in_each_form(tmp_path: Path) -> None:
    host = Host(lambda question: error(400, "cannot") if question == "bad" else None)
    async with served(host) as url, running_on(tmp_path, url) as (product, client):
        content = "id,prompt,topic,model\na,one,x,\nb,bad,y,\nc,two,z,n:1b\nd,three,z,\n"
        began = await begin(client, content, name="my.csv", system="Be brief.", options={"seed": 3})
        assert (began["state"], began["total"], began["form"], began["models"]) == ("running", 4, "csv", [MODEL, OTHER])
        assert began["job"]["title"] == "Answering my.csv" and began["job"]["pausable"]
        told = await over(product, client, began)
        assert (told["state"], told["answered"], told["failed"], told["output_tokens"]) == ("done", 3, 1, 6)
        assert told["job"]["state"] == "done" and told["ended_at"]
        assert host.questions == ["one", "bad", "three", "two"]  # those of one model together
        asked = host.asked_for("/api/chat")[-1].json
        assert asked["messages"][0] == {"role": "system", "content": "Be brief."} and asked["options"] == {"seed": 3}

        path = f"/loupe/batches/{began['id']}/results"
        table = await client.get(path)
        assert table.headers["content-disposition"] == 'attachment; filename="my-answers.csv"'
        rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
        assert [(row["id"], row["topic"], row["answer"], row["error"]) for row in rows] == [
            ("a", "x", "ONE", ""), ("b", "y", "", "cannot"), ("c", "z", "TWO", ""), ("d", "z", "THREE", ""),
        ]  # fmt: skip
        lines = (await client.get(path, params={"format": "openai"})).text.splitlines()
        assert [json.loads(line)["response"]["status_code"] for line in lines] == [200, 400, 200, 200]
        [listed] = (await client.get("/loupe/batches")).json()["batches"]
        assert listed["id"] == began["id"]
        await client.delete(f"/loupe/batches/{began['id']}")
        assert (await client.get(path)).status_code == 404


async def test_a_table_of_lines_that_differ_has_every_column_of_them(tmp_path: Path) -> None:
    async with served(Host()) as url, running_on(tmp_path, url) as (product, client):
        rows = [{"prompt": "one"}, {"prompt": "two", "topic": "sky"}, "three", {"prompt": "cut \ud83d"}]
        began = await begin(client, "\n".join(map(json.dumps, rows)), name="a.jsonl")
        await over(product, client, began)
        path = f"/loupe/batches/{began['id']}/results"
        table = csv.DictReader(io.StringIO((await client.get(path, params={"format": "csv"})).text, newline=""))
        told = [(row["prompt"], row["topic"], row["answer"]) for row in table]
        assert told == [
            ("one", "", "ONE"),
            ("two", "sky", "TWO"),
            ("three", "", "THREE"),
            ("cut \ufffd", "", "CUT \ufffd"),
        ]
        since = await client.get(path, params={"format": "csv", "after": "0"})
        assert [len(row) for row in csv.reader(io.StringIO(since.text, newline=""))] == [
            len(table.fieldnames or ())
        ] * 4


async def test_openais_batch_format_is_answered_in_it(tmp_path: Path) -> None:
    host = Host()
    host.on("/api/embed", Reply([b'{"model":"m:1b","embeddings":[[0.5,1]],"prompt_eval_count":2}'],
                                content_type="application/json"))  # fmt: skip
    question = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "num_ctx": 512}
    rows = [
        {"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": question},
        {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": {"model": MODEL, "input": "hi"}},
    ]
    async with served(host) as url, running_on(tmp_path, url) as (product, client):
        began = await begin(client, "\n".join(map(json.dumps, rows)), name="a.jsonl")
        assert (await over(product, client, began))["answered"] == 2
        text = (await client.get(f"/loupe/batches/{began['id']}/results")).text
    answered, vectors = (json.loads(line) for line in text.splitlines())
    assert answered["custom_id"] == "c"
    assert answered["response"]["body"]["choices"][0]["message"]["content"] == "HI"
    assert vectors["response"]["body"]["data"][0]["embedding"] == [0.5, 1]
    assert host.asked_for("/api/chat")[-1].json["options"]["num_ctx"] == 512


async def test_answers_come_one_by_one_in_the_order_in_which_they_ended(tmp_path: Path) -> None:
    held = asyncio.Event()
    host = Host(lambda question: answer("LATE", held) if question == "slow" else None)
    async with served(host) as url, running_on(tmp_path, url, slots=2) as (product, client):
        began = await begin(client, "slow\ntwo\nthree")
        await until(lambda: product.services.batches.get(began["id"]).answered == 2, SECONDS)
        path = f"/loupe/batches/{began['id']}/results"
        first = await client.get(path, params={"after": "0"})
        assert [json.loads(line)["answer"] for line in first.text.splitlines()] == ["TWO", "THREE"]
        held.set()
        await over(product, client, began)
        rest = await client.get(path, params={"after": first.headers["x-loupe-last"]})
        assert [json.loads(line)["answer"] for line in rest.text.splitlines()] == ["LATE"]
        whole = (await client.get(path)).text.splitlines()
        assert [json.loads(line)["prompt"] for line in whole] == ["slow", "two", "three"]


async def test_a_pause_lasts_over_a_restart_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    held = asyncio.Event()
    host = Host(lambda question: answer("ONE", held) if question == "one" else None)
    async with served(host) as url:
        async with running_on(tmp_path, url) as (product, client):
            began = await begin(client, "one\ntwo\nthree")
            await until(lambda: host.questions == ["one"], SECONDS)
            paused = (await client.post(f"/loupe/batches/{began['id']}/pause")).json()
            assert (paused["state"], paused["job"]["state"]) == ("paused", "paused")
            held.set()
            await until(lambda: product.services.batches.get(began["id"]).answered == 1, SECONDS)
        async with running_on(tmp_path, url) as (product, client):
            there = (await client.get(f"/loupe/batches/{began['id']}")).json()
            assert (there["state"], there["answered"], there["job"]["state"]) == ("paused", 1, "paused")
            assert host.questions == ["one"]
            await client.post(f"/loupe/batches/{began['id']}/resume")
            assert (await over(product, client, began))["state"] == "done"
    assert host.questions == ["one", "two", "three"]


async def test_what_the_end_of_the_process_cut_off_goes_on_by_itself(tmp_path: Path) -> None:
    never = asyncio.Event()
    host = Host(lambda question: answer("TWO", never) if question == "two" else None)
    async with served(host) as url:
        async with running_on(tmp_path, url) as (product, client):
            began = await begin(client, "one\ntwo\nthree")
            await until(lambda: host.questions == ["one", "two"], SECONDS)
        host.says = lambda question: None
        async with running_on(tmp_path, url) as (product, client):
            assert (await over(product, client, began))["answered"] == 3
    assert Counter(host.questions) == {"one": 1, "two": 2, "three": 1}


async def test_a_cancelled_batch_keeps_its_answers_and_can_be_gone_on_with(tmp_path: Path) -> None:
    held = asyncio.Event()
    host = Host(lambda question: answer("TWO", held) if question == "two" else None)
    async with served(host) as url, running_on(tmp_path, url) as (product, client):
        began = await begin(client, "one\ntwo")
        await until(lambda: host.questions == ["one", "two"], SECONDS)
        stopped = (await client.post(f"/loupe/batches/{began['id']}/cancel")).json()
        assert (stopped["state"], stopped["answered"], stopped["job"]["state"]) == ("cancelled", 1, "cancelled")
        held.set()
        await client.post(f"/loupe/batches/{began['id']}/resume")
        assert (await over(product, client, began))["answered"] == 2


async def test_a_failure_that_may_pass_is_tried_again_and_the_rest_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "WAITS", (0.0, 0.0))
    broken = {"shaky": 1, "broken": 99}

    def says(question: str) -> Reply | None:
        if broken.get(question, 0) > 0:
            broken[question] -= 1
            return Reply([b'{"error":"it broke"}\n'])
        return None

    host = Host(says)
    async with served(host) as url, running_on(tmp_path, url) as (product, client):
        began = await begin(client, "shaky\nbroken\nfine")
        told = await over(product, client, began)
        assert (told["state"], told["answered"], told["failed"]) == ("done", 2, 1)
        assert Counter(host.questions)["broken"] == 3
        results = await client.get(f"/loupe/batches/{began['id']}/results")
        rows = [json.loads(line) for line in results.text.splitlines()]
        assert [(row["answer"], row["tries"]) for row in rows] == [("SHAKY", 2), ("", 3), ("FINE", 1)]
        assert rows[1]["error"] == "it broke"
        broken.clear()
        again = (await client.post(f"/loupe/batches/{began['id']}/retry")).json()
        assert (again["state"], again["failed"]) == ("running", 0)
        assert (await over(product, client, began))["answered"] == 3
        refused = await client.post(f"/loupe/batches/{began['id']}/retry")
        assert (refused.status_code, refused.json()["error"]) == (400, "no prompt of prompts.txt failed")


async def test_a_full_disk_stops_the_batch_and_it_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()
    async with served(host) as url, running_on(tmp_path, url) as (product, client):

        def full(*_: object) -> bool:
            raise DiskFull("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(BatchStore, "finish", full)
            began = await begin(client, "one\ntwo")
            told = await over(product, client, began)
        assert (told["state"], told["error"], told["answered"]) == ("failed", "the disk is full", 0)
        await client.post(f"/loupe/batches/{began['id']}/resume")
        assert (await over(product, client, began))["answered"] == 2


async def test_somebody_who_chats_is_next_and_a_long_answer_gives_way(tmp_path: Path) -> None:
    held, order = asyncio.Event(), list[str]()

    def says(question: str) -> Reply | None:
        order.append(question)
        return answer("LONG", held) if question == "long" and order.count("long") == 1 else None

    host = Host(says)
    async with served(host) as url, running_on(tmp_path, url) as (product, client):
        began = await begin(client, "long\nnext", options={"temperature": 0})  # which goes by the cache
        await until(lambda: order == ["long"], SECONDS)
        told = await asyncio.wait_for(ask(product.url, chat("person", model=MODEL)), SECONDS)
        assert told.text == "PERSON"  # though the answer before it never ends by itself
        assert (await over(product, client, began))["answered"] == 2
    assert order == ["long", "person", "long", "next"]


async def test_what_cannot_be_asked_is_told_so(tmp_path: Path) -> None:
    async with served(Host()) as url, running_on(tmp_path, url) as (product, client):
        cases: list[tuple[dict[str, object], int, str]] = [
            ({"content": "hi", "model": "no-such:1b"}, 404, "no-such:1b"),
            ({"content": "hi"}, 400, "no model is named"),
            ({"content": ""}, 400, "there is no prompt in it"),
            ({"content": "hi", "colour": 1}, 400, "unknown: colour"),
            ({"content": "hi", "form": "xml"}, 400, "form is one of jsonl, csv, text, openai"),
            ({"content": "hi", "options": 3}, 400, "options must be an object"),
        ]
        for body, status, words in cases:
            answered = await client.post("/loupe/batches", json=body)
            assert (answered.status_code, words in answered.json()["error"]) == (status, True), answered.text
        began = await begin(client, "hi")
        await over(product, client, began)
        path = f"/loupe/batches/{began['id']}"
        for verb, words in (("pause", "nothing to pause"), ("resume", "is done"), ("retry", "no prompt of")):
            refused = await client.post(f"{path}/{verb}")
            assert (refused.status_code, words in refused.json()["error"]) == (400, True)
        wrong = await client.get(f"{path}/results", params={"format": "xml"})
        assert (wrong.status_code, wrong.json()["error"]) == (400, "format is one of jsonl, csv, openai")
        assert (await client.get(f"{path}/results", params={"after": "x"})).status_code == 400
        assert (await client.get("/loupe/batches/none")).status_code == 404


async def test_a_key_sees_its_own_batches_alone_and_asks_its_own_models(tmp_path: Path) -> None:
    async with served(Host()) as url, running_on(tmp_path, url) as (product, client):
        keys = product.services.keys
        keys.create(KeyWish("owner", KeyScope.ADMIN))
        mine, theirs = (
            {"authorization": f"Bearer {keys.create(KeyWish(name, KeyScope.INFER, (MODEL,)))[1]}"}
            for name in ("a", "b")
        )
        body = {"name": "p.txt", "content": "hi", "model": MODEL}
        began = (await client.post("/loupe/batches", json=body, headers=mine)).json()
        assert began["owner"] != "local"
        path = f"/loupe/batches/{began['id']}"
        assert (await client.get(path, headers=theirs)).status_code == 404
        assert (await client.delete(path, headers=theirs)).status_code == 404
        assert (await client.get("/loupe/batches", headers=theirs)).json()["batches"] == []
        assert len((await client.get("/loupe/batches", headers=mine)).json()["batches"]) == 1
        refused = await client.post("/loupe/batches", json={**body, "model": OTHER}, headers=mine)
        assert (refused.status_code, "may use" in refused.json()["error"]) == (404, True)
        await until(lambda: not product.services.batches.get(began["id"]).active, SECONDS)
        assert product.services.batches.get(began["id"]).answered == 1
