"""Keys as clients meet them: every wrong form, each dialect's refusal, scopes, models, limits, and what is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.gateway import create_routes
from app.gateway.policies import POLICIES, Policy, policy_of
from app.services.access_keys import KeyLimits, KeyScope, KeyWish
from proving.stand import Loupe, loupe, until
from tests.stub_ollama import MODEL, Reply, StubOllama, lines, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
TOKEN = "a-long-secret-token"
OTHER = "llama3.2:1b"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Name the capital of France."}]}
COLD = {**ASKED, "options": {"temperature": 0, "num_ctx": 512}}


class Door:
    """A Loupe with keys by name, and a client that shows one of them."""

    def __init__(self, product: Loupe, stub: StubOllama, client: httpx.AsyncClient) -> None:
        self.product, self.stub, self.client = product, stub, client
        self.secrets: dict[str, str] = {}

    def key(self, name: str, scope: KeyScope = KeyScope.INFER, *models: str, **limits: int) -> dict[str, str]:
        """A new key as the header that shows it."""
        _, self.secrets[name] = self.product.services.keys.create(KeyWish(name, scope, models, KeyLimits(**limits)))
        return shown(self.secrets[name])

    async def ask(self, key: dict[str, str], path: str = "/api/chat", **more: Any) -> httpx.Response:
        return await self.client.post(path, json={**ASKED, **more}, headers=key)

    def used(self, name: str) -> dict[str, Any]:
        views = self.product.services.key_usage.views()
        return next(view.told() for view in views if view.key.name == name)


def shown(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    stub = StubOllama(models={MODEL: "d" * 64, OTHER: "e" * 64})
    stub.on("/api/chat", lines("chat_stream"))
    async with (
        served(stub) as host,
        loupe(tmp_path, [host], token=TOKEN) as product,
        httpx.AsyncClient(base_url=product.url, timeout=30) as client,
    ):
        yield Door(product, stub, client)


async def raw(url: str, head: bytes) -> bytes:
    """What is answered to bytes that no client library would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    try:
        writer.write(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + head + b"\r\n\r\n")
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def wrong_heads(secret: str, revoked: str) -> dict[str, bytes]:
    good, gone = secret.encode(), revoked.encode()
    return {
        "nothing": b"X-Nothing: 1",
        "empty bearer": b"Authorization: Bearer ",
        "empty header": b"Authorization:",
        "empty x-api-key": b"x-api-key: ",
        "wrong scheme": b"Authorization: Basic " + good,
        "no scheme": b"Authorization: " + good,
        "scheme alone": b"Authorization: Bearer",
        "a prefix of it": b"Authorization: Bearer " + good[:-1],
        "only the beginning": b"Authorization: Bearer loupe_",
        "longer": b"Authorization: Bearer " + good + b"x",
        "other case": b"Authorization: Bearer " + good.swapcase(),
        "two that differ": b"Authorization: Bearer " + good + b"\r\nx-api-key: loupe_other",
        "two of one header": b"Authorization: Bearer " + good + b"\r\nAuthorization: Bearer loupe_other",
        "joined": b"Authorization: Bearer " + good + b", Bearer loupe_other",
        "latin-1": b"Authorization: Bearer loupe_\xe9\xff",
        "utf-8": "Authorization: Bearer loupe_\u00e9\U0001f600".encode(),
        "sql": b"Authorization: Bearer ' OR '1'='1' --",
        "sql behind it": b"Authorization: Bearer " + good + b"' OR 1=1; DROP TABLE keys; --",
        "its name": b"x-api-key: ci",
        "template": b"x-api-key: {{7*7}}${jndi:ldap://x}",
        "revoked": b"x-api-key: " + gone,
        "in a cookie": b"Cookie: loupe_session=" + good,
        "a forged session": b"Cookie: loupe_session=9999999999.00",
        "a forged session of a key": b"Cookie: loupe_session=9999999999~key:00000000.00",
        "as a visitor": b"X-Loupe-Visitor: local",
    }


async def test_no_wrong_form_of_a_key_lets_anybody_in(door: Door) -> None:
    door.key("ci")
    door.key("gone")
    door.product.services.keys.revoke("gone")
    for what, head in wrong_heads(door.secrets["ci"], door.secrets["gone"]).items():
        answer = await raw(door.product.url, head)
        assert answer.startswith(b"HTTP/1.1 401 "), (what, answer[:200])
        assert b"www-authenticate: Bearer" in answer and b'{"error":"unauthorized: ' in answer, what
        assert door.secrets["ci"].encode() not in answer, what
    assert (await raw(door.product.url, b"Authorization: bEaReR   " + door.secrets["ci"].encode())).startswith(
        b"HTTP/1.1 200 "
    )


