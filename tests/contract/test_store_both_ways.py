"""The store, both ways: what a real Ollama left on disk is served as it is, and what ours leaves is what it left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.runtime.model_store import ModelStore
from tests import golden_compare
from tests.creating import stored
from tests.golden_registry import recorded_store
from tests.golden_session import play
from tests.recordings import FOLDER, recording
from tests.runtime_process import FP16, RuntimeProcess, install_recorded, runtime

pytestmark = [pytest.mark.model, pytest.mark.timeout(300), pytest.mark.xdist_group("golden")]
RECORDED = [path.stem for path in sorted((FOLDER / "store").glob("*.json"))]
NAMES = {"x:latest", "pirate:latest", "pirate2:latest", FP16}
Files = dict[str, tuple[str, int, int]]


def put_as_recorded(store: ModelStore) -> None:
    """The recorded files, byte for byte; the weights, which were not kept, are made anew and have the same digest."""
    store.prepare()
    for name in RECORDED:
        told = stored(name)
        path = store.root / told["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(told["manifest_text"])
        for digest, text in told["small_blobs"].items():
            assert store.add_blob(text.encode()).digest == digest
        weights = json.loads(told["manifest_text"])["layers"][0]["digest"]
        if not store.blob_path(weights).exists():
            store.blob_path(weights).hardlink_to(recorded_store().blob_path(weights))


def files(root: Path) -> Files:
    found: Files = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            status, digest = path.stat(), hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(root))] = (digest, status.st_mtime_ns, status.st_ino)
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RuntimeProcess, Path, Files]]:
    folder = tmp_path_factory.mktemp("recorded")
    put_as_recorded(ModelStore(folder / "store"))
    before = files(folder / "store")
    with runtime(folder / "store", folder / "log") as server:
        yield server, folder / "store", before


def test_a_real_ollamas_models_are_listed_with_its_digests_and_sizes(served: tuple[RuntimeProcess, Path, Files]):
    rows = served[0].send("GET", "/api/tags").json["models"]
    told = {row["name"]: row for row in recording("tags").body["models"] if row["name"] in NAMES}
    assert len(told) == len(RECORDED) == len(rows)
    for row in rows:
        del row["modified_at"]
        assert row == {key: value for key, value in told[row["name"]].items() if key != "modified_at"}


@pytest.mark.parametrize(
    "case", ["show", "show_verbose", "show_derived", "generate_plain", "chat_plain", "generate_raw"]
)
def test_a_real_ollamas_store_is_shown_and_answers_as_recorded(served: tuple[RuntimeProcess, Path, Files], case: str):
    golden_compare.check(recording(case), play(served[0], None, case))


def test_serving_a_store_changes_not_a_file_in_it(served: tuple[RuntimeProcess, Path, Files]):
    server, store, before = served
    assert play(server, None, "generate_plain").status == 200
    after = files(store)
    assert {path: after[path] for path in before} == before
    assert not [path for path in after.keys() - before.keys() if path.startswith(("blobs/", "manifests/"))]


def test_the_recorded_manifests_serve_another_f16_file_of_the_same_weights(tmp_path: Path):
    for name in RECORDED:
        install_recorded(tmp_path / "store", name)
    with runtime(tmp_path / "store", tmp_path / "log") as server:
        assert {row["name"] for row in server.send("GET", "/api/tags").json["models"]} == NAMES
        for case in ("generate_plain", "chat_plain", "chat_stream"):
            golden_compare.check(recording(case), play(server, None, case))
