"""Alerts in the whole product: each shipped rule raised by its own cause and ended with it, told to a webhook once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pynvml
import pytest

from app.bootstrap import Services
from app.services import watched_host
from app.services.alerting import alerts as alerts_module
from app.services.alerting import announcing
from app.services.alerting.baselines import BLOCK, BLOCK_SECONDS, ENOUGH, RECENT
from app.services.alerting.shipped import SHIPPED
from proving.stand import Loupe, loupe
from tests.fake_nvml import FakeGpu, FakeLibrary, installed
from tests.fakes import MovedClock
from tests.served import free_port
from tests.stub_ollama import MODEL, Reply, StubOllama, error, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]
SECONDS = 60.0  # a deadline
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Who?"}]}
TAKEN = Reply([b"{}"], content_type="application/json")
GIB = 1 << 30


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(alerts_module, "EVERY", 0.5)
    monkeypatch.setattr(watched_host, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(watched_host, "RECOVERY_SECONDS", 0.1)


def answer(speed: float = 50.0) -> Reply:
    """A whole answer of 32 tokens, written at so many a second by the host's own count."""
    line = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", "content": "a word"}}
    counts = {"total_duration": 10**9, "load_duration": 10**6, "prompt_eval_count": 9, "prompt_eval_duration": 10**7,
              "eval_count": 32, "eval_duration": int(32 / speed * 1e9)}  # fmt: skip
    end = {**line, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **counts}
    return Reply([json.dumps({**line, "done": False}).encode() + b"\n", json.dumps(end).encode() + b"\n"])


class Stand:
    """Loupe, its host, its GPU, its machine, and the receiver of its alerts."""

    def __init__(self, product: Loupe, client: httpx.AsyncClient, clock: MovedClock, receiver: StubOllama) -> None:
        self.product, self.client, self.clock, self.receiver = product, client, clock, receiver

    @property
    def open(self) -> set[str]:
        return {alert.rule for alert in self.product.services.alerts.view().open}

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [asked.json for asked in self.receiver.asked_for("/hook")]

    async def ask(self, times: int = 1) -> list[int]:
        answers = await asyncio.gather(*[self.client.post("/api/chat", json=CHAT) for _ in range(times)])
        return [one.status_code for one in answers]

    async def until(self, check: Callable[[], Any], what: str, *, on: float = 0.0) -> None:
        """Wait until it is so; with `on` the clocks go on by so many seconds between two looks."""
        try:
            async with asyncio.timeout(SECONDS):
                while not check():
                    self.clock.moved += on
                    self.product.services.alerts.look()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what}; open: {self.open}") from None

    async def raised(self, rule: str, on: float = 5.0) -> None:
        await self.until(lambda: rule in self.open, f"{rule} to be raised", on=on)

    async def ended(self, rule: str, on: float = 5.0) -> None:
        await self.until(lambda: rule not in self.open, f"{rule} to end", on=on)


def _look_often(services: Services) -> None:
    services.hardware._every = 0.25


@asynccontextmanager
async def standing(folder: Path, hosts: list[str], **settings: Any) -> AsyncIterator[Stand]:
    clock, receiver = MovedClock(), StubOllama()
    receiver.on("/hook", TAKEN)
    async with (
        served(receiver) as there,
        loupe(
            folder, hosts, clock=clock, alert_webhook=f"{there}/hook?key=hush", alert_webhook_private=True,
            alert_webhook_secret="whsec_MDEyMzQ1Njc4OWFiY2RlZg==", prepare=_look_often, **settings,
        ) as product,
        httpx.AsyncClient(base_url=product.url, timeout=SECONDS) as client,
    ):  # fmt: skip
        yield Stand(product, client, clock, receiver)


async def a_host_goes_and_comes(stand: Stand) -> None:
    async with AsyncExitStack() as away:
        port = free_port()
        first = await away.enter_async_context(served(StubOllama(), port=port))
        body = {"name": "other", "url": first}
        assert (await stand.client.post("/loupe/hosts", json=body)).status_code == 201
        await stand.until(lambda: _state(stand, "other") == "healthy", "the host to be seen")
        await away.aclose()
        await stand.raised("host_down", on=0.5)
    async with served(StubOllama(), port=port):
        await stand.ended("host_down", on=0.5)
        await stand.client.delete("/loupe/hosts/other")


def _state(stand: Stand, name: str) -> str:
    return next(str(s.state) for s in stand.product.services.pool.statuses() if s.address.name == name)