async def test_a_header_of_a_mebibyte_is_refused_and_the_next_request_answered(door: Door) -> None:
    key = door.key("ci")
    answer = await raw(door.product.url, b"Authorization: Bearer " + b"a" * (1 << 20))
    assert not answer.startswith(b"HTTP/1.1 2")
    assert (await door.client.get("/api/version", headers=key)).status_code == 200


async def test_wrong_keys_lock_nobody_out_while_guesses_at_the_token_do(door: Door) -> None:
    key = door.key("ci")
    for _ in range(20):
        assert (await door.client.get("/api/version", headers=shown("loupe_wrong"))).status_code == 401
    for _ in range(10):
        assert (await door.client.get("/api/version", headers=shown("password"))).status_code == 401
    locked = await door.client.get("/api/version", headers=shown(TOKEN))
    assert locked.status_code == 429 and int(locked.headers["retry-after"]) > 200
    assert (await door.client.get("/api/version", headers=key)).status_code == 200


async def test_both_header_forms_and_both_at_once_are_the_same_key(door: Door) -> None:
    key = door.key("ci")
    api = {"x-api-key": door.secrets["ci"]}
    for headers in (key, api, key | api):
        assert (await door.client.get("/loupe/whoami", headers=headers)).json()["name"] == "ci"


DIALECTS = {
    "/api/chat": lambda told: told["error"],
    "/v1/chat/completions": lambda told: told["error"]["message"],
    "/v1/messages": lambda told: told["error"]["message"],
}


@pytest.mark.parametrize("path", DIALECTS)
async def test_each_dialect_has_its_own_words_for_401_403_404_and_429(door: Door, path: str) -> None:
    say, more = DIALECTS[path], {"max_tokens": 5} if path == "/v1/messages" else {}
    reads, one = door.key("reads", KeyScope.READ), door.key("one", KeyScope.INFER, OTHER, per_minute=1)
    refusals = {
        401: await door.ask(shown("loupe_no"), path, **more),
        403: await door.ask(reads, path, **more),
        404: await door.ask(one, path, **more),
    }
    door.product.services.key_usage.enter(door.product.services.keys.list()[0].principal, OTHER)
    refusals[429] = await door.ask(one, path, **{**more, "model": OTHER})
    assert {status: answer.status_code for status, answer in refusals.items()} == {code: code for code in refusals}
    assert "mistyped" in say(refusals[401].json())
    assert "scope read, and this needs infer" in say(refusals[403].json())
    assert "list them with /api/tags" in say(refusals[404].json())
    assert "1 requests a minute" in say(refusals[429].json())
    assert 1 <= int(refusals[429].headers["retry-after"]) <= 60
    if path == "/v1/chat/completions":
        kinds = [answer.json()["error"]["type"] for answer in refusals.values()]
        assert kinds == ["authentication_error", "permission_error", "not_found_error", "rate_limit_error"]
    if path == "/v1/messages":
        kinds = [answer.json()["error"]["type"] for answer in refusals.values()]
        assert kinds == ["authentication_error", "permission_error", "not_found_error", "rate_limit_error"]


async def test_each_scope_does_what_it_is_for_and_nothing_beyond(door: Door) -> None:
    keys = {scope: door.key(scope, scope) for scope in KeyScope}
    table = [
        ("GET", "/api/tags", KeyScope.READ), ("GET", "/metrics", KeyScope.READ), ("POST", "/api/show", KeyScope.READ),
        ("POST", "/api/chat", KeyScope.INFER), ("POST", "/v1/embeddings", KeyScope.INFER),
        ("GET", "/loupe/cache/entries", KeyScope.INFER), ("DELETE", "/api/delete", KeyScope.ADMIN),
        ("POST", "/api/pull", KeyScope.ADMIN), ("GET", "/loupe/keys", KeyScope.ADMIN),
        ("POST", "/loupe/keys", KeyScope.ADMIN), ("GET", "/loupe/jobs", KeyScope.ADMIN),
        ("DELETE", "/loupe/cache", KeyScope.ADMIN), ("GET", "/loupe/no-such-route", KeyScope.ADMIN),
        ("GET", "/api/no-such-route", KeyScope.ADMIN), ("PUT", "/api/tags", KeyScope.ADMIN),
    ]  # fmt: skip
    for method, path, needed in table:
        for scope, key in keys.items():
            answer = await door.client.request(method, path, headers=key, json=None if method == "GET" else {})
            assert (answer.status_code == 403) is not scope.covers(needed), (method, path, scope, answer.text)


