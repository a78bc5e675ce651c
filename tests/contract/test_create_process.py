"""The process that writes model files: one at a time, off the event loop, ended with the client that asked for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import psutil
import pytest

from app.models.gguf_copy import Written
from app.runtime.create import create
from app.runtime.gguf_process import _turns, rewriting
from app.runtime.gguf_rewrite import Job
from app.runtime.manifests import MODEL
from app.runtime.model_store import ModelStore
from tests.creating import FP16, created, put, sound_names, tiny
from tests.starter_cache import linked_store

pytestmark = pytest.mark.anyio
SUCCESS = {"status": "success"}


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def writers() -> list[psutil.Process]:
    """The processes of this one that write model files."""
    found = []
    for child in psutil.Process().children():
        try:
            if "app.runtime.gguf_rewrite" in child.cmdline():
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):  # it is ending
            continue
    return found


async def one_writer() -> psutil.Process:
    """Waits until there is one."""
    deadline = time.monotonic() + 20
    while not (found := writers()):
        assert time.monotonic() < deadline, "no process writes a model file"
        await asyncio.sleep(0.002)
    return found[0]


async def test_a_client_that_leaves_ends_the_process_and_leaves_nothing(store):
    sample = tiny(layers=3, width=256)
    digest = put(store, sample)
    before = {path.name for path in store.blobs.iterdir()}
    for _ in range(3):
        body = {"model": "a", "files": {"m.gguf": digest}, "quantize": "q4_K_M", "progress": True}
        async with aclosing(create(store, body)) as records:
            async for record in records:
                if "total" in record:
                    break
        assert writers() == []
        assert {path.name for path in store.blobs.iterdir()} == before
    assert sound_names(store) == set()


async def test_a_cancelled_creation_leaves_nothing_wherever_it_is(store):
    digest = put(store, tiny(layers=2))
    before = {path.name for path in store.blobs.iterdir()}
    body = {"model": "a", "files": {"m.gguf": digest}, "quantize": "q8_0"}
    done = 0
    for milliseconds in range(0, 900, 60):
        task = asyncio.create_task(created(store, body))
        await asyncio.wait({task}, timeout=milliseconds / 1000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not list(store.blobs.glob(".*"))
        if store.exists("a"):
            assert sound_names(store) == {"a:latest"}
            store.delete("a")
            done += 1
        assert {path.name for path in store.blobs.iterdir()} == before
    assert done < 15  # some were indeed cancelled


async def test_one_model_file_is_written_at_a_time_and_the_loop_goes_on(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny().bytes())
    running: list[int] = []
    most = 0

    async def one(number: int) -> None:
        nonlocal most
        async with aclosing(rewriting(Job((str(path),), str(tmp_path / f"{number}.gguf")))) as steps:
            async for step in steps:
                if isinstance(step, Written):
                    break
                running.append(number)
                most = max(most, len(set(running)))
        running[:] = [other for other in running if other != number]

    tasks = [asyncio.create_task(one(number)) for number in range(3)]
    seen = []
    while not all(task.done() for task in tasks):
        seen.append(len(writers()))
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    assert max(seen) == 1
    assert most == 1
    assert len(seen) > 20  # the loop was free all the while
    assert {made.name for made in tmp_path.glob("?.gguf")} == {"0.gguf", "1.gguf", "2.gguf", "m.gguf"}


async def test_waiting_for_the_turn_can_be_left_and_the_next_one_gets_it(store):
    digest = put(store, tiny(layers=2))

    def body(name: str) -> dict:
        return {"model": name, "files": {"m.gguf": digest}, "quantize": "q8_0"}

    first = asyncio.create_task(created(store, body("a")))
    at_work = await one_writer()
    at_work.suspend()
    second, third = (asyncio.create_task(created(store, body(name))) for name in "bc")
    turn = _turns[asyncio.get_running_loop()]
    while len(turn._waiters or ()) < 2:
        await asyncio.sleep(0.002)
    second.cancel()
    at_work.resume()
    assert (await first)[-1] == (await third)[-1] == SUCCESS
    assert second.cancelled()
    assert sound_names(store) == {"a:latest", "c:latest"}


async def test_the_writing_process_that_is_killed_is_one_clear_error(store):
    digest = put(store, tiny(layers=3, width=256))
    making = asyncio.create_task(created(store, {"model": "a", "files": {"m.gguf": digest}, "quantize": "q4_K_M"}))
    (await one_writer()).kill()
    failed = (await making)[-1]
    assert failed == {"error": "the process that writes model files ended: signal SIGKILL", "status_code": 500}
    assert not list(store.blobs.glob(".*"))


async def test_a_writing_process_that_hangs_is_ended_all_the_same(store):
    digest = put(store, tiny(layers=3, width=256))
    making = asyncio.create_task(created(store, {"model": "a", "files": {"m.gguf": digest}, "quantize": "q4_K_M"}))
    stopped = await one_writer()
    stopped.suspend()
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    assert not stopped.is_running()
    assert not list(store.blobs.glob(".*"))


@pytest.mark.model
async def test_quantizing_beside_a_busy_loop_is_what_it_is_alone(tmp_path):
    store = ModelStore(linked_store(tmp_path / "models", ("fp16",)))
    latest = 0.0

    async def pulse() -> None:
        nonlocal latest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            latest = max(latest, time.perf_counter() - before)

    pulsing = asyncio.create_task(pulse())
    records = await created(store, {"model": "a", "from": FP16, "quantize": "q8_0"})
    pulsing.cancel()
    assert records[-1] == SUCCESS
    assert store.manifest("a").layer(MODEL).digest.startswith("sha256:f7933c71")  # recording create_quantize_q8_0
    assert latest < 1.0
