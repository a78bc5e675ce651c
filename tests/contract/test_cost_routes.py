"""What an answer cost, over HTTP: tokens as its host counted them, energy by the counter of a GPU that a library stands
in for below the real binding, kept over a restart."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from proving.stand import loupe, until
from tests.fake_nvml import FakeGpu, FakeLibrary, installed
from tests.recordings import recording
from tests.stub_ollama import MODEL, Reply, StubOllama, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90)]
WATTS = 180.5
RECORDS = [line.encode() + b"\n" for line in recording("chat_stream").lines]
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}


class Counting(FakeGpu):
    """Its counter of energy runs at the power that it tells."""

    @property
    def millijoules(self) -> int:  # type: ignore[override]
        return int(time.monotonic() * WATTS * 1000)

    @millijoules.setter
    def millijoules(self, _: int) -> None: ...


async def cost(client: httpx.AsyncClient, **query: Any) -> Any:
    answer = await client.get("/loupe/cost", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_answer_is_told_with_its_tokens_and_its_energy_and_both_survive_a_restart(tmp_path: Path) -> None:
    stub, written = StubOllama(), asyncio.Event()
    stub.on("/api/chat", Reply([RECORDS[0], written, *RECORDS[1:]]))
    library = FakeLibrary(Counting())
    with installed(library):
        async with served(stub) as host:
            began = time.monotonic()
            async with (
                loupe(tmp_path, [host]) as product,
                httpx.AsyncClient(base_url=product.url, timeout=60) as client,
            ):
                asking = asyncio.create_task(client.post("/api/chat", json=QUESTION))
                await until(lambda: product.busy, 30, "the question to reach its host")
                hardware = product.services.hardware
                await until(lambda: hardware.state.gpus.devices, 30, "the GPU to be seen")
                first = hardware.state.number
                await until(lambda: hardware.state.number >= first + 3, 30, "three looks at the GPU")
                written.set()
                assert (await asking).status_code == 200
                await until(lambda: product.services.telemetry.snapshot().finished, 30, "the request to end")
                told = await cost(client, by="variant")
                took = time.monotonic() - began
                assert told["counters"] == ["GPU 0"] or told["counters"] == ["processor", "GPU 0"]
                last = json.loads(RECORDS[-1])
                [row] = told["rows"]
                assert (row["name"], row["requests"]) == (MODEL, 1)
                assert (row["prompt_tokens"], row["output_tokens"]) == (last["prompt_eval_count"], last["eval_count"])
                assert 1 < row["seconds"] <= took
                if told["counters"] == ["GPU 0"]:
                    assert 0 < row["joules"] * row["measured"] <= WATTS * took
                assert row["basis"] in ("measured", "measured in part")
                stated = {"kwh": 0.5, "machine": 1000, "prices": [{"name": "x", "read": 1, "written": 2}]}
                assert (await client.put("/loupe/cost/assumptions", json=stated)).json()["stated"] == sorted(stated)
                wrong = await client.put("/loupe/cost/assumptions", json={"kwh": "cheap"})
                assert wrong.status_code == 400 and "kwh is a number" in wrong.json()["error"]
            async with (
                loupe(tmp_path, [host]) as product,
                httpx.AsyncClient(base_url=product.url, timeout=60) as client,
            ):
                again = await cost(client, by="day", days=1)
                for by in ("user", "alias", "machine"):
                    assert len((await cost(client, by=by))["rows"]) == 1
                for query in ({"by": "colour"}, {"days": 0}, {"days": "all"}):
                    assert (await client.get("/loupe/cost", params=query)).status_code == 400
    assert again["total"]["output_tokens"] == row["output_tokens"]
    assert again["total"]["joules"] >= row["joules"] * row["measured"]
    assert again["assumptions"]["kwh"] == 0.5 and [price["name"] for price in again["cloud"]] == ["x"]