async def test_create_blobs_and_push_want_the_switch_beside_an_administrator(door: Door) -> None:
    boss, infers = door.key("boss", KeyScope.ADMIN), door.key("ci")
    for key, word in ((boss, "LOUPE_ALLOW_CREATE"), (infers, "needs admin")):
        refused = await door.client.post("/api/create", json={"model": "x"}, headers=key)
        assert refused.status_code == 403 and word in refused.json()["error"]


def test_every_route_has_a_policy_and_every_policy_a_route(tmp_path: Path) -> None:
    from app.bootstrap import build
    from app.config import Settings

    services = build(Settings(data=tmp_path, port=0))
    routes = [route for route in create_routes(services) if getattr(route, "methods", None)]
    found = {(method, route.path) for route in routes for method in route.methods}  # type: ignore[attr-defined]
    unlisted = {pair for pair in found if pair[1] not in POLICIES and not pair[1].startswith("/loupe/")}
    assert unlisted == set()
    assert all(policy_of(method, path) is Policy.ADMIN for method, path in found if path not in POLICIES)


async def test_a_key_for_some_models_sees_and_uses_no_other(door: Door) -> None:
    key, every = door.key("some", KeyScope.INFER, "llama3.2:*"), door.key("every")

    async def names(key: dict[str, str], path: str, rows: str, name: str) -> list[str]:
        return sorted(row[name] for row in (await door.client.get(path, headers=key)).json()[rows])

    assert await names(key, "/api/tags", "models", "name") == [OTHER]
    assert await names(key, "/v1/models", "data", "id") == [OTHER]
    assert await names(every, "/api/tags", "models", "name") == sorted([OTHER, MODEL])
    asked = door.stub.asked_for("/api/embed") + door.stub.asked_for("/api/chat")
    hidden = {
        path: (await door.client.post(path, json={**ASKED, **more}, headers=key)).status_code
        for path, more in {
            "/api/chat": {}, "/api/generate": {"prompt": "x"}, "/api/embed": {"input": "x"}, "/api/show": {},
            "/api/embeddings": {"prompt": "x"}, "/v1/chat/completions": {}, "/v1/completions": {"prompt": "x"},
            "/v1/embeddings": {"input": "x"}, "/v1/messages": {"max_tokens": 5}, "/v1/responses": {"input": "x"},
        }.items()
    }  # fmt: skip
    assert set(hidden.values()) == {404}, hidden
    assert (await door.client.get(f"/v1/models/{MODEL}", headers=key)).status_code == 404
    assert (await door.client.get("/loupe/queue", headers=key)).status_code == 403
    assert door.stub.asked_for("/api/embed") + door.stub.asked_for("/api/chat") == asked
    assert (await door.ask(key, model=OTHER)).status_code == 200
    missing = await door.ask(key, model="no-such-model")
    assert missing.status_code == 404 and missing.json()["error"].startswith("model 'no-such-model' not found among")


async def test_answers_are_kept_for_each_key_by_itself(door: Door) -> None:
    one, two, owner = door.key("one"), door.key("two"), shown(TOKEN)

    async def outcome(key: dict[str, str]) -> str:
        answer = await door.client.post("/api/chat", json=COLD, headers=key)
        assert answer.status_code == 200
        return answer.headers["x-loupe-cache"].partition(";")[0]

    async def stored(count: int) -> None:
        async def there() -> bool:
            return int((await door.client.get("/loupe/cache", headers=owner)).json()["stored"]) >= count

        async with asyncio.timeout(30):
            while not await there():
                await asyncio.sleep(0.01)

    for number, key in enumerate((one, two, owner), 1):
        assert await outcome(key) == "miss"
        await stored(number)
    assert [await outcome(key) for key in (one, two, owner, one, one)] == ["hit"] * 5
    listed = (await door.client.get("/loupe/cache/entries", headers=one)).json()["entries"]
    assert len(listed) == 1
    theirs = (await door.client.get("/loupe/cache/entries", headers=two)).json()["entries"][0]["key"]
    assert (await door.client.get(f"/loupe/cache/entries/{theirs}", headers=one)).status_code == 404
    assert (await door.client.delete(f"/loupe/cache/entries/{theirs}", headers=one)).status_code == 404
    used = door.used("one")
    tokens = lines_tokens()
    assert (used["requests"], used["tokens"]) == (4, tokens)  # one answer by the model, three out of the cache
    principal = door.product.services.keys.list()[1].principal
    assert {r.flow for r in door.product.services.telemetry.snapshot().recent if r.principal == principal} == {
        principal
    }


