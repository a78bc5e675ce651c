"""The load lab over HTTP, in front of a host on a real socket: runs that end, keep off, stop, are kept and compared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from app.comparison.load_lab.lab import Asker
from app.comparison.load_lab.plan import LoadPlan
from app.comparison.load_lab.runs import HostInUse
from proving.stand import Loupe, loupe, until
from tests.stub_ollama import MODEL, Reply, StubOllama, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90)]
PATIENCE = 60.0
ELSEWHERE = Asker("local", "another page")


def answer(*gates: asyncio.Event) -> Reply:
    records = [{"model": MODEL, "response": f"t{number}", "done": False} for number in range(3)]
    end = {
        "model": MODEL,
        "response": "",
        "done": True,
        "done_reason": "length",
        "prompt_eval_count": 20,
        "eval_count": 3,
    }
    return Reply([*gates, *(json.dumps(record).encode() + b"\n" for record in (*records, end))])


def stub(*replies: Reply, loaded: tuple[str, ...] = ()) -> StubOllama:
    made = StubOllama(models={MODEL: "d" * 64, "other:1b": "e" * 64})
    made.on("/api/generate", *(replies or (answer(),)))
    rows = [
        {"name": name, "model": name, "digest": "e" * 64, "size": 1, "size_vram": 0, "context_length": 4096,
         "expires_at": "2099-01-01T00:00:00Z"}
        for name in loaded
    ]  # fmt: skip
    made.on("/api/ps", Reply([json.dumps({"models": rows}).encode()], content_type="application/json"))
    return made


@asynccontextmanager
async def running(folder: Path, host: str) -> AsyncIterator[tuple[Loupe, httpx.AsyncClient]]:
    async with (
        loupe(folder, [f"host0={host};slots=4"]) as product,
        httpx.AsyncClient(base_url=product.url, timeout=30) as client,
    ):
        yield product, client


def plan(**changes: object) -> dict:
    return {"models": {MODEL: 1}, "arrivals": "constant", "rate": 100, "seconds": 60, "count": 30, "seed": 5, **changes}


async def begin(client: httpx.AsyncClient, **changes: object) -> dict:
    answered = await client.post("/loupe/load", json=plan(**changes))
    assert answered.status_code == 202, answered.text
    return answered.json()


async def over(product: Loupe, client: httpx.AsyncClient, run_id: str) -> dict:
    await until(lambda: product.services.load_lab.get(run_id).state != "running", PATIENCE)
    told: dict = (await client.get(f"/loupe/load/{run_id}")).json()
    return told


async def asks_in_person(client: httpx.AsyncClient) -> None:
    answered = await client.post("/api/generate", json={"model": MODEL, "prompt": "Why?", "options": {"seed": 1}})
    assert answered.status_code == 200


async def test_runs_are_measured_kept_over_a_restart_compared_and_deleted(tmp_path: Path) -> None:
    host = stub()
    async with served(host) as url:
        async with running(tmp_path, url) as (product, client):
            began = await begin(client, limits={"ttft": 30}, context=512)
            assert (began["state"], began["requests"], began["job"]["kind"]) == ("running", 30, "load")
            first = await over(product, client, began["id"])
            figures = first["figures"]
            assert (first["state"], figures["asked"], figures["answered"], figures["kept"]) == ("done", 30, 30, 1.0)
            assert first["digests"] == {MODEL: "d" * 64}
            assert figures["ttft"]["n"] == figures["e2e"]["n"] == figures["tpot"]["n"] == 30
            assert figures["output_tokens"]["percentiles"]["p50"]["value"] == 3
            assert figures["itl"]["n"] == 60

            asked = [one.json for one in host.asked_for("/api/generate")]
            warm_up, measured = asked[0], asked[1:]
            assert warm_up["options"]["num_predict"] == 4
            assert len(measured) == 30 and len({one["prompt"] for one in measured}) == 30
            assert all(one["raw"] and one["options"] == {"num_predict": 64, "num_ctx": 512} for one in measured)
            rows = (await client.get(f"/loupe/load/{first['id']}/rows")).json()["rows"]
            assert [row["index"] for row in rows] == list(range(30))
            assert all(row["due"] <= row["sent"] <= row["first"] <= row["end"] for row in rows)
            flows = {one["flow"] for one in (await client.get("/loupe/requests")).json()["requests"]}
            assert len(flows) > 5 and all(flow.startswith("load lab") for flow in flows)

            second = await over(
                product, client, (await begin(client, rate=200, models={MODEL: 1, "other:1b": 3}))["id"]
            )
            assert second["figures"]["models"]["other:1b"] > second["figures"]["models"][MODEL]
        async with running(tmp_path, url) as (product, client):
            listed = (await client.get("/loupe/load")).json()["runs"]
            assert [run["id"] for run in listed] == [second["id"], first["id"]]
            told = (await client.get(f"/loupe/load/{first['id']}/beside/{second['id']}")).json()
            assert "rate: 100 and 200." in told["differences"]
            assert {pair["name"] for pair in told["pairs"]} >= {"goodput", "ttft p95", "tpot p50", "e2e p99"}
            assert (await client.delete(f"/loupe/load/{first['id']}")).json() == {"deleted": first["id"]}
            assert (await client.get(f"/loupe/load/{first['id']}")).status_code == 404
            assert not (product.services.settings.data / "load" / first["id"]).exists()


async def test_a_host_that_others_use_is_left_alone_unless_it_is_told(tmp_path: Path) -> None:
    async with served(stub()) as url, running(tmp_path, url) as (product, client):
        await asks_in_person(client)
        with pytest.raises(HostInUse, match=r"1 request in the last minute"):
            await product.services.load_lab.begin(LoadPlan(models={MODEL: 1.0}), ELSEWHERE)
        assert product.services.load_lab.list() == ()
        told = await over(product, client, (await begin(client, count=3))["id"])  # the one who asked: no other
        assert told["state"] == "done"
        anyway = LoadPlan(models={MODEL: 1.0}, rate=100.0, count=3, anyway=True)
        run = await product.services.load_lab.begin(anyway, ELSEWHERE)
        assert (await over(product, client, run.id))["state"] == "done"


async def test_a_model_that_another_client_has_loaded_there_is_a_sign_of_others(tmp_path: Path) -> None:
    async with served(stub(loaded=("other:1b",))) as url, running(tmp_path, url) as (_, client):
        answered = await client.post("/loupe/load", json=plan())
        assert answered.status_code == 409
        assert "other:1b is loaded on host0, and not through this Loupe" in answered.json()["error"]
        assert (await client.post("/loupe/load", json=plan(anyway=True))).status_code == 202


async def test_a_run_stops_when_somebody_comes_and_keeps_what_it_has(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with served(stub(answer(), answer(), answer(gate))) as url, running(tmp_path, url) as (product, client):
        lab = product.services.load_lab
        began = await begin(client, rate=0.02, seconds=600, count=0)
        await until(lambda: lab.get(began["id"]).figures.answered == 1, PATIENCE)
        assert (await client.post("/loupe/load", json=plan())).status_code == 409
        person = asyncio.create_task(asks_in_person(client))
        told = await over(product, client, began["id"])
        assert (told["state"], told["figures"]["answered"]) == ("stopped", 1)
        assert "somebody came" in told["why"]
        gate.set()
        await person


async def test_a_run_is_ended_by_a_person_or_with_the_server_and_keeps_what_it_has(tmp_path: Path) -> None:
    async with served(stub()) as url:
        async with running(tmp_path, url) as (product, client):
            lab = product.services.load_lab
            first = await begin(client, rate=0.02, seconds=600, count=0)
            await until(lambda: lab.get(first["id"]).figures.answered == 1, PATIENCE)
            told = (await client.post(f"/loupe/load/{first['id']}/cancel")).json()
            assert (told["state"], told["figures"]["answered"]) == ("cancelled", 1)
            second = await begin(client, rate=0.02, seconds=600, count=0)
            await until(lambda: lab.get(second["id"]).figures.answered == 1, PATIENCE)
        async with running(tmp_path, url) as (_, client):
            told = (await client.get(f"/loupe/load/{second['id']}")).json()
            assert (told["state"], told["figures"]["answered"]) == ("interrupted", 1)


async def test_what_cannot_be_asked_for_is_refused_by_its_name(tmp_path: Path) -> None:
    async with served(stub()) as url, running(tmp_path, url) as (_, client):
        for changes, words in (
            ({"models": {}}, "say which model"), ({"models": [MODEL]}, "share of each"), ({"rate": 0}, "rate is"),
            ({"speeed": 2}, "unknown: speeed"), ({"models": {"nobody": 1}}, "nobody"), ({"host": "far"}, "far"),
            ({"arrivals": "recorded"}, "remembers no requests"), ({"chats": True}, "no chats"),
            ({"prompt": "long"}, "no length"), ({"rate": "x"}, "rate: 'x' is no number"),
            ({"limits": {"tttf": 1}}, "limits: unknown: tttf; known are ttft, tpot, e2e"),
            ({"limits": 3}, "limits: 3 is no object"),
            ({"arrivals": "often"}, "none of constant, poisson, ramp, recorded"), ({"to_rate": 3}, "to_rate belongs"),
            ({"recording": [{"prompt": 3}], "arrivals": "recorded"}, "recording: at is missing"),
            ({"count": 0, "rate": 0.001, "seconds": 0.5, "arrivals": "poisson"}, "no request comes"),
        ):  # fmt: skip
            answered = await client.post("/loupe/load", json=plan(**changes))
            assert answered.status_code in (400, 404), answered.text
            assert words in answered.json()["error"], answered.text
        assert (await client.get("/loupe/load")).json() == {"runs": []}
