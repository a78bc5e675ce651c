"""Pushes from a store on disk to a registry on loopback: one that wants a key, one that wants none, and broken ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import LoupeError
from app.runtime.manifests import CONFIG_TYPE, MODEL, TEMPLATE
from app.runtime.model_store import ModelStore
from app.runtime.pull import Puller
from app.runtime.push import Pusher
from app.runtime.registry.pace import Pace
from tests.pulling import pulled
from tests.pushing import OpenRegistry
from tests.recordings import recording
from tests.runtime_process import runtime
from tests.stub_registry import Answer, small_parts, statuses

pytestmark = pytest.mark.anyio
Record = dict[str, Any]
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
async def registry() -> AsyncIterator[OpenRegistry]:
    made = OpenRegistry()
    async with made.running():
        yield made
        made.left.set()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def stored(store: ModelStore, registry: OpenRegistry) -> str:
    """A model of three layers under a name of the registry."""
    name = registry.name("library/mine:q8_0")
    layers = [
        store.add_blob(WEIGHTS, media_type=MODEL).shared_from("base"),
        store.add_blob(b"{{ .Prompt }}", media_type=TEMPLATE),
    ]
    store.write_manifest(name, store.add_blob(b'{"model_format":"gguf"}', media_type=CONFIG_TYPE), layers)
    return name


async def pushed(store: ModelStore, name: str, **pace: Any) -> list[Record]:
    """All records; an error becomes the last one, as the route writes it."""
    records: list[Record] = []
    try:
        async with aclosing(Pusher(store, pace=Pace(**small_parts(), **pace)).push(name, insecure=True)) as stream:
            async for record in stream:
                records.append(record)
    except LoupeError as error:
        records.append({"error": error.message})
    return records


async def test_a_registry_that_wants_a_key_refuses_and_not_a_byte_of_the_model_has_left(registry, store):
    name = stored(store, registry)
    wants_a_key = Answer(status=401, headers={"www-authenticate": 'Bearer realm="http://127.0.0.1/token"'})
    for layer in store.manifest(name).everything:
        registry.tell(f"blob {layer.digest}", always=wants_a_key)
    records = await pushed(store, name)
    assert records == [{"status": "retrieving manifest"}, {"error": "unauthorized: access denied"}]
    assert [(seen.what[:4], seen.headers.get("authorization")) for seen in registry.requests] == [("blob", None)]


async def test_an_open_registry_takes_the_model_and_gives_it_back_as_it_was(registry, store, tmp_path):
    name = stored(store, registry)
    manifest = store.manifest(name)
    records = await pushed(store, name)
    told = [f"pushing {layer.digest[7:19]}" for layer in (*manifest.layers, manifest.config)]
    assert statuses(records) == ["retrieving manifest", *told, "pushing manifest", "success"]
    for layer in manifest.everything:
        last = [record for record in records if record.get("digest") == layer.digest][-1]
        assert (last["total"], last["completed"]) == (layer.size, layer.size)
    assert registry.manifests["library/mine", "q8_0"] == manifest.raw.rstrip()
    other = ModelStore(tmp_path / "other")
    puller = Puller(other, pace=Pace(**small_parts()))
    assert (await pulled(puller, name))[-1] == {"status": "success"}
    await puller.close()
    assert other.manifest(name).everything == manifest.everything
    assert other.blob_path(manifest.layers[0].digest).read_bytes() == WEIGHTS


async def test_a_layer_goes_in_parts_that_follow_one_another(registry, store):
    await pushed(store, stored(store, registry))
    ends = [tuple(int(number) for number in part.split("-")) for part in registry.parts[: -(-len(WEIGHTS) // 2560)]]
    assert len(ends) == 4 and ends[0][0] == 0 and ends[-1][1] == len(WEIGHTS) - 1
    assert all(before[1] + 1 == after[0] for before, after in zip(ends, ends[1:], strict=False))


async def test_what_the_registry_has_already_is_not_sent_again(registry, store):
    name = stored(store, registry)
    first = await pushed(store, name)
    registry.requests.clear()
    again = await pushed(store, name)
    assert statuses(again) == statuses(first)
    assert [seen.what for seen in registry.requests if not seen.what.startswith(("blob", "storage"))] == ["PUT"]


@pytest.mark.parametrize(("method", "status", "told"), [
    ("POST", 403, "403: "), ("PATCH", 500, "500: "), ("PUT", 400, "400: "),
    ("POST", 401, "unauthorized: access denied"),
    ("PATCH", 307, "unexpected status code 307"), ("PUT", 404, "file does not exist"),
])  # fmt: skip
async def test_a_refusal_at_any_step_is_one_error_and_nothing_is_published(registry, store, method, status, told):
    name = stored(store, registry)
    registry.refuse[method] = status
    records = await pushed(store, name)
    assert records[0] == {"status": "retrieving manifest"} and records[-1] == {"error": told}
    assert registry.manifests == {}


async def test_a_registry_that_reads_no_more_ends_the_push(registry, store):
    name = stored(store, registry)
    registry.deaf = True
    big = store.add_blob(bytes(64 << 20), media_type=MODEL)  # more than the sockets in between hold
    store.write_manifest(name, store.manifest(name).config, [big])
    assert (await pushed(store, name, stall=0.2, largest_part=64 << 20))[-1] == {"error": "part stalled"}


async def test_leaving_a_push_ends_its_upload(registry, store):
    name = stored(store, registry)
    registry.deaf = True
    before = asyncio.all_tasks()
    async with aclosing(Pusher(store, pace=Pace(**small_parts())).push(name, insecure=True)) as records:
        async for record in records:
            if record["status"].startswith("pushing"):
                break
    registry.left.set()
    mine = {task for task in asyncio.all_tasks() - before if "Upload.run" in repr(task)}
    assert mine == set()


async def test_a_registry_that_nobody_can_reach_is_told_with_what_was_asked(store, free_port):
    registry = OpenRegistry()
    registry.host = f"127.0.0.1:{free_port()}"
    name = stored(store, registry)
    digest = store.manifest(name).layers[0].digest
    asked = f'Head "http://{registry.host}/v2/library/mine/blobs/{digest}"'
    told = f"{asked}: dial tcp {registry.host}: connect: connection refused"
    assert (await pushed(store, name))[-1] == {"error": told}


async def test_a_layer_that_is_gone_from_the_disk_is_told(registry, store):
    name = stored(store, registry)
    store.blob_path(store.manifest(name).layers[0].digest).unlink()
    assert "No such file or directory" in (await pushed(store, name))[-1]["error"]
    assert registry.manifests == {}


def test_over_http_an_unstreamed_push_answers_its_last_record_or_its_error_with_500(tmp_path):
    with runtime(tmp_path / "store", tmp_path / "log") as server:
        reply = server.send("POST", "/api/push", {"model": "nope", "stream": False})
        assert (reply.status, reply.headers["content-type"]) == (500, "application/json")
        path = tmp_path / "store" / "manifests" / "registry.ollama.ai" / "library" / "nope" / "latest"
        assert reply.json == {"error": f"open {path}: no such file or directory"}
        registry = OpenRegistry()

        async def push_there() -> Any:
            async with registry.running():
                name = stored(ModelStore(tmp_path / "store"), registry)
                body = {"model": name, "insecure": True, "stream": False}
                return await asyncio.to_thread(server.send, "POST", "/api/push", body)

        assert asyncio.run(push_there()).json == {"status": "success"}
        assert ("library/mine", "q8_0") in registry.manifests


@pytest.mark.parametrize("case", ["missing_push", "bad_name_push"])
async def test_what_is_not_there_is_told_as_recorded(store, case):
    told = [json.loads(line) for line in recording(case).lines]
    place = str(store.manifests / "registry.ollama.ai")
    wanted = json.loads(json.dumps(told).replace("<path>", place))
    assert await pushed(store, recording(case).request.body["model"]) == wanted