def lines_tokens() -> int:
    part = lines("chat_stream").parts[-1]
    assert isinstance(part, bytes)
    last = json.loads(part)
    return int(last["prompt_eval_count"] + last["eval_count"])


async def test_a_limit_a_minute_also_counts_answers_out_of_the_cache(door: Door) -> None:
    key = door.key("ci", per_minute=4)
    statuses = [(await door.client.post("/api/chat", json=COLD, headers=key)).status_code for _ in range(7)]
    assert statuses == [200] * 4 + [429] * 3 and door.used("ci")["requests"] == 4


async def test_a_stream_that_is_broken_off_is_charged_for_what_came_and_gives_its_seat_back(door: Door) -> None:
    gate, told = asyncio.Event(), lines("chat_stream")
    door.stub.on("/api/chat", Reply([*told.parts[:3], gate]), told)
    key = door.key("ci", at_once=1, tokens_a_day=100_000)
    async with door.client.stream("POST", "/api/chat", json=ASKED, headers=key) as answer:
        pieces = answer.aiter_lines()
        for _ in range(3):
            await anext(pieces)
        busy = await door.ask(key)
        assert busy.status_code == 429 and busy.headers["retry-after"] == "1" and "at once" in busy.json()["error"]
    await until(lambda: door.used("ci")["running"] == 0, 30, "the seat to be free")
    assert door.used("ci")["tokens"] > 3  # three pieces, and a prompt
    gate.set()
    assert (await door.ask(key)).status_code == 200


async def test_the_tokens_of_a_day_are_charged_as_the_host_counts_them_and_end(door: Door) -> None:
    key = door.key("ci", tokens_a_day=2 * lines_tokens())
    assert [(await door.ask(key)).status_code for _ in range(3)] == [200, 200, 429]
    refused = await door.ask(key, "/v1/chat/completions")
    assert "tokens a day" in refused.json()["error"]["message"] and 1 <= int(refused.headers["retry-after"]) <= 86_400
    assert door.used("ci")["tokens_today"] == 2 * lines_tokens()


# Making and taking back, over HTTP


async def test_a_key_is_made_shown_once_and_taken_back_over_http(door: Door) -> None:
    boss = shown(TOKEN)
    wish = {"name": "ci", "models": [OTHER], "per_minute": 9}
    made = await door.client.post("/loupe/keys", json=wish, headers=boss)
    assert made.status_code == 201
    secret, key = made.json()["secret"], made.json()["key"]
    listed = await door.client.get("/loupe/keys", headers=boss)
    assert listed.json()["keys"] == [key] and secret not in listed.text and "sha256" not in listed.text
    assert key["scope"] == "infer" and key["limits"]["per_minute"] == 9 and secret.startswith(key["hint"])
    assert (await door.client.get("/api/tags", headers=shown(secret))).status_code == 200
    assert (await door.client.delete("/loupe/keys/ci", headers=boss)).json()["key"]["revoked_at"] is not None
    refused = await door.client.get("/api/tags", headers=shown(secret))
    assert refused.status_code == 401 and "was revoked on" in refused.json()["error"]
    assert (await door.client.delete("/loupe/keys/ci", headers=boss)).status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "name"),
        ({"name": "x", "scope": "god"}, "read, infer, admin"),
        ({"name": "x", "models": "all"}, "list of names"),
        ({"name": "x", "per_minute": "5"}, "whole number"),
        ({"name": "x", "per_minute": True}, "whole number"),
        ({"name": "x", "rate": 5}, "unknown: rate"),
        ({"name": 5}, "string"),
    ],
)
async def test_a_wish_with_a_mistake_is_told_which(door: Door, body: dict[str, Any], words: str) -> None:
    answer = await door.client.post("/loupe/keys", json=body, headers=shown(TOKEN))
    assert answer.status_code == 400 and words in answer.json()["error"]


# The pages


