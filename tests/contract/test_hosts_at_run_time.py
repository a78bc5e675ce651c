"""Hosts added, drained and removed over HTTP while Loupe runs, kept over a restart, refused where they must be."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import httpx
import pytest

from app.backends.connecting import GuardedResolver
from app.backends.ollama_http import OllamaHttp
from app.core.errors import HostError
from app.core.hosts import HostAddress
from proving.stand import ask, asking, chat, loupe, until
from tests.stub_ollama import MODEL, Reply, StubOllama, lines, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
OTHER = "other:1b"


@asynccontextmanager
async def running(folder: Path, *hosts: str, **settings: object) -> AsyncIterator[tuple[httpx.AsyncClient, object]]:
    async with loupe(folder, hosts, **settings) as product, httpx.AsyncClient(base_url=product.url) as client:
        yield client, product


async def listed(client: httpx.AsyncClient) -> dict[str, dict[str, object]]:
    return {host["name"]: host for host in (await client.get("/loupe/hosts")).json()["hosts"]}


async def add(client: httpx.AsyncClient, name: str, url: str, **more: object) -> httpx.Response:
    return await client.post("/loupe/hosts", json={"name": name, "url": url, **more})


async def test_an_added_host_answers_at_once_and_is_there_after_a_restart(tmp_path: Path) -> None:
    async with served(StubOllama()) as one, served(StubOllama(models={OTHER: "e" * 64})) as two:
        async with running(tmp_path, one) as (client, product):
            told = await add(client, "bench", two, slots=3, key="s3cret")
            assert told.status_code == 201
            assert (told.json()["state"], told.json()["slots"], told.json()["added"]) == ("healthy", 3, True)
            assert "s3cret" not in (await client.get("/loupe/hosts")).text
            outcome = await ask(product.url, chat(model=OTHER))
            assert (outcome.complete, outcome.headers["x-loupe-host"]) == (True, "bench")
        kept = tmp_path / "data" / "hosts.json"
        assert kept.stat().st_mode & 0o777 == 0o600, "it holds keys"
        async with running(tmp_path, one) as (client, product):
            assert {name: host["added"] for name, host in (await listed(client)).items()} == {
                "host0": False,
                "bench": True,
            }
            assert (await ask(product.url, chat(model=OTHER))).complete


async def test_a_host_that_does_not_answer_yet_joins_when_it_does(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    async with served(StubOllama()) as one, running(tmp_path, one) as (client, product):
        told = await add(client, "late", f"127.0.0.1:{port}")
        assert told.status_code == 201
        assert (told.json()["state"], told.json()["error"]) == ("offline", "connection refused")
        async with served(StubOllama(models={OTHER: "e" * 64}), port=port):
            pool = product.services.pool
            await until(lambda: pool.lists(OTHER), 12, "the late host to join")
            assert (await ask(product.url, chat(model=OTHER))).complete


async def test_a_drained_host_finishes_what_it_has_and_gets_nothing_new(tmp_path: Path) -> None:
    stub, gate = StubOllama(), asyncio.Event()
    first, *rest = lines("chat_stream").parts
    stub.on("/api/chat", Reply([first, gate, *rest]))
    async with served(stub) as one, running(tmp_path, one, outage_seconds=0) as (client, product):
        async with asking(product.url, chat()) as running_answer:
            await running_answer.head()
            await running_answer.piece()
            drained = await client.post("/loupe/hosts/host0/drain")
            assert (drained.status_code, drained.json()["draining"]) == (200, True)
            refused = await ask(product.url, chat("another"))
            assert (refused.status, "drained" in refused.last["error"]) == (503, True)
            gate.set()
            assert b'"done":true' in await running_answer.body()
        assert (await client.post("/loupe/hosts/host0/resume")).json()["draining"] is False
        assert (await ask(product.url, chat("another"))).complete
        assert (await client.delete("/loupe/hosts/host0")).status_code == 403, "it is a setting"
    async with served(stub) as one, running(tmp_path, one) as (client, product):
        assert (await listed(client))["host0"]["draining"] is False


async def test_a_drain_holds_over_a_restart(tmp_path: Path) -> None:
    async with served(StubOllama()) as one:
        async with running(tmp_path, one) as (client, _):
            await client.post("/loupe/hosts/host0/drain")
        async with running(tmp_path, one) as (client, _):
            assert (await listed(client))["host0"]["draining"] is True


async def test_a_host_is_removed_when_its_last_answer_has_ended(tmp_path: Path) -> None:
    stub, gate = StubOllama(models={OTHER: "e" * 64}), asyncio.Event()
    first, *rest = lines("chat_stream").parts
    stub.on("/api/chat", Reply([first, gate, *rest]))
    async with served(StubOllama()) as one, served(stub) as two, running(tmp_path, one) as (client, product):
        await add(client, "bench", two)
        async with asking(product.url, chat(model=OTHER)) as answer:
            await answer.head()
            await answer.piece()
            removing = await client.delete("/loupe/hosts/bench")
            assert (removing.status_code, removing.json()) == (202, {"removed": False})
            assert "bench" in await listed(client)
            assert (await client.post("/loupe/hosts/bench/resume")).status_code == 400
            gate.set()
            assert b'"done":true' in await answer.body()
        await until(lambda: len(product.services.pool.statuses()) == 1, 5, "the host to go")
        assert json.loads((tmp_path / "data" / "hosts.json").read_text())["hosts"] == []
        assert (await client.delete("/loupe/hosts/bench")).status_code == 404
        assert 'host_up{host="bench"}' not in (await client.get("/metrics")).text
        again = await add(client, "bench", two)
        assert again.status_code == 201
        assert (await client.delete("/loupe/hosts/bench")).json() == {"removed": True}


REFUSED = [
    ("x", "http://169.254.169.254", "link-local"),
    ("x", "http://[fe80::1]:11434", "link-local"),
    ("x", "http://[::ffff:169.254.169.254]", "link-local"),
    ("x", "http://[64:ff9b::a9fe:a9fe]", "link-local"),
    ("x", "http://[fd00:ec2::254]", "metadata"),
    ("x", "http://100.100.100.200", "metadata"),
    ("x", "http://user:word@127.0.0.1:1", "user name"),
    ("x", "http://127.0.0.1:1/?a=b", "query"),
    ("x", "file:///etc/passwd", "http or https"),
    ("x", "http://2852039166", "not a host name"),
    ("x", "0xA9FEA9FE", "not a host name"),
    ("x", "http://169.254.43518:80", "not a host name"),
    ("x", "", "no address"),
    ("a b", "http://127.0.0.1:1", "not a name"),
    ("host0", "http://127.0.0.1:1", "already"),
    ("HOST0", "http://127.0.0.1:1", "already"),
]


async def test_what_cannot_be_a_host_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with served(StubOllama()) as one, running(tmp_path, one) as (client, _):
        for name, url, words in REFUSED:
            told = await add(client, name, url)
            assert told.status_code == 400, (name, url)
            assert words in told.json()["error"], told.json()
        for more in ({"slots": 0}, {"slots": 65}, {"slots": True}, {"slots": "2"}, {"key": 1}, {"key": "a\r\nb"}):
            assert (await add(client, "x", "http://127.0.0.1:1", **more)).status_code == 400, more
        twice = await add(client, "x", one)
        assert (twice.status_code, "slots would count twice" in twice.json()["error"]) == (400, True)
        assert list(await listed(client)) == ["host0"]
        assert not (tmp_path / "data" / "hosts.json").exists()


async def test_a_name_that_leads_to_a_forbidden_address_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def looked_up(self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        return [
            {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}
            for address in (("169.254.169.254",) if host == "bad.test" else ("169.254.169.254", "127.0.0.1"))
        ]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", looked_up)
    backend = OllamaHttp(HostAddress("bad", "http://bad.test:80"))
    with pytest.raises(HostError, match="refused"):
        await backend.version()
    await backend.close()
    assert [one["host"] for one in await GuardedResolver().resolve("good.test")] == ["127.0.0.1"]


async def test_a_host_that_redirects_is_misconfigured_and_never_followed(tmp_path: Path) -> None:
    secret, liar = StubOllama(), StubOllama()
    async with served(secret) as inside, served(liar) as outside, running(tmp_path, inside) as (client, _):
        liar.on("/api/version", Reply([b"{}"], 302, headers={"location": f"{inside}/api/version"}))
        before = len(secret.asked)
        told = await add(client, "liar", outside)
        assert (told.json()["state"], "redirects" in told.json()["error"]) == ("misconfigured", True)
        assert len(secret.asked) - before <= 2, "somebody followed"


async def test_a_damaged_file_is_put_aside_and_everything_else_works(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "hosts.json").write_text("{not json")
    async with served(StubOllama()) as one, running(tmp_path, one) as (client, _):
        assert list(await listed(client)) == ["host0"]
        assert (data / "hosts.json.damaged").read_text() == "{not json"


async def test_a_host_that_refuses_the_key_says_so_and_a_429_is_kept_to(tmp_path: Path) -> None:
    stub, shut = StubOllama(), StubOllama()
    shut.on("/api/version", Reply([b'{"error":"unauthorized"}'], 401, "application/json"))
    async with served(stub) as one, served(shut) as two, running(tmp_path, one) as (client, _):
        told = await add(client, "shut", two)
        assert (told.json()["state"], "key" in told.json()["error"]) == ("misconfigured", True)
        busy = Reply([b'{"error":"slow down"}'], 429, "application/json", {"retry-after": "120"})
        stub.on("/api/chat", busy)
        first = await client.post("/api/chat", json=chat())
        assert (first.status_code, first.headers["retry-after"]) == (429, "120")
        second = await client.post("/api/chat", json=chat())
        assert (second.status_code, len(stub.asked_for("/api/chat"))) == (429, 1), "it was asked before its time"
        assert 100 < float(second.headers["retry-after"]) <= 120
        host = (await listed(client))["host0"]
        assert (host["state"], 100 < host["rests"] <= 120) == ("rate limited", True)


@pytest.mark.parametrize(("version", "severe"), [("0.17.0", [False]), ("0.1.40", [True]), ("0.17.1", [])])
async def test_versions_with_known_holes_are_warned_about(tmp_path: Path, version: str, severe: list[bool]) -> None:
    async with served(StubOllama(version=version)) as one, running(tmp_path, one) as (client, product):
        warnings = (await listed(client))["host0"]["warnings"]
        assert [warning["severe"] for warning in warnings] == severe
        assert all(version in warning["text"] and "0.17.1" in warning["text"] for warning in warnings)
        assert (await ask(product.url, chat())).complete, "a warning is no refusal"


async def test_models_that_run_elsewhere_are_refused_unless_allowed(tmp_path: Path) -> None:
    stub = StubOllama()
    row = {"name": "far:1b", "model": "far:1b", "digest": "f" * 64, "size": 300, "modified_at": "2026-01-01T00:00:00Z",
           "details": {}, "remote_host": "https://ollama.com:443", "remote_model": "far"}  # fmt: skip
    stub.on("/api/tags", Reply([json.dumps({"models": [row]}).encode()], content_type="application/json"))
    async with served(stub) as one:
        async with running(tmp_path, one) as (client, product):
            refused = await ask(product.url, chat(model="far:1b"))
            assert refused.status == 403
            assert "https://ollama.com" in refused.last["error"]
            assert "LOUPE_REMOTE_MODELS" in refused.last["error"]
            embedded = await client.post("/api/embed", json={"model": "far:1b", "input": "a"})
            cloud = await client.post("/api/embed", json={"model": "anything:cloud", "input": "a"})
            assert (embedded.status_code, cloud.status_code) == (403, 403)
            assert not stub.asked_for("/api/chat")
            assert not stub.asked_for("/api/embed")
        async with running(tmp_path, one, remote_models=True) as (_, product):
            assert (await ask(product.url, chat(model="far:1b"))).complete


async def test_tags_and_ps_of_several_hosts_are_merged_by_digest(tmp_path: Path) -> None:
    one, two = StubOllama(models={MODEL: "d" * 64}), StubOllama(models={MODEL: "d" * 64, "odd": "e" * 64})
    three = StubOllama(models={"odd": "f" * 64})
    async with (
        served(one) as a, served(two) as b, served(three) as c, running(tmp_path, a, b, c) as (client, _),
    ):  # fmt: skip
        tags = (await client.get("/api/tags")).json()["models"]
        told = {(row["name"], row["digest"][0]): row["loupe"] for row in tags}
        assert told == {
            (MODEL, "d"): {"hosts": ["host0", "host1"], "conflict": False},
            ("odd", "e"): {"hosts": ["host1"], "conflict": True},
            ("odd", "f"): {"hosts": ["host2"], "conflict": True},
        }
        [loaded] = (await client.get("/api/ps")).json()["models"]
        assert loaded["loupe"]["hosts"] == ["host0", "host1", "host2"]
        assert [load["host"] for load in loaded["loupe"]["loads"]] == ["host0", "host1", "host2"]
        assert all(load["size"] == loaded["size"] for load in loaded["loupe"]["loads"])