async def the_machine_runs_full(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """What psutil tells is the cause: memory and disk of the machine that tests run on are not to be filled."""
    with monkeypatch.context() as full:
        full.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16 * GIB, available=GIB // 2))
        full.setattr(psutil, "disk_usage", lambda _: SimpleNamespace(free=2 * GIB, total=100 * GIB))
        await stand.until(lambda: {"memory", "disk"} <= stand.open, "memory and disk", on=1.0)
    with monkeypatch.context() as roomy:
        roomy.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16 * GIB, available=8 * GIB))
        roomy.setattr(psutil, "disk_usage", lambda _: SimpleNamespace(free=50 * GIB, total=100 * GIB))
        await stand.until(lambda: not {"memory", "disk"} & stand.open, "both to end", on=2.0)


async def a_gpu_suffers(stand: Stand, gpu: FakeGpu) -> None:
    gpu.celsius, gpu.reasons = 93, pynvml.nvmlClocksEventReasonHwThermalSlowdown
    await stand.until(lambda: {"temperature", "throttled"} <= stand.open, "a hot GPU", on=1.0)
    gpu.celsius, gpu.reasons = 60, 0
    await stand.until(lambda: not {"temperature", "throttled"} & stand.open, "it to cool", on=2.0)
    gpu.errors["*"] = pynvml.NVML_ERROR_GPU_IS_LOST
    await stand.raised("gpu_lost", on=0.0)
    del gpu.errors["*"]
    await stand.ended("gpu_lost", on=2.0)


async def a_host_is_held_up(stand: Stand, host: StubOllama) -> None:
    """One request more than there are slots, and the host gives no word: one waits, and then all are late."""
    gate = asyncio.Event()
    host.on("/api/chat", Reply([gate, *answer().parts]))
    asking = asyncio.create_task(stand.ask(17))
    await stand.until(lambda: stand.product.waiting == 1, "one to wait")
    await stand.raised("queue_wait", on=2.0)
    gate.set()
    assert set(await asking) == {200}
    await stand.raised("first_token", on=1.0)
    host.on("/api/chat", answer())
    stand.clock.moved += 301.0
    await stand.ask(16)
    await stand.until(lambda: not {"first_token", "queue_wait"} & stand.open, "both to end", on=5.0)


async def requests_fail(stand: Stand, host: StubOllama) -> None:
    host.on("/api/chat", error(500, "out of memory"))
    assert 200 not in await stand.ask(10)
    await stand.raised("errors")
    host.on("/api/chat", answer())
    stand.clock.moved += 301.0
    await stand.until(lambda: stand.product.services.pool.statuses()[0].breaker != "open", "the breaker", on=5.0)
    for _ in range(12):
        await stand.ask()
    await stand.ended("errors")


async def a_variant_becomes_slower(stand: Stand, host: StubOllama) -> None:
    host.on("/api/chat", answer(50.0))
    for _ in range(ENOUGH * BLOCK + 1):
        stand.clock.moved += BLOCK_SECONDS / (BLOCK - 1)
        await stand.ask()
    host.on("/api/chat", answer(20.0))
    for _ in range(RECENT):
        await stand.ask()
    await stand.raised("slow")
    host.on("/api/chat", answer(50.0))
    for _ in range(RECENT):
        await stand.ask()
    await stand.ended("slow")


async def test_each_shipped_rule_is_raised_by_its_cause_ends_with_it_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, host = FakeGpu(), StubOllama()
    host.on("/api/chat", answer())
    with installed(FakeLibrary(gpu)):
        async with served(host) as there, standing(tmp_path, [f"one={there};slots=16"]) as stand:
            await a_variant_becomes_slower(stand, host)
            await a_host_is_held_up(stand, host)
            await requests_fail(stand, host)
            await a_gpu_suffers(stand, gpu)
            await the_machine_runs_full(stand, monkeypatch)
            await a_host_goes_and_comes(stand)
            alerts = stand.product.services.alerts.view().alerts
            await stand.until(lambda: len(stand.messages) == 2 * len(SHIPPED), "every message")
            told = [(message["type"], message["data"]["rule"]) for message in stand.messages]
            webhook = (await stand.client.get("/loupe/alerts")).json()["webhook"]
    assert {alert.rule for alert in alerts} == {rule.name for rule in SHIPPED}
    assert all(not alert.open and alert.times == 1 for alert in alerts)
    names = {rule.name for rule in SHIPPED}
    assert sorted(told) == sorted((kind, name) for kind in ("alert.raised", "alert.ended") for name in names)
    assert webhook["waiting"] == 0 and webhook["failing"] == "" and "hush" not in str(webhook)
