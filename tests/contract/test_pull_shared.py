"""Several pulls of one layer: one download that belongs to nobody, and ends when nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.errors import Cancelled
from app.runtime.model_store import ModelStore
from app.runtime.pull import Puller
from app.runtime.registry.pace import Pace
from tests.pulling import assert_installed, notes, open_files_below, pulled, until
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


async def test_errors_of_one_pull_say_nothing_about_another(registry, store, puller):
    registry.publish("library/ok", "q8_0", weights=900)
    good, bad = await asyncio.gather(
        pulled(puller, registry.name("library/ok:q8_0")), pulled(puller, registry.name("library/missing:q8_0"))
    )
    assert good[-1] == {"status": "success"}
    assert bad[-1] == {"error": "pull model manifest: file does not exist"}
