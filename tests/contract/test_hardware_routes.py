"""What the machine and the service do, over HTTP: now, as a feed, over time, and for Prometheus; with GPUs that a
library stands in for below the real binding, and one of them lost under way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pynvml
import pytest

from proving.stand import loupe
from tests.fake_nvml import FakeGpu, FakeLibrary, installed
from tests.stub_ollama import MODEL, StubOllama, error, lines, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
NOBODY = ["http://127.0.0.1:9"]


async def events(client: httpx.AsyncClient, path: str = "/loupe/hardware/events") -> AsyncIterator[dict[str, Any]]:
    async with client.stream("GET", path) as feed:
        assert feed.headers["content-type"].startswith("text/event-stream")
        async for line in feed.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


async def test_the_machine_and_its_gpus_are_told_now_as_they_change_and_over_time(tmp_path: Path) -> None:
    library = FakeLibrary(FakeGpu(), FakeGpu(uuid=b"GPU-1111", busy=7))
    with installed(library):
        async with loupe(tmp_path, NOBODY) as product, httpx.AsyncClient(base_url=product.url, timeout=20) as client:
            lost = False
            async for told in events(client):
                gpus = told["gpus"]["devices"]
                if not lost and len(gpus) == 2 and told["number"] >= 2:
                    assert [gpu["utilisation"] for gpu in gpus] == [0.4, 0.07]
                    assert 0 < told["machine"]["memory_total"] <= psutil.virtual_memory().total
                    library.gpus[1].errors["*"] = pynvml.NVML_ERROR_GPU_IS_LOST
                    lost = True
                elif lost and gpus[1]["lost"]:
                    assert gpus[0]["power"] == 180.5 and gpus[1]["power"] is None
                    break
            history = (await client.get("/loupe/hardware/history", params={"seconds": 600})).json()
            now = (await client.get("/loupe/hardware")).json()
            metrics = (await client.get("/metrics")).text
    assert history["step"] == 1 and len(history["at"]) == len(history["series"]["cpu"])
    assert [0.4, 0.4] in history["series"]["gpu0.utilisation"]
    assert now["gpus"]["driver"] == "570.86" and now["at"] > 1.7e9
    assert 'loupe_hardware{series="gpu0.temperature"} 61.0' in metrics
    assert 'series="gpu1.temperature"' not in metrics  # unknown is no zero


@pytest.mark.parametrize("seconds", ["-1", "0", "soon", "nan", "1e99"])
async def test_a_time_that_is_none_is_refused(tmp_path: Path, seconds: str) -> None:
    async with loupe(tmp_path, NOBODY) as product, httpx.AsyncClient(base_url=product.url, timeout=20) as client:
        answer = await client.get("/loupe/hardware/history", params={"seconds": seconds})
    assert answer.status_code == 400 and "give how far back" in answer.json()["error"]


async def test_a_library_that_hangs_holds_up_neither_answers_nor_the_end(tmp_path: Path) -> None:
    library = FakeLibrary(FakeGpu())
    library.running.clear()
    try:
        with installed(library):
            async with (
                loupe(tmp_path, NOBODY) as product,
                httpx.AsyncClient(base_url=product.url, timeout=20) as client,
                asyncio.timeout(40),
            ):
                async for told in events(client):
                    if "has not answered" in told["gpus"]["why"]:
                        break
                assert (await client.get("/healthz")).status_code == 200
    finally:
        library.running.set()


async def test_the_check_of_the_machine_is_told_with_its_hosts(tmp_path: Path) -> None:
    async with loupe(tmp_path, NOBODY) as product, httpx.AsyncClient(base_url=product.url, timeout=60) as client:
        told = (await client.get("/loupe/check")).json()
    checks = {check["name"]: check for check in told["checks"]}
    assert {"processor", "memory", "GPU", "disk", "memory bandwidth", "settings"} <= checks.keys()
    assert {"container limits", "port 8501", "port 11434", "system"} <= checks.keys()  # a free port was taken here
    (host,) = (check for name, check in checks.items() if name.startswith("host "))
    assert host["status"] == "fail" and host["advice"]
    assert all(set(check) == {"name", "status", "found", "needed", "advice"} for check in told["checks"])


async def test_the_series_tell_of_the_service_what_a_client_counts_and_are_kept(tmp_path: Path) -> None:
    """First tokens are those of the trace, tokens those of the metrics, and a failure is a mark."""
    stub = StubOllama()
    stub.on("/api/chat", lines("chat_stream"), error(500, "no such luck"))
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "options": {"temperature": 0}}
    async with (
        served(stub) as host,
        loupe(tmp_path, [host]) as product,
        httpx.AsyncClient(base_url=product.url, timeout=30) as client,
        asyncio.timeout(50),
    ):
        seen: dict[str, float] = {}
        written, step, happened = 0.0, 0, []
        async for told in events(client, "/loupe/series/events"):
            seen = {**seen, **told.get("now", {}), **told.get("set", {})}
            for name in told.get("gone", ()):
                seen.pop(name)
            happened += told.get("happened", [])
            written += seen.get("tokens_per_second", 0.0)
            if step == 0 and "queue_waiting" in seen:
                assert "ttft_p50" not in seen and "cache_hit_rate" not in seen  # nobody has asked: no zero
                answer = await client.post("/api/chat", json=asked)
                counted = json.loads(answer.text.splitlines()[-1])["eval_count"]
                step = 1
            elif step == 1 and "ttft_p50" in seen and written > 0:
                assert (await client.post("/api/chat", json={**asked, "options": {"seed": 7}})).status_code >= 500
                step = 2
            elif step == 2 and any(one["kind"] == "error" for one in happened) and "error_rate" in seen:
                break
        (request,) = (await client.get("/loupe/requests", params={"status": "ok"})).json()["requests"]
        metrics = (await client.get("/metrics")).text
        failures: list[str] = []
        while not failures:  # written down at the next look
            await asyncio.sleep(0.05)
            history = (await client.get("/loupe/hardware/history", params={"series": "ttft_p50"})).json()
            failures = [one["text"] for one in history["happened"] if one["kind"] == "error"]
    assert seen["ttft_p50"] == pytest.approx(request["ttft_ns"] / 1e9, rel=1e-3)
    assert f'loupe_tokens_total{{kind="output"}} {counted:.1f}' in metrics
    assert seen["error_rate"] == 0.5 and seen["cache_hit_rate"] == 0.0
    assert set(history["series"]) == {"ttft_p50"}
    assert failures == [one["text"] for one in happened if one["kind"] == "error"]


@pytest.mark.parametrize("points", ["-1", "many", "1e3", "999999"])
async def test_a_number_of_points_that_is_none_is_refused(tmp_path: Path, points: str) -> None:
    async with loupe(tmp_path, NOBODY) as product, httpx.AsyncClient(base_url=product.url, timeout=20) as client:
        answer = await client.get("/loupe/hardware/history", params={"points": points})
    assert answer.status_code == 400 and "whole number" in answer.json()["error"]
