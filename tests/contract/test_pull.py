"""Pulls from a registry on loopback into a store on disk: the recorded records, resuming, sharing, leaving."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.core.errors import BadRequest, Cancelled, IntegrityError, LoupeError, NotAllowed, RegistryError
from app.runtime.manifests import MODEL
from app.runtime.model_store import ModelStore
from app.runtime.pull import Puller
from app.runtime.registry.pace import Pace
from tests.recordings import recording
from tests.stub_registry import Answer, Published, StubRegistry, small_parts, statuses

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


async def pulled(puller: Puller, name: str, *, insecure: bool = True) -> list[Record]:
    """All records; an error becomes the last one, as the route writes it."""
    records: list[Record] = []
    try:
        async with aclosing(puller.pull(name, insecure=insecure)) as stream:
            async for record in stream:
                records.append(record)
    except LoupeError as error:
        records.append({"error": error.message})
    return records


async def until(records: AsyncIterator[Record], status: str) -> Record:
    """Reads on to the first record whose status begins so."""
    async for record in records:
        if record["status"].startswith(status):
            return record
    raise AssertionError(f"no record {status!r}")


def partials(store: ModelStore) -> set[str]:
    return {path.name for path in store.blobs.iterdir() if "partial" in path.name}


def assert_installed(store: ModelStore, name: str, model: Published) -> None:
    """Listed, with the registry's own bytes, and every blob holds what its name says."""
    manifest = store.manifest(name)
    assert manifest.raw == model.raw
    for digest, content in model.contents.items():
        assert store.blob_path(digest).read_bytes() == content
    assert partials(store) == set()


def open_files_below(folder: Path) -> list[str]:
    return [file.path for file in psutil.Process().open_files() if folder in Path(file.path).parents]


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


async def test_parts_are_fetched_side_by_side_but_no_more_than_the_pace_allows(registry, store):
    model = registry.publish("library/ok", "q8_0", weights=400_000)
    puller = Puller(store, pace=Pace(**small_parts(4), largest_part=20_000))
    held = [Answer(hold=0) for _ in range(4)]
    registry.tell(f"storage {model.weights.digest}", *held)
    task = asyncio.create_task(pulled(puller, registry.name("library/ok:q8_0")))
    for answer in held:
        await asyncio.wait_for(answer.reached.wait(), 10)
    assert registry.at_once == 4
    for answer in held:
        answer.gate.set()
    assert (await task)[-1] == {"status": "success"}
    assert registry.most_at_once == 4
    spans = sorted(seen.range for seen in registry.asked(f"storage {model.weights.digest}"))
    assert spans == [(offset, offset + 19_999) for offset in range(0, 400_000, 20_000)]
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_a_direct_address_serves_many_parts_and_is_asked_for_again_when_it_ran_out(registry, store):
    model = registry.publish("library/ok", "q8_0", weights=100_000)
    puller = Puller(store, pace=Pace(**small_parts(1), largest_part=20_000))  # five parts, one after the other
    storage, blob = f"storage {model.weights.digest}", f"blob {model.weights.digest}"
    registry.tell(storage, Answer(), Answer(), Answer(status=403, body=b"expired"))
    assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"status": "success"}
    assert (len(registry.asked(blob)), len(registry.asked(storage))) == (2, 6)
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_a_direct_address_is_used_letter_by_letter(registry, store, puller):
    """A signature may cover each of them."""
    model = registry.publish("library/ok", "q8_0", weights=900)
    location = f"http://{registry.host}/storage/{model.weights.digest}?X=%2f%3D%7E'+~&S=a%20b"
    registry.tell(f"blob {model.weights.digest}", Answer(headers={"location": location}))
    await pulled(puller, registry.name("library/ok:q8_0"))
    (seen,) = registry.asked(f"storage {model.weights.digest}")
    assert seen.query == "X=%2f%3D%7E'+~&S=a%20b"


async def test_a_fresh_direct_address_that_is_refused_is_final(registry, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    registry.tell(f"storage {model.weights.digest}", Answer(status=403, body=b"not for you"))
    assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"error": "403: not for you"}
    assert len(registry.asked(f"storage {model.weights.digest}")) == 1


