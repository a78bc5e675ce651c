"""Pulling through a host: cut connections, a host that is started again, cancelling and going on, deleting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.core.errors import BadRequest, ModelNotFound
from app.runtime.model_store import ModelStore
from app.services.jobs import JobState
from app.services.perseverance import WAITS
from tests.faultproxy import ResetPeer, faulty
from tests.model_work import working
from tests.runtime_process import FP16, RuntimeProcess, install_recorded, runtime
from tests.served import free_port, served_runtime
from tests.stub_registry import Answer, StubRegistry

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("pull models"), pytest.mark.timeout(120)]
WEIGHTS = 4_000_000


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RuntimeProcess, ModelStore]]:
    folder = tmp_path_factory.mktemp("pull")
    install_recorded(folder / "models", "registry.ollama.ai__library__smollm2__135m-instruct-fp16")
    with runtime(folder / "models", folder / "log") as process:
        yield process, ModelStore(folder / "models")


@pytest.fixture
async def registry() -> AsyncIterator[StubRegistry]:
    async with StubRegistry().running() as running:
        yield running


def address(registry: StubRegistry, model: str) -> str:
    return f"http://{registry.name(f'library/{model}:q8_0')}"


async def test_a_cut_connection_to_the_host_is_said_and_gone_through(host, registry, tmp_path) -> None:
    """The bytes only rise, over all layers, and end at the sum of them; nothing is fetched twice."""
    made = registry.publish("library/cut", "q8_0", WEIGHTS)
    held = Answer(hold=WEIGHTS // 2)
    registry.tell(f"storage {made.weights.digest}", held)
    async with faulty(host[0].url) as (proxy, url), working(tmp_path / "data", url) as work:
        counted, said = [], []
        job = work.models.pull(address(registry, "cut"))
        await work.until(job, lambda view: view.completed >= WEIGHTS // 4)
        broken = await proxy.add(ResetPeer())
        work.go_on.clear()

        async def listen() -> None:
            async for _ in work.jobs.watch():
                view = work.jobs.get(job.id)
                counted.append(view.completed)
                said.append(view.detail)
                if not view.active:
                    return

        listening = asyncio.ensure_future(listen())
        await work.until(job, lambda view: view.detail.startswith("Connection lost, trying again (1 of 6)"))
        await proxy.remove(broken)
        work.go_on.set()
        held.gate.set()
        await work.done(job)
        await listening
        view = work.jobs.get(job.id)
    assert counted == sorted(counted)
    assert view.completed == view.total == sum(layer.size for layer in (made.config, *made.layers))
    assert registry.sent[made.weights.digest] < 1.6 * WEIGHTS
    assert view.host == "one" and view.model == address(registry, "cut").removeprefix("http://")
    assert any("Downloading" in words for words in said)


async def test_a_host_that_is_started_again_goes_on_with_the_pull(registry, tmp_path) -> None:
    made = registry.publish("library/again", "q8_0", WEIGHTS)
    held = Answer(hold=WEIGHTS // 2)
    registry.tell(f"storage {made.weights.digest}", held)
    port, store = free_port(), tmp_path / "models"
    async with working(tmp_path / "data", f"http://127.0.0.1:{port}") as work:
        with served_runtime(store, tmp_path / "log", port) as first:
            await asyncio.to_thread(first.wait_ready, "/api/version")
            job = work.models.pull(address(registry, "again"))
            await work.until(job, lambda view: view.completed >= WEIGHTS // 4)
            work.go_on.clear()
            first.kill()
            await work.until(job, lambda view: view.detail.startswith("Connection lost"))
        held.gate.set()
        with served_runtime(store, tmp_path / "log", port) as second:
            await asyncio.to_thread(second.wait_ready, "/api/version")
            work.go_on.set()
            await work.done(job)
    assert ModelStore(store).manifest(address(registry, "again").removeprefix("http://")).raw == made.raw
    assert registry.sent[made.weights.digest] < 1.6 * WEIGHTS


async def test_a_cancelled_pull_stops_at_the_host_and_goes_on_where_it_was(host, registry, tmp_path) -> None:
    made = registry.publish("library/left", "q8_0", WEIGHTS)
    held = Answer(hold=WEIGHTS // 2)
    registry.tell(f"storage {made.weights.digest}", held)
    async with working(tmp_path / "data", host[0].url) as work:
        job = work.models.pull(address(registry, "left"))
        assert work.models.pull(address(registry, "LEFT")).id == job.id
        await work.until(job, lambda view: view.completed >= WEIGHTS // 4)
        await work.jobs.cancel(job.id)
        assert work.jobs.get(job.id).state is JobState.CANCELLED
        async with asyncio.timeout(20):
            await held.left.wait()
        again = await work.done(work.jobs.retry(job.id))
    assert again.completed == again.total
    assert registry.sent[made.weights.digest] < 1.6 * WEIGHTS


async def test_what_the_registry_refuses_ends_the_pull_at_once_in_its_words(host, registry, tmp_path) -> None:
    async with working(tmp_path / "data", host[0].url) as work:
        view = await work.over(work.models.pull(address(registry, "nobody")))
        assert (view.state, view.error) == (JobState.FAILED, "pull model manifest: file does not exist")
        assert work.paused == []


async def test_a_host_that_is_away_is_given_up_after_six_tries(tmp_path) -> None:
    async with working(tmp_path / "data", f"http://127.0.0.1:{free_port()}") as work:
        view = await work.over(work.models.pull("m"))
        assert view.state is JobState.FAILED and "the model host one does not answer" in view.error
        assert work.paused == list(WAITS)


async def test_with_several_hosts_one_has_to_be_named(host, tmp_path) -> None:
    async with working(tmp_path / "data", host[0].url, f"http://127.0.0.1:{free_port()}") as work:
        with pytest.raises(BadRequest, match="say on which host: one, two"):
            work.models.pull("m")
        assert await work.models.offers(FP16, "one")
        for name in ("", "  ", "a b", "m:tag:tag:x y"):
            with pytest.raises(BadRequest):
                work.models.pull(name, "one")


async def test_deleting_frees_what_no_other_model_uses(host, tmp_path) -> None:
    """A model derived from the F16 one shares its weights; what is said is what the folder loses."""
    process, store = host
    process.send("POST", "/api/create", {"model": "derived", "from": FP16, "system": "Speak like a pirate."})

    def used(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.iterdir())

    async with working(tmp_path / "data", process.url) as work:
        told = await work.models.removal(FP16)
        assert told.shared_with == ("derived:latest",) and told.frees < 1000
        derived = await work.models.removal("derived")
        before = used(store.blobs)
        assert await work.models.remove("derived") == derived
        assert before - used(store.blobs) == derived.frees > 0
        assert (await work.models.removal(FP16)).shared_with == ()
        with pytest.raises(ModelNotFound):
            await work.models.remove("derived")


async def test_a_model_that_a_job_needs_is_not_deleted(host, tmp_path) -> None:
    async with working(tmp_path / "data", host[0].url) as work:
        job = work.models.make(FP16, "Q6_K")
        with pytest.raises(BadRequest, match=f"in use .Making Q6_K of {FP16}"):
            await work.models.remove(FP16)
        await work.jobs.cancel(job.id)
        (process, _) = host
        assert FP16 in [model["name"] for model in process.send("GET", "/api/tags").json["models"]]
