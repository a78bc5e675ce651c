"""Aliases over real sockets: every dialect, the lists, fallbacks, the cache, the context guard, switching."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.services.access_keys import KeyScope, KeyWish
from proving.stand import loupe, until
from tests.aliasing import TellingHost, behind_loupe, chat, make
from tests.stub_ollama import served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
SMALL, LARGE, GONE = "tiny:1b-q4_K_M", "tiny:1b-q8_0", "tiny:1b-q2_K"
COLD = {"temperature": 0, "num_ctx": 1024}


def said(answer: httpx.Response) -> str:
    """The text of an answer in any dialect."""
    body = answer.json()
    if "message" in body:
        return body["message"]["content"]
    if "response" in body:
        return body["response"]
    if "choices" in body:
        choice = body["choices"][0]
        return choice["message"]["content"] if "message" in choice else choice["text"]
    if "output" in body:
        return body["output"][-1]["content"][0]["text"]
    return body["content"][0]["text"]


QUESTIONS: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": [{"role": "user", "content": "Hi"}], "stream": False},
    "/api/generate": {"prompt": "Hi", "stream": False},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9},
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def pair(
    tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[tuple[httpx.AsyncClient, TellingHost, TellingHost]]:
    """Two hosts: both have the small variant, the second one alone the large one."""
    one, two = TellingHost("one", [SMALL]), TellingHost("two", [SMALL, LARGE], context=20)
    async with behind_loupe(tmp_path_factory.mktemp("pair"), one, two) as (client, _):
        yield client, one, two


async def test_every_dialect_answers_by_the_alias_and_says_which_model_it_was(pair):
    client, _, _ = pair
    await make(client, "coder", LARGE)
    for path, body in QUESTIONS.items():
        answer = await client.post(path, json={"model": "coder", **body})
        assert (answer.status_code, said(answer)) == (200, f"two {LARGE}"), path
        told = (answer.headers["x-loupe-model"], answer.headers["x-loupe-alias"], answer.headers["x-loupe-host"])
        assert told == (LARGE, "coder; choice=1", "two"), path
    for path, field in (("/api/embed", "input"), ("/api/embeddings", "prompt"), ("/v1/embeddings", "input")):
        answer = await client.post(path, json={"model": "Coder:latest", field: "words"})
        assert (answer.status_code, answer.headers["x-loupe-model"], answer.json()["model"]) == (200, LARGE, LARGE), (
            path
        )


async def test_a_model_by_its_own_name_is_told_in_the_header_too_and_is_no_alias(pair):
    client, _, _ = pair
    answer = await client.post("/api/chat", json=chat(LARGE))
    assert answer.headers["x-loupe-model"] == LARGE and "x-loupe-alias" not in answer.headers


async def test_streams_say_it_before_their_first_piece(pair):
    client, _, _ = pair
    await make(client, "coder", LARGE)
    async with client.stream("POST", "/v1/chat/completions", json={**chat("coder"), "stream": True}) as answer:
        assert answer.headers["x-loupe-model"] == LARGE
        text = (await answer.aread()).decode()
    assert f"two {LARGE}" in text and text.endswith("data: [DONE]\n\n")


async def test_aliases_are_in_the_lists_marked_and_can_be_shown(pair):
    client, _, _ = pair
    await make(client, "coder", LARGE)
    await make(client, "nowhere", GONE, anyway=True)
    rows = {row["name"]: row for row in (await client.get("/api/tags")).json()["models"]}
    assert set(rows) >= {"coder:latest", SMALL, LARGE} and "nowhere:latest" not in rows
    assert rows["coder:latest"]["loupe"]["model"] == LARGE and rows["coder:latest"]["digest"] == rows[LARGE]["digest"]
    models = {row["id"]: row for row in (await client.get("/v1/models")).json()["data"]}
    assert models["coder:latest"]["owned_by"] == "loupe alias" and models["coder:latest"]["root"] == LARGE
    assert "root" not in models[LARGE]
    assert (await client.get("/v1/models/coder")).json()["root"] == LARGE
    shown = await client.post("/api/show", json={"model": "coder"})
    assert shown.json()["loupe"]["model"] == LARGE and shown.json()["details"]
    missing = await client.post("/api/show", json={"model": "nowhere"})
    assert missing.status_code == 404 and GONE in missing.json()["error"]
    assert (await client.delete("/loupe/aliases/nowhere")).status_code == 200


async def test_what_is_missing_falls_back_and_the_reason_is_told(pair):
    client, _, _ = pair
    await make(client, "writer", GONE, SMALL, anyway=True)
    answer = await client.post("/api/chat", json=chat("writer"))
    assert answer.status_code == 200 and answer.headers["x-loupe-model"] == SMALL
    assert "choice=2" in answer.headers["x-loupe-alias"] and GONE in answer.headers["x-loupe-alias"]


async def test_what_does_not_load_falls_back_before_the_first_piece(pair):
    client, _, two = pair
    await make(client, "writer", LARGE, SMALL)
    two.broken = {LARGE}
    try:
        for path, body in QUESTIONS.items():
            answer = await client.post(path, json={"model": "writer", **body})
            assert (answer.status_code, answer.headers["x-loupe-model"]) == (200, SMALL), path
        assert "does not load" in answer.headers["x-loupe-alias"]
        embedded = await client.post("/api/embed", json={"model": "writer", "input": "x"})
        assert (embedded.status_code, embedded.headers["x-loupe-model"]) == (200, SMALL)
    finally:
        two.broken = set()


async def test_where_nothing_can_answer_every_reason_is_told(pair):
    client, _, two = pair
    await make(client, "writer", GONE, LARGE, anyway=True)
    two.broken = {LARGE}
    try:
        answer = await client.post("/v1/chat/completions", json=chat("writer"))
    finally:
        two.broken = set()
    message = answer.json()["error"]["message"]
    assert answer.status_code == 500 and GONE in message and "does not load" in message
    await make(client, "writer", GONE, anyway=True)
    gone = await client.post("/api/embed", json={"model": "writer", "input": "x"})
    assert gone.status_code == 404 and "writer" in gone.json()["error"] and GONE in gone.json()["error"]


async def test_the_clients_own_mistake_is_not_tried_elsewhere(pair):
    client, one, two = pair
    await make(client, "writer", LARGE, SMALL)
    before = len(one.asked_for("/api/chat")) + len(two.asked_for("/api/chat"))
    answer = await client.post("/api/chat", json=chat("writer", think="very"))
    assert answer.status_code == 400
    assert len(one.asked_for("/api/chat")) + len(two.asked_for("/api/chat")) == before


async def test_a_target_with_a_host_is_answered_there_alone(pair):
    client, _, _ = pair
    for host in ("two", "one"):
        await make(client, "here", f"{SMALL}@{host}")
        told = {said(await client.post("/api/chat", json=chat("here"))) for _ in range(3)}
        assert told == {f"{host} {SMALL}"}


async def test_defaults_fill_what_the_client_left_out_in_every_dialect(pair):
    client, _, two = pair
    await make(
        client, "set", f"{SMALL}@two", options={"temperature": 0.3, "num_ctx": 2048, "stop": ["END"]},
        system="Be brief.", keep_alive="30m", think=False,
    )  # fmt: skip
    for path, body in QUESTIONS.items():
        assert (await client.post(path, json={"model": "set", **body})).status_code == 200
        options = two.last["options"]
        assert (options["temperature"], options["num_ctx"], options["stop"]) == (0.3, 2048, ["END"]), path
        assert (two.last["keep_alive"], two.last["think"]) == ("30m", False), path
        system = two.last.get("system") or two.last["messages"][0]["content"]
        assert system == "Be brief.", path


async def test_what_the_client_says_wins(pair):
    client, _, two = pair
    await make(
        client, "set", f"{SMALL}@two", options={"temperature": 0.3, "top_p": 0.5}, system="Be brief.", think=False
    )
    messages = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "Hi"}]
    await client.post("/v1/chat/completions", json={"model": "set", "messages": messages, "temperature": 1.0})
    assert two.last["options"] == {"temperature": 1.0, "top_p": 0.5} and two.last["messages"] == messages
    await client.post(
        "/api/generate", json={"model": "set", "prompt": "Hi", "system": "Mine.", "options": {"top_p": 1}}
    )
    assert (two.last["system"], two.last["options"]) == ("Mine.", {"temperature": 0.3, "top_p": 1})


async def test_loading_and_unloading_by_an_alias_stay_that(pair):
    client, _, two = pair
    await make(client, "set", f"{SMALL}@two", system="Be brief.")
    for body in ({"model": "set"}, {"model": "set", "keep_alive": 0}):
        answer = await client.post("/api/generate", json=body)
        assert answer.status_code == 200 and "system" not in two.last and two.last["model"] == SMALL
        answer = await client.post("/api/chat", json={**body, "messages": []})
        assert answer.status_code == 200 and not two.last["messages"]


async def test_the_guard_refuses_what_does_not_fit_with_count_limit_and_what_to_do(pair):
    client, _, _ = pair
    await make(client, "strict", LARGE, guard="refuse")
    long = "word " * 30
    for path, body in QUESTIONS.items():
        fields = {key: value for key, value in body.items() if key not in ("messages", "prompt", "input")}
        asked = (
            {"messages": [{"role": "user", "content": long}]} if "messages" in body
            else {"prompt": long} if "prompt" in body else {"input": long}
        )  # fmt: skip
        refused = await client.post(path, json={"model": "strict", **fields, **asked})
        error = refused.json()["error"]
        message = error if isinstance(error, str) else error["message"]
        assert refused.status_code == 400, path
        assert all(word in message for word in ("30 tokens", "holds 20", "strict", LARGE, "num_ctx")), message
    fits = await client.post("/api/chat", json=chat("strict", "word " * 20))
    assert fits.status_code == 200 and "x-loupe-context" not in fits.headers
    refused = await client.post("/api/embed", json={"model": "strict", "input": long})
    assert refused.status_code == 400 and "strict" in refused.json()["error"]


async def test_the_guard_warns_by_a_header_and_lets_it_be_cut(pair):
    client, _, two = pair
    await make(client, "mild", LARGE)
    long = await client.post("/v1/chat/completions", json=chat("mild", "word " * 30))
    assert (long.status_code, long.headers["x-loupe-context"]) == (200, "cut; tokens=30; limit=20")
    assert "truncate" not in two.last
    embedded = await client.post("/api/embed", json={"model": "mild", "input": "word " * 30})
    assert embedded.status_code == 200 and embedded.headers["x-loupe-context"].startswith("cut")


@pytest.mark.parametrize(("guard", "own"), [("off", {}), ("refuse", {"truncate": True})])
async def test_without_a_guard_and_where_the_client_decides_the_host_cuts_as_ever(pair, guard, own):
    client, _, two = pair
    await make(client, "loose", LARGE, guard=guard)
    answer = await client.post("/api/chat", json=chat("loose", "word " * 30, **own))
    assert answer.status_code == 200 and "x-loupe-context" not in answer.headers
    assert two.last.get("truncate") is own.get("truncate")


async def test_a_switched_alias_never_gives_the_old_models_answer(pair):
    client, _, _ = pair
    for round_ in range(3):
        for model in (SMALL, LARGE):
            await make(client, "swap", f"{model}@two")
            for path, body in QUESTIONS.items():
                extra = {"options": COLD} if path.startswith("/api") else {"temperature": 0, "num_ctx": 1024}
                answer = await client.post(path, json={"model": "swap", **body, **extra})
                told = (said(answer), answer.headers["x-loupe-model"])
                assert told == (f"two {model}", model), (round_, path)


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        (SMALL, {"targets": [LARGE]}, "is a model"),
        ("a b", {"targets": [LARGE]}, "one word"),
        ("x:cloud", {"targets": [LARGE]}, "meaning"),
        ("new", {"targets": []}, "targets"),
        ("new", {"targets": "tiny"}, "targets"),
        ("new", {"targets": ["tinny:1b-q8_0"]}, LARGE),
        ("new", {"targets": [f"{LARGE}@three"]}, "no host"),
        ("new", {"targets": [f"{LARGE}@one"]}, "does not have"),
        ("new", {"targets": ["best=nothing:7b"]}, "no host has"),
        ("new", {"targets": ["worst=tiny"]}, "family"),
        ("new", {"targets": ["new"]}, "circle"),
        ("new", {"targets": [LARGE], "options": {"temprature": 1}}, "temperature"),
        ("new", {"targets": [LARGE], "options": {"temperature": "hot"}}, "temperature"),
        ("new", {"targets": [LARGE], "options": {"num_ctx": 0}}, "num_ctx"),
        ("new", {"targets": [LARGE], "think": "hard"}, "think"),
        ("new", {"targets": [LARGE], "keep_alive": "soon"}, "duration"),
        ("new", {"targets": [LARGE], "guard": "maybe"}, "off, warn, refuse"),
        ("new", {"targets": [LARGE], "sytem": "x"}, "sytem"),
        ("new", {"targets": [LARGE], "anyway": 1}, "anyway"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said_at_once(pair, name, body, words):
    client, _, _ = pair
    refused = await client.put(f"/loupe/aliases/{name}", json=body)
    assert refused.status_code == 400 and words in refused.json()["error"], refused.text
    assert (await client.get("/loupe/aliases/new")).status_code == 404


async def test_circles_over_several_aliases_are_refused_and_used_ones_stay(pair):
    client, _, _ = pair
    await make(client, "c1", SMALL)
    await make(client, "c2", "c1")
    await make(client, "c3", "c2@two", options={"top_k": 7})
    refused = await client.put("/loupe/aliases/c1", json={"targets": ["c3", LARGE]})
    assert refused.status_code == 400 and "circle" in refused.json()["error"]
    used = await client.delete("/loupe/aliases/c1")
    assert used.status_code == 400 and "c2" in used.json()["error"]
    answer = await client.post("/api/chat", json=chat("c3"))
    assert said(answer) == f"two {SMALL}"
    for name in ("c3", "c2", "c1"):
        assert (await client.delete(f"/loupe/aliases/{name}")).status_code == 200
    assert (await client.delete("/loupe/aliases/c1")).status_code == 404


async def test_a_name_that_is_an_alias_cannot_be_pulled_copied_to_or_deleted_as_a_model(pair):
    client, _, _ = pair
    await make(client, "coder", LARGE)
    asked = [
        ("POST", "/api/pull", {"model": "coder"}), ("DELETE", "/api/delete", {"model": "Coder:latest"}),
        ("POST", "/api/copy", {"source": SMALL, "destination": "coder"}),
    ]  # fmt: skip
    for method, path, body in asked:
        told = await client.request(method, path, json=body, headers={"X-Loupe-Host": "one"})
        assert told.status_code == 400 and "is an alias" in told.json()["error"], path
    job = {"kind": "pull", "model": "coder", "host": "one"}
    told = await client.post("/loupe/jobs", json=job)
    assert told.status_code == 400 and "is an alias" in told.json()["error"]


async def test_the_test_of_an_alias_loads_it_and_says_who_that_was(pair):
    client, _, two = pair
    await make(client, "coder", GONE, LARGE, anyway=True)
    told = (await client.post("/loupe/aliases/coder/test")).json()
    assert (told["model"], told["host"], told["choice"], told["error"]) == (LARGE, "two", 2, "")
    two.broken = {LARGE}
    try:
        told = (await client.post("/loupe/aliases/coder/test")).json()
    finally:
        two.broken = set()
    assert told["model"] == "" and "does not load" in told["error"]


async def test_a_key_for_an_alias_may_use_it_and_not_the_models_behind_it(tmp_path: Path):
    host, token = TellingHost("one", [SMALL, LARGE]), "a-long-secret-token"
    async with behind_loupe(tmp_path, host, token=token) as (client, product):
        client.headers["Authorization"] = f"Bearer {token}"
        await make(client, "coder", LARGE)
        _, secret = product.services.keys.create(KeyWish("editor", KeyScope.INFER, ("coder",)))
        client.headers["Authorization"] = f"Bearer {secret}"
        for path, body in QUESTIONS.items():
            answer = await client.post(path, json={"model": "coder", **body})
            assert (answer.status_code, answer.headers["x-loupe-model"]) == (200, LARGE), path
            assert (await client.post(path, json={"model": LARGE, **body})).status_code == 404, path
        assert (await client.post("/api/show", json={"model": "coder"})).status_code == 200
        assert [row["name"] for row in (await client.get("/api/tags")).json()["models"]] == ["coder:latest"]
        assert [row["id"] for row in (await client.get("/v1/models")).json()["data"]] == ["coder:latest"]
        for method, path in (
            ("GET", "/loupe/aliases"),
            ("PUT", "/loupe/aliases/x"),
            ("DELETE", "/loupe/aliases/coder"),
        ):
            assert (await client.request(method, path, json={"targets": [SMALL]})).status_code == 403, path


async def test_a_host_that_is_gone_gives_way_to_the_next_one_and_gets_its_place_back(tmp_path: Path):
    one, two = TellingHost("one", [SMALL]), TellingHost("two", [SMALL, LARGE])
    async with served(one) as first, AsyncExitStack() as second:
        there = await second.enter_async_context(served(two))
        async with (
            loupe(tmp_path, [f"one={first}", f"two={there}"]) as product,
            httpx.AsyncClient(base_url=product.url, timeout=60) as client,
        ):
            await make(client, "here", f"{SMALL}@two", f"{SMALL}@one")
            await make(client, "big", LARGE, SMALL)
            assert said(await client.post("/api/chat", json=chat("here"))) == f"two {SMALL}"
            await second.aclose()
            for name, why in (("here", "two"), ("big", "lost a moment ago")):
                answer = await client.post("/api/chat", json=chat(name))
                told = (said(answer), answer.headers["x-loupe-host"], answer.headers["x-loupe-model"])
                assert told == (f"one {SMALL}", "one", SMALL)
                assert "choice=2" in answer.headers["x-loupe-alias"] and why in answer.headers["x-loupe-alias"]
            port = urlsplit(there).port or 0
            async with served(two, port=port):
                pool = product.services.pool
                await until(lambda: pool.offers(SMALL, "two"), 60, "the host to be back")
                assert said(await client.post("/api/chat", json=chat("here"))) == f"two {SMALL}"


async def test_a_model_pulled_past_us_under_the_name_of_an_alias_does_not_take_it_over(tmp_path: Path):
    host = TellingHost("one", [SMALL, LARGE])
    async with behind_loupe(tmp_path, host) as (client, _):
        await make(client, "later", LARGE)
        host.models["later:latest"] = "f" * 64
        await client.get("/readyz")
        answers = [await client.post("/api/chat", json=chat("later", options=COLD)) for _ in range(3)]
        assert {said(answer) for answer in answers} == {f"one {LARGE}"}
        rows = [row for row in (await client.get("/api/tags")).json()["models"] if row["name"] == "later:latest"]
        assert [row["loupe"]["model"] for row in rows] == [LARGE]
        assert (await client.get("/loupe/aliases/later")).json()["now"]["shadowed"] is True
        await client.delete("/loupe/aliases/later")
        assert said(await client.post("/api/chat", json=chat("later", options=COLD))) == "one later:latest"
        again = await client.put("/loupe/aliases/later", json={"targets": [LARGE]})
        assert again.status_code == 400 and "is a model" in again.json()["error"]


async def test_answers_known_byte_for_byte_give_way_to_an_alias_of_their_name(tmp_path: Path):
    host = TellingHost("one", [SMALL, LARGE, "later:latest"])
    async with behind_loupe(tmp_path, host) as (client, _):
        question = chat("later", options=COLD)
        while "hit" not in (await client.post("/api/chat", json=question)).headers["x-loupe-cache"]:
            await asyncio.sleep(0)
        digest = host.models.pop("later:latest")
        await client.get("/readyz")
        await make(client, "later", LARGE)
        host.models["later:latest"] = digest
        await client.get("/readyz")
        answers = [await client.post("/api/chat", json=question) for _ in range(3)]
        assert {said(answer) for answer in answers} == {f"one {LARGE}"}


async def test_aliases_are_there_after_a_restart_and_a_damaged_file_is_put_aside(tmp_path: Path):
    host = TellingHost("one", [SMALL])
    async with behind_loupe(tmp_path, host) as (client, _):
        made = await make(client, "coder", SMALL, options={"top_k": 5}, note="for the editor", guard="refuse")
    async with behind_loupe(tmp_path, host) as (client, _):
        assert (await client.get("/loupe/aliases/coder")).json() == made
    file = tmp_path / "data" / "aliases.json"
    rows = json.loads(file.read_text())
    rows["aliases"] += [{"name": "bad name", "targets": [SMALL]}, 7, {"name": "x", "targets": [SMALL], "guard": "?"}]
    file.write_text(json.dumps(rows))
    async with behind_loupe(tmp_path, host) as (client, _):
        assert [row["name"] for row in (await client.get("/loupe/aliases")).json()["aliases"]] == ["coder"]
    file.write_text("{")
    async with behind_loupe(tmp_path, host) as (client, _):
        assert (await client.get("/loupe/aliases")).json()["aliases"] == []
        assert (await client.post("/api/chat", json=chat(SMALL))).status_code == 200
    assert file.with_name("aliases.json.damaged").exists()
