"""Making and deleting on a host whose files are not here: what is offered, what is asked of it, what a liar gets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import BadRequest, HostRefused
from app.core.hosts import ModelDetail
from app.services.jobs import JobState
from app.services.making import projectors_of, room_missing, texts_of
from app.wire.answers import parse_show
from tests.gguf_samples import small_llama
from tests.model_work import Work, working
from tests.recordings import recording
from tests.stub_ollama import MODEL, Reply, StubOllama, error, lines, served

pytestmark = pytest.mark.anyio


@pytest.fixture
def host() -> StubOllama:
    return StubOllama()


@pytest.fixture
async def work(host: StubOllama, tmp_path: Path) -> AsyncIterator[Work]:
    async with served(host) as url, working(tmp_path / "data", url) as made:
        yield made


def shows(host: StubOllama, **changed: Any) -> None:
    """The recorded answer of show with other values."""
    host.on("/api/show", Reply([json.dumps({**recording("show").body, **changed}).encode()]))


def from_path(path: Path | str) -> str:
    return f"# FROM x\n\nFROM {path}\nTEMPLATE {{{{ .Prompt }}}}\n"


async def test_a_host_elsewhere_makes_its_own_three_levels_and_the_rest_is_refused_with_the_reason(work: Work) -> None:
    offers = {offer.level: offer for offer in await work.models.offers(MODEL)}
    possible = [level for level, offer in offers.items() if not offer.refusal]
    assert possible == ["Q8_0", "Q4_K_M", "Q4_K_S"] and all(offers[level].way == "host" for level in possible)
    assert offers["Q5_K_M"].refusal == (
        "this machine cannot read the model's file, so Q5_K_M cannot be made from it; one itself can make "
        "Q8_0, Q4_K_M and Q4_K_S"
    )
    view = await work.over(work.models.make(MODEL, "Q5_K_M"))
    assert view.state is JobState.FAILED and "one itself can make" in view.error


async def test_the_host_is_asked_to_quantize_and_its_silence_is_borne(work: Work, host: StubOllama) -> None:
    host.on("/api/create", lines("create_quantize_q8_0"))
    view = await work.done(work.models.make(MODEL, "q8_0"))
    (asked,) = host.asked_for("/api/create")
    assert asked.json == {
        "model": "smollm2:135m-instruct-q8_0", "from": MODEL, "quantize": "Q8_0", "stream": True, "progress": True,
    }  # fmt: skip
    assert view.fraction is None and view.detail == "Done" and work.changes == 1


async def test_what_the_host_says_against_it_is_the_jobs_error(work: Work, host: StubOllama) -> None:
    host.on("/api/create", error(500, "no space left on device"))
    view = await work.over(work.models.make(MODEL, "q8_0"))
    assert (view.state, view.error, work.paused) == (JobState.FAILED, "no space left on device", [])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"details": {"format": "safetensors", "quantization_level": "BF16"}}, "only GGUF models"),
        ({"details": {"format": "gguf", "quantization_level": "Q4_K_M"}}, "is Q4_K_M; quantizations are made from"),
        ({"details": {}, "model_info": {}}, "is of unknown quantization"),
    ],
)
async def test_what_is_no_source_is_refused_with_the_reason(work: Work, host: StubOllama, changed, words) -> None:
    shows(host, **changed)
    with pytest.raises(BadRequest, match=words):
        await work.models.offers(MODEL)


async def test_a_host_that_names_another_file_of_this_machine_does_not_get_it(
    work: Work, host: StubOllama, tmp_path: Path
) -> None:
    """Neither one that is no blob, nor one that holds other tensors than shown."""
    content = small_llama(1, 64, "F16").bytes()
    blob = tmp_path / f"sha256-{hashlib.sha256(content).hexdigest()}"
    blob.write_bytes(content)
    plain = tmp_path / "private.gguf"
    plain.write_bytes(content)
    for path, words in ((plain, "not in a store of Ollama's layout"), (blob, "does not hold the tensors")):
        shows(host, modelfile=from_path(path))
        offers = {offer.level: offer for offer in await work.models.offers(MODEL)}
        assert words in offers["Q5_K_M"].refusal and not offers["Q8_0"].refusal
    shows(host, modelfile="")
    offers = {offer.level: offer for offer in await work.models.offers(MODEL)}
    assert "does not say where the model's file is" in offers["Q5_K_M"].refusal


async def test_deleting_where_no_manifest_can_be_read_goes_by_the_files_that_are_named(
    work: Work, host: StubOllama
) -> None:
    host.models = {MODEL: "a" * 64, "pirate:latest": "b" * 64}
    told = await work.models.removal(MODEL)
    assert (told.frees, told.shared_with, told.loaded) == (0, ("pirate:latest",), True)
    host.models = {MODEL: "a" * 64}
    told = await work.models.removal(MODEL)
    assert told.frees == recording("tags_after").body["models"][0]["size"] and told.shared_with == ()
    host.on("/api/delete", Reply([b""], 200))
    assert await work.models.remove(MODEL) == told
    assert host.asked_for("/api/delete")[0].json == {"model": MODEL}
    host.on("/api/delete", error(500, "permission denied"))
    with pytest.raises(HostRefused, match="permission denied"):
        await work.models.remove(MODEL)


def detail(**changed: Any) -> ModelDetail:
    return replace(parse_show(json.dumps(recording("show_derived").body).encode()), **changed)


def test_the_texts_of_the_source_go_along_with_the_upload() -> None:
    body, texts = recording("show_derived").body, texts_of(detail())
    assert texts["template"] == body["template"] and texts["system"] == body["system"]
    assert set(texts) <= {"template", "system", "parameters", "license", "messages", "renderer", "parser", "requires"}
    modelfile = from_path("/models/blobs/sha256-a") + "LICENSE MIT\nLICENSE Apache-2.0\nRENDERER r\nPARSER p\n"
    message = {"role": "user", "content": "hi"}
    own = detail(
        modelfile=modelfile, template="{% jinja %}", messages=(message,), parameters='num_ctx    4096\nstop    "x"'
    )
    assert texts_of(own) == {
        "system": body["system"], "license": ["MIT", "Apache-2.0"], "renderer": "r", "parser": "p",
        "messages": [message], "parameters": {"num_ctx": 4096, "stop": ["x"]},
    }  # fmt: skip


def test_a_projector_goes_along_by_its_digest_and_an_adapter_is_for_the_host_alone() -> None:
    blob = f"sha256-{'c' * 64}"
    with_projector = from_path("/m/blobs/sha256-a").replace("TEMPLATE", f"FROM C:\\m\\blobs\\{blob}\nTEMPLATE")
    assert projectors_of(detail(modelfile=with_projector)) == {"projector-1.gguf": blob.replace("-", ":")}
    with pytest.raises(BadRequest, match="projector"):
        projectors_of(detail(modelfile=with_projector.replace(blob, "mmproj.gguf")))
    with pytest.raises(BadRequest, match="adapter"):
        texts_of(detail(modelfile=from_path("/m") + "ADAPTER /l\n"))


def test_room_is_asked_for_before_the_work_and_told_in_numbers(tmp_path: Path) -> None:
    assert room_missing(tmp_path / "not" / "there" / "yet", 1000) == ""
    told = room_missing(tmp_path, 1 << 60)
    assert str(tmp_path) in told and "MiB free" in told and "free some space first" in told
