"""Creating, word for word and byte for byte as recorded: the session that made the recorded store, once more."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from app.core.errors import BadRequest
from app.runtime.blob_upload import has_blob, upload_blob
from app.runtime.create import create
from app.runtime.create_request import read_request
from app.runtime.model_store import ModelStore
from app.wire.requests import decode
from tests.creating import FP16, UPLOADED, as_lines, created, loose_files, pieces, sound_names, stored, uploaded_gguf
from tests.recordings import recording

pytestmark = [pytest.mark.anyio, pytest.mark.model, pytest.mark.xdist_group("create")]

SUCCEEDING = (
    "create_from_gguf", "create_quantize_q8_0", "create_quantize_q4_K_M", "create_derived", "create_not_stream",
)  # fmt: skip


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> tuple[ModelStore, dict[str, list[str]]]:
    """The store after the recorded creations, and the lines of each."""
    store = ModelStore(tmp_path_factory.mktemp("session") / "models")
    lines: dict[str, list[str]] = {}

    async def play() -> None:
        status = await upload_blob(store, f"sha256:{UPLOADED}", pieces(uploaded_gguf().read_bytes()))
        assert status == recording("blob_create").status
        for name in SUCCEEDING:
            lines[name] = as_lines(await created(store, recording(name).request.body))
        asked = {"model": "x", "from": FP16, "parameters": {"nonsense": 3}}  # what the recorded store's "x" came from
        lines["x"] = as_lines(await created(store, asked))

    asyncio.run(play())
    return store, lines


@pytest.mark.parametrize("name", [name for name in SUCCEEDING if name != "create_not_stream"])
def test_the_lines_of_a_creation_are_the_recorded_ones(session, name):
    _, lines = session
    assert lines[name] == list(recording(name).lines)


def test_the_last_line_is_the_answer_of_a_creation_that_does_not_stream(session):
    _, lines = session
    assert lines["create_not_stream"][-1] == recording("create_not_stream").text


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (FP16, "registry.ollama.ai__library__smollm2__135m-instruct-fp16"),
        ("pirate", "registry.ollama.ai__library__pirate__latest"),
        ("pirate2", "registry.ollama.ai__library__pirate2__latest"),
        ("x", "registry.ollama.ai__library__x__latest"),
    ],
)
def test_manifest_and_small_blobs_are_the_recorded_ones(session, name, file):
    store, _ = session
    manifest, told = store.manifest(name), stored(file)
    assert manifest.raw.decode() == told["manifest_text"]
    assert store.manifests.joinpath(*manifest.name.parts).relative_to(store.root) == Path(told["path"])
    for digest, text in told["small_blobs"].items():
        assert store.blob_path(digest).read_bytes().decode() == text


def test_every_model_has_the_digest_and_the_size_that_were_listed(session):
    store, _ = session
    listed = json.loads(recording("tags_after").text)["models"]
    assert {(model["name"], model["digest"], model["size"]) for model in listed} <= {
        (manifest.name.shortest, manifest.digest, manifest.size) for manifest in store.all()
    }


def test_the_store_is_sound_and_nothing_is_left_over_but_the_upload(session):
    store, _ = session
    assert len(sound_names(store)) == 6
    assert loose_files(store) == {f"sha256-{UPLOADED}"}


@pytest.mark.parametrize("name", ["create_bad_quantize", "create_quantize_q3", "create_template_bad"])
async def test_a_refusal_is_the_recorded_one_and_changes_nothing(session, name):
    store, _ = session
    before = sorted(path.name for path in store.blobs.iterdir())
    expected = recording(name)
    assert await created(store, expected.request.body) == [
        {"error": expected.body["error"], "status_code": expected.status}
    ]
    assert sorted(path.name for path in store.blobs.iterdir()) == before


async def test_a_creation_without_a_source_is_refused_as_recorded(tmp_path):
    expected = recording("create_no_source")
    records = await created(ModelStore(tmp_path), expected.request.body)
    assert records == [{"error": expected.body["error"], "status_code": expected.status}]


async def test_a_blob_that_is_missing_is_told_as_recorded(tmp_path):
    expected = recording("create_missing_blob")
    *records, failed = await created(ModelStore(tmp_path), expected.request.body)
    assert as_lines(records) == list(expected.lines[:-1])
    told = expected.chunks[-1]["error"].replace("<path>", str(tmp_path / "blobs"))
    assert failed == {"error": told, "status_code": 500}


@pytest.mark.parametrize("name", ["bad_name_create", "no_model_create"])
async def test_a_bad_name_is_refused_before_anything_else(tmp_path, name):
    expected = recording(name)
    body = decode("CreateRequest", expected.request.content)
    with pytest.raises(BadRequest) as caught:
        read_request(body)
    assert (caught.value.message, caught.value.status) == (expected.body["error"], expected.status)
    with pytest.raises(BadRequest, match="invalid model name"):
        await anext(create(ModelStore(tmp_path), body))


async def test_a_model_that_is_not_here_is_pulled_and_what_the_pull_tells_is_passed_on(tmp_path):
    asked: list[str] = []

    async def pull(name: str):
        asked.append(name)
        yield {"status": "pulling manifest"}
        raise BadRequest("pull model manifest: file does not exist")

    expected = recording("missing_create")
    *records, failed = await created(ModelStore(tmp_path), expected.request.body, pull=pull)
    assert as_lines(records) == list(expected.lines[:-1])
    assert failed["error"] == "pull model manifest: file does not exist"
    assert asked == ["registry.ollama.ai/library/nope:latest"]


async def test_blobs_are_answered_as_recorded(session, tmp_path):
    store, _ = session

    async def never():
        raise AssertionError("a blob that is there was read again")
        yield b""

    assert await upload_blob(store, f"sha256:{UPLOADED}", never()) == recording("blob_again").status
    assert has_blob(store, f"sha256:{UPLOADED}")
    assert not has_blob(ModelStore(tmp_path), f"sha256:{UPLOADED}")
    for name, folder in (("blob_bad_digest", tmp_path), ("blob_wrong_digest", tmp_path / "other")):
        expected = recording(name)
        digest = expected.request.path.rpartition("/")[2]
        with pytest.raises(BadRequest) as caught:
            await upload_blob(ModelStore(folder), digest, pieces(expected.request.content))
        assert (caught.value.message, caught.value.status) == (expected.body["error"], expected.status)
