"""The batching lab over HTTP with a host that is not ours: measured as it is set up, and told what to set there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from proving.stand import Loupe, loupe, until
from tests.stub_ollama import Reply, StubOllama, error, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
MODEL = "m:1b-fp16"
END = {"done": True, "done_reason": "length", "eval_count": 4, "eval_duration": 1000, "prompt_eval_count": 90}


def stub() -> StubOllama:
    made = StubOllama(models={MODEL: "d" * 64})
    records = [{"model": MODEL, "response": word, "done": False} for word in ("14", ",", " 15", ",")]
    lines = [json.dumps(record).encode() + b"\n" for record in (*records, {"model": MODEL, "response": "", **END})]
    made.on("/api/generate", Reply(lines))
    return made


@asynccontextmanager
async def running(folder: Path, host: str) -> AsyncIterator[tuple[Loupe, httpx.AsyncClient]]:
    async with loupe(folder, [host]) as product, httpx.AsyncClient(base_url=product.url, timeout=20) as client:
        yield product, client


async def test_a_host_is_measured_as_it_is_and_what_to_set_there_is_told(tmp_path: Path) -> None:
    host = stub()
    async with served(host) as url, running(tmp_path, url) as (product, client):
        asked = {"model": MODEL, "most": 2, "rounds": 2, "shapes": [{"prompt": 16, "output": 4}]}
        began = await client.post("/loupe/batching", json=asked)
        assert began.status_code == 202, began.text
        study_id = began.json()["id"]
        await until(lambda: product.services.batching.get(study_id).state not in ("running", "paused"), 30)
        told = (await client.get(f"/loupe/batching/{study_id}")).json()
        assert (told["state"], [point["slots"] for point in told["points"]]) == ("done", [1, 2])
        assert told["advice"]["lines"][0].startswith("OLLAMA_NUM_PARALLEL=")
        sent = [one.json for one in host.asked_for("/api/generate") if one.json.get("prompt")]
        assert len(sent) == 1 + 2 * (4 + 4)  # the warm-up, and in each round four waves of one and two of two
        assert len({one["prompt"] for one in sent}) == len(sent) and all(one["raw"] for one in sent)
        assert host.asked_for("/api/generate")[-1].json["keep_alive"] == 0

        refused = await client.post(f"/loupe/batching/{study_id}/apply")
        assert refused.status_code == 400 and "set there: OLLAMA_NUM_PARALLEL" in refused.json()["error"]
        [row] = (await client.get("/loupe/batching")).json()["studies"]
        assert (row["id"], row["model"], row["advice"]) == (study_id, MODEL, told["advice"]["sentence"])
        await client.delete(f"/loupe/batching/{study_id}")
        assert (await client.get(f"/loupe/batching/{study_id}")).status_code == 404


async def test_a_study_that_failed_says_why_also_after_its_job_is_forgotten(tmp_path: Path) -> None:
    host = stub()
    host.on("/api/generate", error(400, "the blob is gone"))
    async with served(host) as url, running(tmp_path, url) as (product, client):
        study_id = (await client.post("/loupe/batching", json={"model": MODEL})).json()["id"]
        job = product.services.batching.job(study_id)
        assert job is not None
        await until(lambda: not product.services.jobs.get(job.id).active, 30)
    async with served(stub()) as url, running(tmp_path, url) as (product, client):
        told = (await client.get(f"/loupe/batching/{study_id}")).json()
        assert (told["state"], told["notes"][-1]) == ("failed", "It failed: the blob is gone.")
        assert told["job"] is None and told["ended_at"]


@pytest.mark.parametrize(
    ("body", "status", "wrong"),
    [
        ({}, 400, "say which model"),
        ({"model": MODEL, "slots": 4}, 400, "unknown: slots"),
        ({"model": MODEL, "most": 1}, 400, "most is"),
        ({"model": MODEL, "most": "8"}, 400, "most: '8' is no whole number"),
        ({"model": MODEL, "shapes": [{"promt": 3, "output": 4}]}, 400, "shapes: unknown: promt"),
        ({"model": MODEL, "shapes": [{"output": 4}]}, 400, "shapes: prompt is missing"),
        ({"model": MODEL, "kind": "options", "arms": [{"threads": 4, "flash": "on"}]}, 400, "neither true nor false"),
        ({"model": "nobody:7b"}, 404, "nobody:7b"),
        ({"model": MODEL, "kind": "options", "arms": [{"kv_type": "q8_0"}]}, 400, "set OLLAMA_KV_CACHE_TYPE there"),
    ],
)
async def test_what_cannot_be_measured_is_refused_at_once(
    body: dict[str, object], status: int, wrong: str, tmp_path: Path
) -> None:
    async with served(stub()) as url, running(tmp_path, url) as (_, client):
        answered = await client.post("/loupe/batching", json=body)
        assert answered.status_code == status and wrong in answered.json()["error"]


async def test_a_runtime_that_is_not_in_use_is_not_set_up(tmp_path: Path) -> None:
    async with served(stub()) as url, running(tmp_path, url) as (_, client):
        told = (await client.get("/loupe/runtime")).json()
        assert "where they were started" in told["refusal"] and told["changed"] == {}
        for body, wrong in (({"slots": 2}, "where they were started"), ({}, "name one or more"), ({"x": 1}, "unknown")):
            answered = await client.post("/loupe/runtime", json=body)
            assert answered.status_code == 400 and wrong in answered.json()["error"]
