"""Making quantizations on a host of Ollama's protocol: by its own create, and here with upload and create."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.core.errors import BadRequest, ModelNotFound
from app.models.gguf_file import read_gguf
from app.runtime.model_store import ModelStore
from app.services.jobs import JobState
from tests.creating import tiny
from tests.faultproxy import ResetPeer, faulty
from tests.model_work import Work, working
from tests.runtime_process import FP16, RuntimeProcess, install_recorded, runtime
from tests.starter_cache import variant_gguf

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("make models"), pytest.mark.timeout(180)]
QUANTIZED = "other:q8_0"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RuntimeProcess, ModelStore]]:
    """One runtime with the recorded F16 model and what was made of it."""
    folder = tmp_path_factory.mktemp("make")
    install_recorded(folder / "models", "registry.ollama.ai__library__smollm2__135m-instruct-fp16")
    install_recorded(
        folder / "models", "registry.ollama.ai__library__smollm2__135m-instruct-fp16", tag="q8_0", name=QUANTIZED
    )
    with runtime(folder / "models", folder / "log") as process:
        yield process, ModelStore(folder / "models")


@pytest.fixture
async def work(host: tuple[RuntimeProcess, ModelStore], tmp_path: Path) -> AsyncIterator[Work]:
    async with working(tmp_path / "data", host[0].url) as made:
        yield made


def model_layer(store: ModelStore, name: str) -> Path:
    layer = store.manifest(name).layers[0]
    return store.blob_path(layer.digest)


def shown(process: RuntimeProcess, name: str) -> dict[str, Any]:
    told: dict[str, Any] = process.send("POST", "/api/show", {"model": name}).json
    return told


async def test_what_is_missing_is_offered_with_name_size_time_and_way(work: Work) -> None:
    offers = {offer.level: offer for offer in await work.models.offers(FP16)}
    assert list(offers)[0] == "Q8_0" and list(offers)[-1] == "Q2_K"
    assert offers["Q5_K_M"].name == "smollm2:135m-instruct-q5_K_M"
    assert {level for level, offer in offers.items() if offer.way == "host"} <= {"Q8_0", "Q4_K_S", "Q4_K_M"}
    assert all(offer.refusal == "" and offer.seconds and offer.size > 80_000_000 for offer in offers.values())


@pytest.mark.parametrize(("level", "tag"), [("Q4_K_M", "q4_K_M"), ("q5_K_M", "q5_K_M")])
async def test_a_quantization_is_made_under_the_familys_name_and_answers(
    work: Work, host: tuple[RuntimeProcess, ModelStore], level: str, tag: str
) -> None:
    """By the host (Q4_K_M) and here (Q5_K_M): llama-quantize's bytes, the source's texts, the size that was told."""
    process, store = host
    told = next(offer for offer in await work.models.offers(FP16) if offer.level == level.replace("q", "Q", 1))
    job = work.models.make(FP16, level)
    assert work.models.make(FP16, level).id == job.id
    assert dict(work.models.making()) == {told.name: 0.0}
    await work.done(job, 120)
    file = model_layer(store, told.name)
    assert file.name == variant_gguf(tag).name
    assert abs(store.manifest(told.name).size - told.size) < 200
    source, made = shown(process, FP16), shown(process, told.name)
    for key in ("template", "parameters", "license", "system", "capabilities"):
        assert made.get(key) == source.get(key), key
    assert made["details"]["quantization_level"] == told.level
    answer = process.send("POST", "/api/generate", {
        "model": told.name, "prompt": "Name the capital of France.", "stream": False, "options": {"num_predict": 4},
    })  # fmt: skip
    assert answer.json["response"]
    assert list((work.data / "making").glob("*")) == []
    assert work.changes and told.name not in [offer.name for offer in await work.models.offers(FP16)]
    again = await work.over(work.models.make(FP16, level))
    assert again.state is JobState.FAILED and f"there is already a model {told.name}" in again.error


async def test_time_is_learned_from_the_last_run(work: Work) -> None:
    before = {offer.level: offer.seconds for offer in await work.models.offers(FP16)}
    job = await work.done(work.models.make(FP16, "Q3_K_S"), 120)
    after = {offer.level: offer.seconds for offer in await work.models.offers(FP16)}
    took = (job.ended_at or 0) - job.started_at
    assert before["Q3_K_M"] and after["Q3_K_M"] and after["Q3_K_M"] != before["Q3_K_M"]
    assert json.loads((work.data / "making-time.json").read_text())
    assert took > 0


async def test_a_quantized_model_is_no_source_and_neither_is_one_that_is_not_there(work: Work) -> None:
    with pytest.raises(BadRequest, match="is Q8_0; quantizations are made from an F16, BF16 or F32 variant"):
        await work.models.offers(QUANTIZED)
    with pytest.raises(ModelNotFound):
        await work.models.offers("nobody:7b")
    with pytest.raises(BadRequest, match="none of the levels"):
        work.models.make(FP16, "Q9_X")
    with pytest.raises(BadRequest, match="no host 'attic'"):
        work.models.make(FP16, "Q8_0", "attic")


def _rewrites(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.ZombieProcess):  # what another test has ended
        return "app.runtime.gguf_rewrite" in process.cmdline()
    return False


async def test_a_cancelled_make_leaves_neither_model_nor_file(
    work: Work, host: tuple[RuntimeProcess, ModelStore]
) -> None:
    job = work.models.make(FP16, "Q6_K")
    await work.until(job, lambda view: view.detail == "Quantizing to Q6_K" and view.completed > 0)
    assert list((work.data / "making").glob("*.partial"))
    (child,) = [one for one in psutil.Process().children() if _rewrites(one)]
    await work.jobs.cancel(job.id)
    assert work.jobs.get(job.id).state is JobState.CANCELLED
    assert list((work.data / "making").glob("*")) == [] and not child.is_running()
    assert "smollm2:135m-instruct-q6_K" not in {manifest.name.shortest for manifest in host[1].all()}


async def test_a_second_make_waits_for_its_turn(work: Work) -> None:
    first, second = work.models.make(FP16, "Q3_K_L"), work.models.make(FP16, "Q3_K_M")
    waiting = await work.until(second, lambda view: view.state is JobState.WAITING)
    assert waiting.detail == "Waiting for another quantization"
    assert work.models.making()["smollm2:135m-instruct-q3_K_M"] is None
    await asyncio.gather(work.jobs.cancel(first.id), work.jobs.cancel(second.id))


async def test_the_source_is_checked_against_its_digest(tmp_path: Path) -> None:
    """A store whose F16 file was changed after it was written: its header is sound, its content is not."""
    install_recorded(tmp_path / "models", "registry.ollama.ai__library__smollm2__135m-instruct-fp16")
    store = ModelStore(tmp_path / "models")
    file = model_layer(store, FP16)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.unlink()
    file.write_bytes(content)
    with runtime(tmp_path / "models", tmp_path / "log") as process:
        async with working(tmp_path / "data", process.url) as work:
            job = await work.over(work.models.make(FP16, "Q5_K_M"))
    assert job.state is JobState.FAILED and "digest mismatch" in job.error
    assert read_gguf(file).tensors


async def test_a_line_that_breaks_while_the_file_is_sent_is_gone_through(
    host: tuple[RuntimeProcess, ModelStore], tmp_path: Path
) -> None:
    """With a model of some hundred kilobytes: the file is quantized once, sent, and installed."""
    process, store = host
    content = tiny(layers=2, width=256).bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert process.send("POST", f"/api/blobs/{digest}", content).status == 201
    made = process.send("POST", "/api/create", {"model": "tiny:fp16", "files": {"m.gguf": digest}, "license": "MIT"})
    assert made.lines[-1] == {"status": "success"}
    async with faulty(process.url) as (proxy, url), working(tmp_path / "data", url) as work:
        (offer,) = [one for one in await work.models.offers("tiny:fp16") if one.level == "Q5_K_M"]
        work.go_on.clear()
        job = work.models.make("tiny:fp16", "Q5_K_M")
        await work.until(job, lambda view: view.detail.startswith(("Checking", "Quantizing")))
        broken = await proxy.add(ResetPeer())
        await work.until(job, lambda view: view.detail.startswith("Connection lost"))
        await proxy.remove(broken)
        work.go_on.set()
        await work.done(job)
    assert abs(store.manifest(offer.name).size - offer.size) < 200
    assert shown(process, offer.name)["license"] == "MIT"
