"""The recorded session's creations and uploads, played against a fresh runtime, in the order of the session."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests import golden_compare
from tests.creating import UPLOADED, uploaded_gguf
from tests.recordings import recording
from tests.runtime_process import Reply, RuntimeProcess, runtime

pytestmark = [pytest.mark.model, pytest.mark.timeout(300), pytest.mark.xdist_group("golden")]

CREATION = [
    "blob_create", "blob_again", "blob_wrong_digest", "create_from_gguf", "create_derived", "create_not_stream",
    "create_quantize_q8_0", "create_quantize_q4_K_M", "create_quantize_q3", "create_bad_quantize",
    "create_missing_blob", "create_no_source", "create_template_bad",
]  # fmt: skip
# Recorded texts that name a place on the recording machine.
PLACES = {"create_missing_blob": ("<path>", "the folder of the store")}
FP16 = "smollm2:135m-instruct-fp16"


def play(server: RuntimeProcess, case: str) -> Reply:
    asked = recording(case).request
    body = uploaded_gguf().read_bytes() if case in ("blob_create", "blob_again") else asked.content
    return server.send(asked.method, asked.path, body, asked.headers)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Reply], dict[str, bytes], bytes]:
    """The replies, the blobs of the store by digest, and an answer of a model that was made in the session."""
    folder = tmp_path_factory.mktemp("creation")
    with runtime(folder / "store", folder / "log") as server:
        replies = {case: play(server, case) for case in CREATION}
        asked = {"model": "smollm2:135m-instruct-q4_K_M", "prompt": "What is the capital of France?", "stream": False,
                 "options": {"temperature": 0, "num_predict": 24}}  # fmt: skip
        answer = server.send("POST", "/api/generate", asked)
        assert answer.status == 200, answer.body
    blobs = {path.name: path.read_bytes() for path in (folder / "store" / "blobs").iterdir()}
    return replies, blobs, answer.body


@pytest.mark.parametrize("case", [case for case in CREATION if case not in PLACES])
def test_the_answer_is_ollamas(played: tuple[dict[str, Reply], dict[str, bytes], bytes], case: str):
    golden_compare.check(recording(case), played[0][case])


def test_a_missing_blob_is_one_line_of_the_stream_that_names_it(
    played: tuple[dict[str, Reply], dict[str, bytes], bytes],
):
    reply, recorded = played[0]["create_missing_blob"], recording("create_missing_blob")
    assert (reply.status, reply.lines[0]) == (recorded.status, json.loads(recorded.lines[0]))
    wanted = json.loads(recorded.lines[1])["error"].rpartition("/")[2]
    assert len(reply.lines) == 2 and reply.lines[1]["error"].endswith(wanted)


def test_every_blob_of_the_store_hashes_to_its_name_and_nothing_else_lies_there(
    played: tuple[dict[str, Reply], dict[str, bytes], bytes],
):
    blobs = played[1]
    assert f"sha256-{UPLOADED}" in blobs
    assert {f"sha256-{hashlib.sha256(content).hexdigest()}" for content in blobs.values()} == set(blobs)


def test_a_quantization_made_by_create_answers(played: tuple[dict[str, Reply], dict[str, bytes], bytes]):
    assert "Paris" in json.loads(played[2])["response"]