async def test_a_registry_that_sends_blobs_itself_is_as_good(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    for digest, content in model.contents.items():
        registry.tell(f"blob {digest}", always=Answer(status=200, body=content))
    assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"status": "success"}
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_a_broken_pull_goes_on_where_it_stopped(registry, store):
    model = registry.publish("library/ok", "q8_0")
    storage = f"storage {model.weights.digest}"
    puller = Puller(store, pace=Pace(**small_parts(4), tries=1))
    registry.tell(storage, *(Answer(cut=30_000) for _ in range(4)))
    records = await pulled(puller, registry.name("library/ok:q8_0"))
    assert records[-1] == {"error": "max retries exceeded: unexpected EOF"}
    assert store.all() == []
    there = sum(note["Completed"] for note in notes(store, model))
    assert there >= 30_000  # one part at least ran into its break; the others were stopped by that

    registry.sent.clear()
    again = Puller(store, pace=Pace(**small_parts(4)))  # another process would be no different
    records = await pulled(again, registry.name("library/ok:q8_0"))
    assert next(record for record in records if "digest" in record)["completed"] == there
    assert registry.sent[model.weights.digest] == model.weights.size - there
    assert_installed(store, registry.name("library/ok:q8_0"), model)


def notes(store: ModelStore, model: Published) -> list[dict[str, int]]:
    paths = sorted(store.blobs.glob(f"{store.blob_path(model.weights.digest).name}-partial-*"))
    return [json.loads(path.read_text()) for path in paths]


async def test_a_download_that_a_real_ollama_began_is_gone_on_with(registry, store, puller):
    model = registry.publish("library/ok", "q8_0")
    content, blob = model.contents[model.weights.digest], store.blob_path(model.weights.digest)
    store.prepare()
    blob.with_name(f"{blob.name}-partial").write_bytes(content[:70_000].ljust(300_000, b"\0"))
    for number, (size, completed) in enumerate([(200_000, 70_000), (100_000, 0)]):
        note = f'{{"N":{number},"Offset":{number * 200_000},"Size":{size},"Completed":{completed}}}\n'
        blob.with_name(f"{blob.name}-partial-{number}").write_text(note)
    assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"status": "success"}
    spans = sorted(seen.range for seen in registry.asked(f"storage {model.weights.digest}"))
    assert spans == [(70_000, 199_999), (200_000, 299_999)]
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_a_layer_that_was_fetched_but_not_verified_is_not_fetched_again(registry, store, puller):
    model = registry.publish("library/ok", "q8_0")
    content, blob = model.contents[model.weights.digest], store.blob_path(model.weights.digest)
    store.prepare()
    blob.with_name(f"{blob.name}-partial").write_bytes(content)
    blob.with_name(f"{blob.name}-partial-0").write_text('{"N":0,"Offset":0,"Size":300000,"Completed":300000}')
    assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"status": "success"}
    assert registry.asked(f"blob {model.weights.digest}") == []
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_waits_between_tries_double_and_honour_retry_after(registry, store):
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    model = registry.publish("library/ok", "q8_0")
    busy = Answer(status=429, headers={"retry-after": "9"}, body=b"slow down")
    down = Answer(status=503, body=b"down")
    patient = Answer(status=503, headers={"retry-after": "86400"}, body=b"tomorrow")
    registry.tell(f"storage {model.weights.digest}", down, down, busy, down, patient)
    puller = Puller(store, pace=Pace(parts=1, sleep=sleep, tick=0.01))
    assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"status": "success"}
    assert waits == [1.0, 2.0, 9.0, 8.0, 60.0]


async def test_the_sixth_failed_try_ends_the_pull(registry, store):
    model = registry.publish("library/ok", "q8_0")
    registry.tell(f"storage {model.weights.digest}", always=Answer(status=500, body=b"out of\n  order"))
    puller = Puller(store, pace=Pace(**small_parts(1)))
    records = await pulled(puller, registry.name("library/ok:q8_0"))
    assert records[-1] == {"error": "max retries exceeded: 500: out of order"}
    assert len(registry.asked(f"storage {model.weights.digest}")) == 6


async def test_a_busy_registry_is_asked_again_for_the_manifest(registry, store):
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    registry.publish("library/ok", "q8_0")
    registry.tell("manifest", Answer(status=429, headers={"retry-after": "3"}, body=b"slow down"))
    puller = Puller(store, pace=Pace(sleep=sleep))
    assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"status": "success"}
    assert waits == [3.0]


