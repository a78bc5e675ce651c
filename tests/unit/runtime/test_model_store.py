"""The model store: Ollama's layout on disk, changes that are whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from app.core.errors import BadRequest, DiskFull, ModelNotFound, StoreError
from app.runtime.manifests import CONFIG_TYPE, MODEL, TEMPLATE, Layer
from app.runtime.model_store import ModelStore
from tests.recordings import FOLDER

RECORDED = sorted((FOLDER / "store").glob("*.json"))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def add(store: ModelStore, name: str, content: bytes = b"weights", template: bytes = b"{{ .Prompt }}") -> str:
    layers = [store.add_blob(content, media_type=MODEL), store.add_blob(template, media_type=TEMPLATE)]
    return store.write_manifest(name, store.add_blob(b'{"model_format":"gguf"}'), layers).digest


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_manifest_is_written_byte_for_byte_as_ollama_wrote_it(store: ModelStore, path: Path):
    recorded = json.loads(path.read_text())
    wanted = json.loads(recorded["manifest_text"])
    store.prepare()
    for layer in (wanted["config"], *wanted["layers"]):
        store.blob_path(layer["digest"]).write_bytes(b"x")
    config, *layers = [
        Layer(layer["digest"], layer["size"], layer["mediaType"], layer.get("from", ""))
        for layer in (wanted["config"], *wanted["layers"])
    ]
    name = "/".join(path.stem.split("__")[:3]) + ":" + path.stem.split("__")[3]
    manifest = store.write_manifest(name, config, layers)
    assert (store.root / recorded["path"]).read_text() == recorded["manifest_text"]
    assert manifest.digest == hashlib.sha256(recorded["manifest_text"].encode()).hexdigest()
    assert manifest.parent == wanted["layers"][0].get("from", "")


def test_a_blob_is_named_by_what_it_holds_and_kept_once(store: ModelStore):
    first, second = store.add_blob(b"abc"), store.add_blob(b"abc")
    assert first == second == Layer("sha256:" + hashlib.sha256(b"abc").hexdigest(), 3)
    assert [path.name for path in store.blobs.iterdir()] == [first.digest.replace(":", "-")]
    assert store.read_blob(first) == b"abc"


def test_a_moved_file_leaves_its_place_and_a_copied_one_stays(store: ModelStore, tmp_path: Path):
    for name, move in (("moved", True), ("copied", False)):
        (tmp_path / name).write_bytes(name.encode())
        layer = store.add_blob(tmp_path / name, move=move)
        assert store.read_blob(layer) == name.encode()
        assert (tmp_path / name).exists() is not move


def test_a_half_written_blob_of_that_name_is_replaced(store: ModelStore):
    layer = store.add_blob(b"whole")
    store.blob_path(layer.digest).write_bytes(b"wh")
    assert store.read_blob(store.add_blob(b"whole")) == b"whole"


def test_names_are_found_in_any_case_and_keep_their_spelling(store: ModelStore):
    add(store, "SmolLM2:F16")
    assert store.manifest("smollm2:f16").name.shortest == "SmolLM2:F16"
    add(store, "smollm2:f16", b"newer")
    assert [name.shortest for name in store.names()] == ["SmolLM2:F16"]


def test_the_model_changed_last_comes_first(store: ModelStore):
    for name, when in (("a", 100), ("b", 300), ("c", 200)):
        add(store, name)
        os.utime(store.manifests / "registry.ollama.ai/library" / name / "latest", ns=(0, when * 10**9))
    assert [name.model for name in store.names()] == ["b", "c", "a"]


def test_a_copy_has_the_digest_of_the_original(store: ModelStore):
    digest = add(store, "one")
    store.copy("ONE", "me/two:v1")
    assert store.manifest("me/two:v1").digest == digest
    store.copy("one", "one:latest")
    with pytest.raises(ModelNotFound):
        store.copy("nope", "three")
    with pytest.raises(BadRequest):
        store.copy("one", "not a name")


def test_deleting_frees_what_no_other_model_uses(store: ModelStore):
    add(store, "one", b"weights of one")
    add(store, "two", b"weights of two")
    assert store.delete("one") == len(b"weights of one")
    assert store.manifest("two")
    assert not (store.manifests / "registry.ollama.ai/library/one").exists()
    store.delete("two")
    assert list(store.blobs.iterdir()) == []
    with pytest.raises(ModelNotFound):
        store.delete("two")


def test_nothing_is_freed_while_a_manifest_cannot_be_read(store: ModelStore):
    add(store, "one")
    add(store, "broken")
    (store.manifests / "registry.ollama.ai/library/broken/latest").write_text("{")
    assert store.delete("one") == 0
    assert len(list(store.blobs.iterdir())) == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"layers":[{"digest":"x"}]}', b" " * (2 << 20)])
def test_a_damaged_manifest_is_not_listed_and_told_when_asked_for(store: ModelStore, content: bytes):
    add(store, "good")
    path = store.manifests / "registry.ollama.ai/library/bad/latest"
    path.parent.mkdir()
    path.write_bytes(content)
    assert [name.model for name in store.names()] == ["good"]
    with pytest.raises(StoreError):
        store.manifest("bad")


def test_files_that_do_not_belong_are_passed_over(store: ModelStore):
    add(store, "good")
    for stray in ("registry.ollama.ai/library/good/.DS_Store", "registry.ollama.ai/stray", "a/b/c/d/e"):
        (store.manifests / stray).parent.mkdir(parents=True, exist_ok=True)
        (store.manifests / stray).write_text("x")
    assert [name.model for name in store.names()] == ["good"]


def test_a_model_is_listed_only_when_all_of_it_is_there(store: ModelStore):
    with pytest.raises(StoreError, match="is not in the store"):
        store.write_manifest("m", store.add_blob(b"{}"), [Layer("sha256:" + "0" * 64, 1, MODEL)])
    assert store.names() == []


@pytest.mark.parametrize("digest", ["", "sha256:12", "sha256:" + "g" * 64, "md5:" + "0" * 64, "sha256:../" + "0" * 61])
def test_a_digest_of_another_shape_never_becomes_a_path(store: ModelStore, digest: str):
    with pytest.raises(BadRequest, match="invalid digest format"):
        store.blob_path(digest)


def test_a_full_disk_leaves_nothing_behind(store: ModelStore, monkeypatch: pytest.MonkeyPatch):
    store.prepare()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull):
        store.add_blob(b"too much")
    assert list(store.blobs.iterdir()) == []


def test_a_store_that_cannot_be_made_says_so(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        ModelStore(tmp_path / "file" / "models").prepare()


def test_the_config_has_its_type_in_the_manifest(store: ModelStore):
    add(store, "m")
    assert store.manifest("m").config.media_type == CONFIG_TYPE
