"""A teacher's answers as training data, over HTTP: a job of the server that loses nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from proving.stand import Loupe, loupe, until
from tests.stub_ollama import Reply, StubOllama, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
MODEL = "m:1b-fp16"
QUESTIONS = ["First?", "Second?", "Third?"]
STOP = {"done": True, "done_reason": "stop", "eval_count": 3, "eval_duration": 1000}


def answer(text: str, **end: object) -> Reply:
    records = [{"model": MODEL, "response": text, "done": False}, {"model": MODEL, "response": "", **STOP, **end}]
    return Reply([json.dumps(record).encode() + b"\n" for record in records])


def stub(*replies: Reply) -> StubOllama:
    made = StubOllama(models={MODEL: "d" * 64})
    made.on("/api/generate", *(replies or (answer("An answer."),)))
    return made


@asynccontextmanager
async def running(folder: Path, host: str) -> AsyncIterator[tuple[Loupe, httpx.AsyncClient]]:
    async with loupe(folder, [host]) as product, httpx.AsyncClient(base_url=product.url, timeout=20) as client:
        yield product, client


async def over(product: Loupe, client: httpx.AsyncClient, set_id: str) -> dict:
    await until(lambda: product.services.teaching.get(set_id).state != "running", 20)
    told: dict = (await client.get(f"/loupe/training/{set_id}")).json()
    return told


async def begin(client: httpx.AsyncClient, **more: object) -> dict:
    answered = await client.post("/loupe/training", json={"model": MODEL, "questions": QUESTIONS, **more})
    assert answered.status_code == 202, answered.text
    return answered.json()


async def test_a_set_is_answered_fetched_in_both_forms_and_deleted(tmp_path: Path) -> None:
    host = stub(answer("One."), answer("Two goes on and", done_reason="length"), answer("Three."))
    async with served(host) as url, running(tmp_path, url) as (product, client):
        began = await begin(client, system="Be brief.", tokens=77)
        assert (began["state"], began["total"], began["job"]["title"]) == (
            "running", 3, f"Answers of {MODEL} as training data",
        )  # fmt: skip
        told = await over(product, client, began["id"])
        assert (told["state"], told["answered"], told["whole"]) == ("done", 3, 2)
        asked = [one.json for one in host.asked_for("/api/generate") if one.json.get("prompt")]
        assert [one["prompt"] for one in asked] == QUESTIONS
        assert all(one["system"] == "Be brief." and one["options"]["num_predict"] == 77 for one in asked)

        data = await client.get(f"/loupe/training/{began['id']}/data")
        lines = [json.loads(line) for line in data.text.splitlines()]
        assert [line["messages"][-1]["content"] for line in lines] == ["One.", "Three."]
        assert 'filename="loupe-training-' in data.headers["content-disposition"]
        shared = (await client.get(f"/loupe/training/{began['id']}/data", params={"form": "sharegpt"})).json()
        assert shared[0]["conversations"][0] == {"from": "system", "value": "Be brief."}
        manifest = (await client.get(f"/loupe/training/{began['id']}/manifest")).json()
        assert (manifest["teacher"]["model"], manifest["teacher"]["digest"]) == (MODEL, "d" * 64)
        assert manifest["options"]["num_predict"] == 77
        assert manifest["examples"] == 2 and manifest["left_out"] == ["own-002"]

        assert [one["id"] for one in (await client.get("/loupe/training")).json()["sets"]] == [began["id"]]
        await client.delete(f"/loupe/training/{began['id']}")
        assert (await client.get(f"/loupe/training/{began['id']}")).status_code == 404


async def test_after_a_stop_it_goes_on_at_the_question_it_was_at(tmp_path: Path) -> None:
    never = asyncio.Event()
    first = stub(answer("One."), Reply([b'{"response": "Tw', never]))
    async with served(first) as url:
        async with running(tmp_path, url) as (product, client):
            began = await begin(client)
            await until(lambda: len(first.asked_for("/api/generate")) >= 2, 10)
        never.set()
        first.on("/api/generate", answer("Later."))
        before = len(first.asked_for("/api/generate"))
        async with running(tmp_path, url) as (product, client):
            told = await over(product, client, began["id"])
            assert (told["state"], told["answered"]) == ("done", 3)
            data = (await client.get(f"/loupe/training/{began['id']}/data")).text
    again = [one.json["prompt"] for one in first.asked_for("/api/generate")[before:]]
    assert again == QUESTIONS[1:]
    assert [json.loads(line)["messages"][1]["content"] for line in data.splitlines()] == ["One.", "Later.", "Later."]


async def test_what_was_answered_before_it_was_stopped_is_kept(tmp_path: Path) -> None:
    held = asyncio.Event()
    host = stub(answer("One."), Reply([b'{"response": "Tw', held]))
    async with served(host) as url, running(tmp_path, url) as (product, client):
        began = await begin(client)
        await until(lambda: len(host.asked_for("/api/generate")) >= 2, 10)
        stopped = (await client.post(f"/loupe/training/{began['id']}/cancel")).json()
        assert (stopped["state"], stopped["answered"]) == ("cancelled", 1)
        held.set()


async def test_what_cannot_be_asked_is_told_so(tmp_path: Path) -> None:
    async with served(stub()) as url, running(tmp_path, url) as (product, client):
        cases = [
            ({"model": "no-such:1b"}, 404, "no-such:1b"),
            ({}, 400, "teacher"),
            ({"model": MODEL, "tokens": 0}, 400, "tokens is between"),
            ({"model": MODEL, "question_set": "none"}, 400, "there is standard"),
            ({"model": MODEL, "colour": 1}, 400, "unknown: colour"),
            ({"model": MODEL, "questions": "one"}, 400, "cannot be asked"),
            ({"model": MODEL, "host": "elsewhere"}, 400, "not on elsewhere"),
        ]
        for body, status, told in cases:
            answered = await client.post("/loupe/training", json=body)
            assert answered.status_code == status and told in answered.json()["error"], body
        assert (await client.get("/loupe/training/..%2f..")).status_code == 404
        began = await begin(client)
        wrong = await client.get(f"/loupe/training/{began['id']}/data", params={"form": "xml"})
        assert (wrong.status_code, wrong.json()["error"]) == (400, "form is one of messages, sharegpt")
        await over(product, client, began["id"])