async def test_a_part_that_stalls_is_asked_for_again_and_keeps_its_bytes(registry, store):
    model = registry.publish("library/ok", "q8_0")
    registry.tell(f"storage {model.weights.digest}", *(Answer(hold=size) for size in (50_000, 60_000, 70_000)))
    puller = Puller(store, pace=Pace(parts=1, stall=0.1, tries=1, tick=0.01))
    assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"status": "success"}
    starts = [seen.range[0] for seen in registry.asked(f"storage {model.weights.digest}")]
    assert starts == [0, 50_000, 110_000, 180_000]  # with one try: a stall after some bytes does not count
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_a_registry_that_stays_silent_ends_the_pull(registry, store):
    model = registry.publish("library/ok", "q8_0")
    registry.tell(f"storage {model.weights.digest}", always=Answer(hold=0))
    puller = Puller(store, pace=Pace(parts=1, stall=0.05, tries=3, tick=0.01))
    records = await pulled(puller, registry.name("library/ok:q8_0"))
    assert records[-1] == {"error": "max retries exceeded: part stalled"}
    assert len(registry.asked(f"storage {model.weights.digest}")) == 3


async def test_progress_grows_and_never_passes_the_total(registry, store):
    model = registry.publish("library/ok", "q8_0")
    held = Answer(hold=100_000)
    registry.tell(f"storage {model.weights.digest}", held)
    puller = Puller(store, pace=Pace(parts=1, tick=0.005))
    amounts: list[int | None] = []
    async with aclosing(puller.pull(registry.name("library/ok:q8_0"), insecure=True)) as records:
        async for record in records:
            if record.get("digest") == model.weights.digest:
                assert record["total"] == 300_000
                amounts.append(record.get("completed"))
                if amounts[-1] == 100_000:
                    held.gate.set()
    assert amounts[0] is None  # absent, not 0
    assert 100_000 in amounts
    told = [amount or 0 for amount in amounts]
    assert told == sorted(told)
    assert told[-1] <= 300_000


