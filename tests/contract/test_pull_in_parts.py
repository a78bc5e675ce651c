"""A layer comes in parts: side by side, tried again, gone on with after a break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from app.runtime.model_store import ModelStore
from app.runtime.pull import Puller
from app.runtime.registry.pace import Pace
from tests.pulling import assert_installed, notes, pulled
from tests.stub_registry import Answer, StubRegistry, small_parts

pytestmark = pytest.mark.anyio


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
