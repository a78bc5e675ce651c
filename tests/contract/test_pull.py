"""Pulls from a registry on loopback into a store on disk: the records as recorded, what is in the store afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import BadRequest, IntegrityError, LoupeError, NotAllowed
from app.runtime.manifests import MODEL
from app.runtime.model_store import ModelStore
from app.runtime.pull import Puller
from app.runtime.registry.errors import RegistryError
from app.runtime.registry.pace import Pace
from tests.pulling import assert_installed, partials, pulled, until
from tests.recordings import recording
from tests.stub_registry import Answer, StubRegistry, small_parts, statuses

pytestmark = pytest.mark.anyio
Record = dict[str, Any]


@pytest.fixture
async def registry() -> AsyncIterator[StubRegistry]:
    async with StubRegistry().running() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
async def puller(store: ModelStore) -> AsyncIterator[Puller]:
    made = Puller(store, pace=Pace(**small_parts()))
    yield made
    await made.close()


def comparable(records: list[Record], *, amounts: bool = False) -> list[Record]:
    """Records without what differs between two registries: digests become ordinals (ours serves other bytes), and so
    do the totals of weights; runs of progress of one layer become one record without `completed`, because how often
    and at which amounts the clock ticks is a matter of speed. With `amounts` a whole `completed` stays, as "all"."""
    seen: dict[str, int] = {}
    kept: list[Record] = []
    for record in records:
        record = dict(record)
        if digest := record.get("digest"):
            number = seen.setdefault(digest, len(seen))
            assert record["status"] == f"pulling {digest[7:19]}"
            record |= {"status": f"pulling {number}", "digest": number}
            completed = record.pop("completed", None)
            if amounts:
                record["completed"] = "all" if completed == record["total"] else completed
            if record["total"] > 1000:
                record["total"] = "of the weights"
        if record.get("error", "").startswith("digest mismatch"):
            words = record["error"].split("sha256:")
            assert len(words) == 3
            record["error"] = "sha256:".join(word[64:] if index else word for index, word in enumerate(words))
        if not kept or kept[-1] != record:
            kept.append(record)
    return kept


def chunks(name: str) -> list[Record]:
    """The records of a recording; a line that stands for many equal ones is left out."""
    return [json.loads(line) for line in recording(name).lines if line.startswith("{")]


async def test_a_pull_tells_what_the_recording_tells(registry, store, puller):
    model = registry.publish("library/ok", "q8_0")
    records = await pulled(puller, registry.name("library/ok:q8_0"))
    assert comparable(records) == comparable(chunks("pull_ok"))
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_parts_that_break_once_change_nothing_in_the_records(registry, store, puller):
    model = registry.publish("library/cut", "q8_0")
    registry.tell(f"storage {model.weights.digest}", *(Answer(cut=20_000) for _ in range(4)))
    records = await pulled(puller, registry.name("library/cut:q8_0"))
    assert comparable(records) == comparable(chunks("pull_cut"))
    assert_installed(store, registry.name("library/cut:q8_0"), model)


async def test_a_flipped_bit_is_told_as_recorded_and_nothing_of_the_layer_stays(registry, store, puller):
    model = registry.publish("library/wrong", "q8_0")
    content = bytearray(registry.blobs[model.weights.digest])
    content[12345] ^= 1
    registry.blobs[model.weights.digest] = bytes(content)
    records = await pulled(puller, registry.name("library/wrong:q8_0"))
    assert comparable(records) == comparable(chunks("pull_wrong"))
    got = f"got sha256:{hashlib.sha256(content).hexdigest()}"
    assert records[-1]["error"].endswith(f"want {model.weights.digest}, {got}")
    assert store.all() == []
    assert partials(store) == set()
    assert not store.blob_path(model.weights.digest).exists()


async def test_after_a_mismatch_the_next_pull_begins_anew_and_succeeds(registry, store, puller):
    model = registry.publish("library/ok", "q8_0")
    whole = registry.blobs[model.weights.digest]
    registry.blobs[model.weights.digest] = bytes(len(whole))
    assert "error" in (await pulled(puller, registry.name("library/ok:q8_0")))[-1]
    registry.blobs[model.weights.digest] = whole
    records = await pulled(puller, registry.name("library/ok:q8_0"))
    assert comparable(records) == comparable(chunks("pull_before_again"))
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_pulling_again_fetches_the_manifest_alone(registry, store, puller):
    model = registry.publish("library/ok", "q8_0")
    await pulled(puller, registry.name("library/ok:q8_0"))
    registry.requests.clear()
    records = await pulled(puller, registry.name("library/ok:q8_0"))
    assert comparable(records, amounts=True) == comparable(chunks("pull_again"), amounts=True)
    assert [seen.what for seen in registry.requests] == ["manifest"]
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_a_model_that_is_not_there_is_told_as_recorded(registry, store, puller):
    assert await pulled(puller, registry.name("library/missing:q8_0")) == chunks("pull_missing")


async def test_an_unknown_host_is_told_as_recorded(store):
    async def no_such_host(host: str, port: int) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    puller = Puller(store, lookup=no_such_host)
    first, last = await pulled(puller, "nope", insecure=False)
    want = chunks("missing_pull")
    assert first == want[0]
    # Which name server was asked, and whether one is configured at all, is a matter of the machine.
    before, after = want[1]["error"].split(" on <resolver>")
    assert last["error"].startswith(before)
    assert last["error"].endswith(after)


async def test_a_plain_registry_is_refused_without_insecure_as_recorded(store, puller):
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        records = await pulled(puller, f"http://127.0.0.1:{port}/library/ok:q8_0", insecure=False)
    want = json.loads(json.dumps(chunks("pull_insecure_refused")).replace(":5000", f":{port}"))
    assert records == want


async def test_a_registry_that_answers_https_with_http_is_named_as_that(registry, puller):
    records = await pulled(puller, registry.name("library/ok:q8_0"), insecure=False)
    assert records[-1]["error"].endswith(": http: server gave HTTP response to HTTPS client")


async def test_a_refused_connection_is_told_in_one_sentence(puller, free_port):
    address = f"127.0.0.1:{free_port()}"
    records = await pulled(puller, f"{address}/library/ok:q8_0")
    told = f'Get "http://{address}/v2/library/ok/manifests/q8_0": dial tcp {address}: connect: connection refused'
    assert records[-1] == {"error": f"pull model manifest: {told}"}


@pytest.mark.parametrize("name", [recording("bad_name_pull").request.body["model"], "", "../../etc/passwd:x", "a/../b"])
async def test_a_bad_name_is_refused_before_the_first_record(puller, name):
    with pytest.raises(BadRequest) as refused:
        await anext(puller.pull(name))
    assert refused.value.message == json.loads(recording("bad_name_pull").text)["error"]


async def test_a_cloud_model_is_refused_before_the_first_record(puller):
    with pytest.raises(NotAllowed):
        await anext(puller.pull("qwen3:cloud"))


async def test_a_name_is_stored_as_it_was_spelled_the_first_time(registry, store, puller):
    registry.publish("library/Ok", "Q8_0")
    await pulled(puller, registry.name("library/Ok:Q8_0"))
    assert (await pulled(puller, registry.name("LIBRARY/ok:q8_0")))[-1] == {"status": "success"}
    assert [name.full for name in store.names()] == [registry.name("library/Ok:Q8_0")]


async def test_layers_that_a_newer_version_has_no_more_are_removed(registry, store, puller):
    old = registry.publish("library/ok", "q8_0", weights=5000)
    await pulled(puller, registry.name("library/ok:q8_0"))
    store.copy(registry.name("library/ok:q8_0"), "kept")
    new = registry.publish("library/ok", "q8_0", weights=6000, template=b"{{ .System }}")
    records = await pulled(puller, registry.name("library/ok:q8_0"))
    assert statuses(records)[-3:] == ["writing manifest", "removing unused layers", "success"]
    assert store.blob_path(old.weights.digest).exists()  # the copy still has it
    store.delete("kept")
    newest = registry.publish("library/ok", "q8_0", weights=7000, template=b"{{ .System }}")
    await pulled(puller, registry.name("library/ok:q8_0"))
    assert not store.blob_path(new.weights.digest).exists()
    assert_installed(store, registry.name("library/ok:q8_0"), newest)


async def test_nothing_is_removed_where_pruning_is_off(registry, store):
    puller = Puller(store, prune=False)
    old = registry.publish("library/ok", "q8_0", weights=5000)
    await pulled(puller, registry.name("library/ok:q8_0"))
    registry.publish("library/ok", "q8_0", weights=6000)
    assert "removing unused layers" not in statuses(await pulled(puller, registry.name("library/ok:q8_0")))
    assert store.blob_path(old.weights.digest).exists()


async def test_a_failed_update_leaves_the_model_as_it_was(registry, store, puller):
    old = registry.publish("library/ok", "q8_0", weights=5000)
    await pulled(puller, registry.name("library/ok:q8_0"))
    new = registry.publish("library/ok", "q8_0", weights=6000)
    registry.blobs[new.weights.digest] = bytes(6000)
    assert "error" in (await pulled(puller, registry.name("library/ok:q8_0")))[-1]
    assert_installed(store, registry.name("library/ok:q8_0"), old)


async def test_a_layer_removed_during_the_pull_is_told_and_nothing_is_listed(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    async with aclosing(puller.pull(registry.name("library/ok:q8_0"), insecure=True)) as records:
        await until(records, "writing manifest")
        store.blob_path(model.weights.digest).unlink()
        with pytest.raises(LoupeError, match="was removed from the store during the pull"):
            await until(records, "success")
    assert store.all() == []


async def test_a_damaged_blob_of_another_size_is_fetched_anew(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=5000)
    store.prepare()
    store.blob_path(model.weights.digest).write_bytes(b"torn")
    assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"status": "success"}
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_an_empty_layer_is_installed_like_any_other(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=5000, params=b"")
    assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"status": "success"}
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_no_credential_and_no_cookie_reaches_another_host(registry, store, puller, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with StubRegistry().running() as storage:
        model = registry.publish("library/ok", "q8_0", weights=5000)
        storage.blobs.update(registry.blobs)
        registry.tell("manifest", Answer(headers={"set-cookie": "session=secret; Path=/"}))
        for digest in model.contents:
            location = f"http://user:secret@{storage.host}/storage/{digest}"
            registry.tell(f"blob {digest}", always=Answer(headers={"location": location, "set-cookie": "a=secret"}))
        assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"status": "success"}
        assert len(storage.requests) >= 4
        assert "secret" not in str([seen.headers for seen in registry.requests + storage.requests])
        assert not {"authorization", "cookie", "referer"} & {key for seen in storage.requests for key in seen.headers}


async def test_the_model_layer_of_a_pull_is_what_the_store_serves(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    await pulled(puller, registry.name("library/ok:q8_0"))
    layer = store.manifest(registry.name("library/ok:q8_0")).layer(MODEL)
    assert (layer.digest, layer.size) == (model.weights.digest, 900)


def test_a_mismatch_and_a_refusal_are_errors_with_a_status_of_500():
    """As Ollama answers them where no stream was asked for."""
    assert (IntegrityError.status, RegistryError.status) == (500, 500)