async def test_two_pulls_share_one_download(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    registry.manifests["library/ok", "latest"] = model.raw
    held = Answer(hold=450)
    registry.tell(f"storage {model.weights.digest}", held)
    first = asyncio.create_task(pulled(puller, registry.name("library/ok:q8_0")))
    await asyncio.wait_for(held.reached.wait(), 10)
    stream = puller.pull(registry.name("library/ok:latest"), insecure=True)
    record = await until(stream, "pulling ")
    while "completed" not in record:
        record = await until(stream, "pulling ")
    assert record["completed"] == 450  # what came before it joined counts
    held.gate.set()
    second = [record async for record in stream]
    assert (await first)[-1] == second[-1] == {"status": "success"}
    assert registry.sent[model.weights.digest] == 900
    assert_installed(store, registry.name("library/ok:q8_0"), model)
    assert_installed(store, registry.name("library/ok:latest"), model)


async def test_a_shared_download_outlives_the_pull_that_began_it(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    held = Answer(hold=450)
    registry.tell(f"storage {model.weights.digest}", held)
    first = puller.pull(registry.name("library/ok:q8_0"), insecure=True)
    await until(first, f"pulling {model.weights.digest[7:19]}")
    second = asyncio.create_task(pulled(puller, registry.name("library/ok:q8_0")))
    await asyncio.wait_for(held.reached.wait(), 10)
    while puller._downloads.find(model.weights.digest).followers < 2:
        await asyncio.sleep(0)
    await first.aclose()
    held.gate.set()
    assert (await second)[-1] == {"status": "success"}
    assert registry.sent[model.weights.digest] == 900
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_the_last_one_who_leaves_ends_the_download_and_its_bytes_stay(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    held = Answer(hold=450)
    registry.tell(f"storage {model.weights.digest}", held)
    stream = puller.pull(registry.name("library/ok:q8_0"), insecure=True)
    while (await until(stream, "pulling ")).get("completed") != 450:
        pass
    await stream.aclose()
    await asyncio.wait_for(held.left.wait(), 10)  # the connection is closed
    assert puller._downloads.find(model.weights.digest) is None
    assert [note["Completed"] for note in notes(store, model)] == [450]
    assert store.all() == []
    assert (await pulled(puller, registry.name("library/ok:q8_0")))[-1] == {"status": "success"}
    assert registry.sent[model.weights.digest] == 900
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_a_cancelled_task_leaves_as_well(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    held = Answer(hold=450)
    registry.tell(f"storage {model.weights.digest}", held)
    task = asyncio.create_task(pulled(puller, registry.name("library/ok:q8_0")))
    await asyncio.wait_for(held.reached.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(held.left.wait(), 10)
    assert puller._downloads.find(model.weights.digest) is None


async def test_who_comes_while_a_download_is_being_cancelled_starts_after_it(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    held = Answer(hold=450)
    registry.tell(f"storage {model.weights.digest}", held)
    stream = puller.pull(registry.name("library/ok:q8_0"), insecure=True)
    await until(stream, f"pulling {model.weights.digest[7:19]}")
    await asyncio.wait_for(held.reached.wait(), 10)
    _, records = await asyncio.gather(stream.aclose(), pulled(puller, registry.name("library/ok:q8_0")))
    assert records[-1] == {"status": "success"}
    assert_installed(store, registry.name("library/ok:q8_0"), model)


async def test_fifty_pulls_that_are_left_leave_nothing_behind(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    registry.tell(f"storage {model.weights.digest}", always=Answer(hold=450))
    for _ in range(50):
        stream = puller.pull(registry.name("library/ok:q8_0"), insecure=True)
        await until(stream, f"pulling {model.weights.digest[7:19]}")
        await stream.aclose()
    assert puller._downloads._tasks == puller._downloads._running == {}
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("pull ")] == []
    assert open_files_below(store.root) == []


async def test_a_layer_that_another_registry_sends_badly_is_fetched_from_the_own_one_afterwards(store, puller):
    async with StubRegistry().running() as good, StubRegistry().running() as bad:
        model = good.publish("library/ok", "q8_0", weights=900)
        bad.publish("library/ok", "q8_0", weights=model.contents[model.weights.digest])
        bad.blobs[model.weights.digest] = bytes(900)
        held = Answer(hold=450)
        bad.tell(f"storage {model.weights.digest}", held)
        cheated = asyncio.create_task(pulled(puller, bad.name("library/ok:q8_0")))
        await asyncio.wait_for(held.reached.wait(), 10)
        honest = puller.pull(good.name("library/ok:q8_0"), insecure=True)
        await until(honest, f"pulling {model.weights.digest[7:19]}")
        assert good.asked(f"blob {model.weights.digest}") == []  # the files of a layer are written by one at a time
        held.gate.set()
        assert [record async for record in honest][-1] == {"status": "success"}
        assert "digest mismatch" in (await cheated)[-1]["error"]
        assert_installed(store, good.name("library/ok:q8_0"), model)


async def test_closing_the_puller_ends_the_pulls_with_a_word(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    held = Answer(hold=450)
    registry.tell(f"storage {model.weights.digest}", held)
    stream = puller.pull(registry.name("library/ok:q8_0"), insecure=True)
    await until(stream, f"pulling {model.weights.digest[7:19]}")
    await asyncio.wait_for(held.reached.wait(), 10)
    await puller.close()
    with pytest.raises(Cancelled):
        await until(stream, "verifying")


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


async def test_errors_of_one_pull_say_nothing_about_another(registry, store, puller):
    registry.publish("library/ok", "q8_0", weights=900)
    good, bad = await asyncio.gather(
        pulled(puller, registry.name("library/ok:q8_0")), pulled(puller, registry.name("library/missing:q8_0"))
    )
    assert good[-1] == {"status": "success"}
    assert bad == chunks("pull_missing")


async def test_the_model_layer_of_a_pull_is_what_the_store_serves(registry, store, puller):
    model = registry.publish("library/ok", "q8_0", weights=900)
    await pulled(puller, registry.name("library/ok:q8_0"))
    layer = store.manifest(registry.name("library/ok:q8_0")).layer(MODEL)
    assert (layer.digest, layer.size) == (model.weights.digest, 900)


def test_a_mismatch_and_a_refusal_are_errors_with_a_status_of_500():
    """As Ollama answers them where no stream was asked for."""
    assert (IntegrityError.status, RegistryError.status) == (500, 500)
