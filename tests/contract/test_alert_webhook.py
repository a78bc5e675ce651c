"""Alerts on their way to a webhook over a real socket: signed, told again, never to a private address unasked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.backends.webhook_http import WebhookHttp
from app.core.alerts import AlertMessage
from app.core.ports import SystemClock
from app.services.alerting import announcing
from app.services.alerting.announcing import Announcer
from app.services.metrics import Metrics
from proving.stand import loupe
from tests.stub_ollama import Reply, StubOllama, error, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
KEY = b"0123456789abcdef"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
TAKEN = Reply([b"{}"], content_type="application/json")
NOBODY = ["http://127.0.0.1:9"]
SECONDS = 60.0  # a deadline


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "FIRST_WAIT", 0.01)


async def until(check: Callable[[], Any], what: str) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            while not check():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


def hook(url: str, *, private: bool = True, key: bytes = KEY) -> WebhookHttp:
    return WebhookHttp(url, key, SystemClock(), private=private)


async def test_a_message_is_signed_as_standard_webhooks_wants_it() -> None:
    receiver = StubOllama()
    receiver.on("/hook", TAKEN)
    async with served(receiver) as there:
        sender = hook(f"{there}/hook")
        assert (await sender.send(AlertMessage("msg_1", {"text": "Zwölf °C", "n": 1}))).taken
        await sender.close()
    (asked,) = receiver.asked
    signed = f"{asked.headers['webhook-id']}.{asked.headers['webhook-timestamp']}.".encode() + asked.body
    digest = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert asked.headers["webhook-signature"] == f"v1,{digest}" and asked.headers["webhook-id"] == "msg_1"
    assert asked.json == {"text": "Zwölf °C", "n": 1} and asked.headers["content-type"].startswith("application/json")


async def test_what_is_not_taken_is_told_again_in_order_and_what_is_refused_is_given_up() -> None:
    receiver, metrics = StubOllama(), Metrics()
    later = Reply([b""], 503, headers={"retry-after": "0"})
    receiver.on("/hook", later, later, TAKEN, error(400, "what is this"), TAKEN)
    async with served(receiver) as there:
        announcer = Announcer(hook(f"{there}/hook", key=b""), SystemClock(), metrics)
        for number in range(3):
            announcer.tell({"n": number})
        announcer.start()
        await until(lambda: len(receiver.asked) == 5 and not announcer.state.waiting, "five tries")
        await announcer.stop()
    assert [asked.json["n"] for asked in receiver.asked] == [0, 0, 0, 1, 2]
    assert len({asked.headers["webhook-id"] for asked in receiver.asked[:3]}) == 1
    assert "webhook-signature" not in receiver.asked[0].headers
    state, told = announcer.state, metrics.render().decode()
    assert state.dropped == 1 and state.last_taken is not None and state.failing == ""
    assert 'loupe_alert_messages_total{outcome="taken"} 2.0' in told and 'outcome="dropped"} 1.0' in told


async def test_too_many_that_wait_lose_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "WAITING", 3)
    announcer = Announcer(hook("http://127.0.0.1:9/"), SystemClock(), Metrics())
    for number in range(5):
        announcer.tell({"n": number})
    assert [message.content["n"] for message in announcer.waiting] == [2, 3, 4] and announcer.state.dropped == 2
    await announcer.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.7", "192.168.1.2", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_not_reached_unless_that_is_allowed(host: str) -> None:
    sender = hook(f"http://{host}:9/hook", private=False)
    delivery = await sender.send(AlertMessage("m"))
    assert not delivery.taken and not delivery.again and "LOUPE_ALERT_WEBHOOK_PRIVATE=on" in delivery.why
    await sender.close()


async def test_a_name_that_leads_to_a_private_address_is_not_followed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = StubOllama()

    def look_up(host: Any, port: Any, *words: Any, **more: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async with served(receiver) as there:
        port = there.rpartition(":")[2]
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        sender = hook(f"http://hooks.example.org:{port}/hook", private=False)
        delivery = await sender.send(AlertMessage("m"))
        await sender.close()
        assert not delivery.taken and "private address" in delivery.why
    assert receiver.asked == []


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "100.100.100.200"])
async def test_cloud_metadata_is_never_reached(host: str) -> None:
    sender = hook(f"http://{host}/hook", private=True)
    delivery = await sender.send(AlertMessage("m"))
    assert not delivery.taken and not delivery.again and "which is refused" in delivery.why
    await sender.close()


async def test_no_redirect_is_followed() -> None:
    receiver = StubOllama()
    receiver.on("/hook", Reply([b""], 302, headers={"location": "/elsewhere"}))
    async with served(receiver) as there:
        sender = hook(f"{there}/hook")
        delivery = await sender.send(AlertMessage("m"))
        await sender.close()
    assert not delivery.taken and "answered 302" in delivery.why
    assert [asked.path for asked in receiver.asked] == ["/hook"]


async def test_rules_and_webhook_over_http_and_what_waits_is_told_after_the_next_start(tmp_path: Path) -> None:
    receiver = StubOllama()
    receiver.on("/hook", error(503, "later"))
    async with served(receiver) as there:
        words = {"alert_webhook": f"{there}/hook", "alert_webhook_private": True, "alert_webhook_secret": SECRET}
        async with (
            loupe(tmp_path, NOBODY, **words) as product,
            httpx.AsyncClient(base_url=product.url, timeout=SECONDS) as client,
        ):
            rule = "/loupe/alerts/rules/ample"
            wish = {"series": "queue_waiting", "limit": -1, "hold": 0, "title": "The queue is there"}
            answer = await client.put(rule, json=wish)
            assert answer.status_code == 200 and answer.json()["condition"].startswith("above -1; ends at -1.1")
            told = (await client.get("/loupe/alerts")).json()
            assert [alert["title"] for alert in told["alerts"]] == ["The queue is there"]
            assert told["alerts"][0]["ended"] is None and "queue_waiting" in told["series"]
            assert (await client.put(rule, json={"limit": "x"})).json()["error"] == "limit: give a number"
            assert (await client.delete("/loupe/alerts/rules/none")).status_code == 404
            rules = await client.get("/loupe/alerts/prometheus")
            assert "- alert: LoupeAmple\n" in rules.text and rules.headers["content-type"] == "application/yaml"
            tried = (await client.post("/loupe/alerts/test")).json()
            assert tried == {"taken": False, "why": "the webhook answered 503"}
        first = [asked.json for asked in receiver.asked if asked.json["type"] == "alert.raised"]
        receiver.on("/hook", TAKEN)
        before = len(receiver.asked)
        async with loupe(tmp_path, NOBODY, **words):
            await until(lambda: len(receiver.asked) > before, "the message that waited")
        assert receiver.asked[before].json == first[0] and "The queue is there" in first[0]["text"]


async def test_without_a_webhook_there_is_nothing_to_test(tmp_path: Path) -> None:
    async with (
        loupe(tmp_path, NOBODY) as product,
        httpx.AsyncClient(base_url=product.url, timeout=SECONDS) as client,
    ):
        answer = await client.post("/loupe/alerts/test")
    assert answer.status_code == 400 and "LOUPE_ALERT_WEBHOOK" in answer.json()["error"]