async def page_socket(url: str, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        async with connect(f"{url.replace('http', 'ws')}/_stcore/stream", additional_headers=named):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def signed_in(door: Door, secret: str) -> httpx.Response:
    return await door.client.post("/loupe/sign-in", data={"token": secret, "next": "/"})


async def test_a_browser_signs_in_with_a_key_and_is_out_when_it_is_revoked(door: Door) -> None:
    door.key("me"), door.key("reads", KeyScope.READ)
    assert (await signed_in(door, "loupe_nobody")).status_code == 401
    refused = await signed_in(door, door.secrets["reads"])
    assert refused.status_code == 403 and "set-cookie" not in refused.headers
    taken = await signed_in(door, door.secrets["me"])
    assert taken.status_code == 303 and door.secrets["me"] not in taken.headers["set-cookie"]
    pair = taken.headers["set-cookie"].partition(";")[0]
    door.client.cookies.clear()
    told = (await door.client.get("/loupe/whoami", headers={"Cookie": pair})).json()
    assert (told["name"], told["scope"], told["owner"]) == ("me", "infer", False)
    name, _, value = pair.partition("=")
    forged = [value.replace("key:", "key:0"), value[:-1] + ("0" if value[-1] != "0" else "1"), value.partition("~")[0]]
    for other in forged:
        cookie = {"Cookie": f"{name}={other}"}
        assert (await door.client.get("/loupe/whoami", headers=cookie)).status_code == 401
    door.product.services.keys.revoke("me")
    assert (await door.client.get("/loupe/whoami", headers={"Cookie": pair})).status_code == 401
    assert await page_socket(door.product.url, Cookie=pair) == 403


# Without a token


async def test_the_first_key_closes_the_door_and_only_forgetting_all_opens_it_again(tmp_path: Path) -> None:
    stub = StubOllama()
    async with (
        served(stub) as host,
        loupe(tmp_path, [host]) as product,
        httpx.AsyncClient(base_url=product.url, timeout=30) as client,
    ):
        assert (await client.get("/loupe/whoami")).json()["owner"] is True
        assert (await client.get("/api/tags", headers=shown("ollama"))).status_code == 200  # what clients send anyway
        refused = await client.post("/loupe/keys", json={"name": "ci"})
        assert refused.status_code == 400 and "the first key must be one of scope admin" in refused.json()["error"]
        made = await client.post("/loupe/keys", json={"name": "boss", "scope": "admin"})
        boss = shown(made.json()["secret"])
        assert (await client.get("/api/tags")).status_code == 401
        assert (await client.get("/healthz")).status_code == 200
        page = await client.get("/", headers={"Accept": "text/html"})
        assert page.status_code == 303 and page.headers["location"].startswith("/loupe/sign-in")
        assert (await client.get("/api/tags", headers=boss)).status_code == 200
        await client.delete("/loupe/keys/boss", headers=boss)
        assert (await client.get("/api/tags")).status_code == 401
        product.services.keys.forget_all()
        assert (await client.get("/api/tags")).status_code == 200


async def test_a_key_sees_its_own_requests_and_an_administrator_all(door: Door) -> None:
    boss, one, other = door.key("boss", KeyScope.ADMIN), door.key("one"), door.key("other")
    ids = [(await door.ask(key)).headers["x-loupe-request-id"] for key in (one, other)]

    async def seen(key: dict[str, str], **asked: str) -> list[str]:
        rows = (await door.client.get("/loupe/requests", headers=key, params=asked)).json()["requests"]
        return [row["id"] for row in rows]

    async with asyncio.timeout(30):
        while len(await seen(boss)) < 2:
            await asyncio.sleep(0.01)
    assert await seen(boss) == ids[::-1]
    assert (await seen(one), await seen(other)) == ([ids[0]], [ids[1]])
    theirs = (await door.client.get("/loupe/requests", headers=boss)).json()["requests"][0]["principal"]
    assert await seen(boss, principal=theirs) == [ids[1]]
    assert await seen(one, principal=theirs) == [ids[0]]  # asking for somebody else's gives one's own
    found = [
        (await door.client.get(f"/loupe/requests/{ids[1]}", headers=key)).status_code for key in (boss, one, other)
    ]
    assert found == [200, 404, 200]
    assert (await door.client.get("/loupe/requests")).status_code == 401
    reads = door.key("reads", KeyScope.READ)
    assert (await door.client.get("/loupe/requests", headers=reads)).status_code == 403
