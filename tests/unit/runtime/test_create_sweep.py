"""What clearing up removes from a store, and what it leaves alone."""

from __future__ import annotations

import os
import time

import pytest

from app.runtime.manifests import MODEL
from app.runtime.model_store import ModelStore
from app.runtime.store_sweep import GRACE, Swept, sweep

HEX = "0" * 63


@pytest.fixture
def store(tmp_path) -> ModelStore:
    """A model, with everything among its blobs that can be left over, all of it two hours old."""
    store = ModelStore(tmp_path / "models")
    layer = store.add_blob(b"weights", media_type=MODEL)
    store.write_manifest("kept", store.add_blob(b"{}"), [layer])
    for name in (
        *(".create.ab.0.gguf", ".create.ab.0.gguf.12.partial", ".create.ab.0.gguf.joined.partial"),
        *(".upload.ab.tmp", ".manifest.ab.tmp", "..manifest.ab.tmp.cd.tmp", f".sha256-{HEX}1.ab.tmp"),
        *(f"sha256-{HEX}2", f"sha256-{HEX}3-partial", f"sha256-{HEX}3-partial-0", "sha256-12345", "Q4_K_M123"),
    ):
        (store.blobs / name).write_bytes(b"1234")
    (store.manifests / "registry.ollama.ai/library/kept/.latest.ab.tmp").write_bytes(b"1234")
    (store.manifests / "registry.ollama.ai/library/empty").mkdir()
    for path in store.root.rglob("*"):
        age(path)
    return store


def age(path, seconds: float = 2 * GRACE) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def files(store: ModelStore) -> set[str]:
    return {path.name for path in store.root.rglob("*") if path.is_file()}


def whole(store: ModelStore) -> set[str]:
    manifest = store.manifest("kept")
    return {"latest", *(layer.digest.replace(":", "-") for layer in manifest.everything)}


def test_everything_that_belongs_to_no_model_goes(store):
    assert sweep(store) == Swept(files=13, nbytes=13 * 4)
    assert files(store) == whole(store)
    assert not (store.manifests / "registry.ollama.ai/library/empty").exists()
    assert sweep(store) == Swept()


def test_with_noprune_only_our_own_temporary_files_go(store):
    assert sweep(store, prune=False).files == 8
    blobs = {f"sha256-{HEX}2", f"sha256-{HEX}3-partial", f"sha256-{HEX}3-partial-0", "sha256-12345", "Q4_K_M123"}
    assert files(store) == whole(store) | blobs


def test_what_is_younger_than_an_hour_stays(store):
    before = files(store)
    for path in store.root.rglob("*"):
        age(path, GRACE - 60)
    assert sweep(store) == Swept()
    assert files(store) == before


def test_a_download_counts_by_its_youngest_file(store):
    partial = store.blobs / f"sha256-{HEX}3-partial"
    age(partial, 10)
    sweep(store)
    assert partial.exists()
    assert (store.blobs / f"sha256-{HEX}3-partial-0").exists()


def test_a_manifest_that_cannot_be_read_protects_every_blob(store):
    folder = store.manifests / "registry.ollama.ai/library/broken"
    folder.mkdir()
    (folder / "latest").write_text("{")
    sweep(store)
    assert (store.blobs / f"sha256-{HEX}2").exists()
    assert not (store.blobs / ".upload.ab.tmp").exists()


def test_a_manifest_of_another_spelling_protects_its_blobs(store):
    path = store.manifests / "registry.ollama.ai/library/kept/latest"
    path.write_text(path.read_text().replace("sha256:", "sha256-"))
    sweep(store)
    assert len(list(store.blobs.iterdir())) == 2


def test_folders_and_links_are_left_alone(store, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (store.blobs / "folder").mkdir()
    (store.blobs / "link").symlink_to(outside)
    age(outside)
    sweep(store, now=time.time() + 10 * GRACE)
    assert outside.read_text() == "mine"
    assert (store.blobs / "link").is_symlink()
    assert (store.blobs / "folder").is_dir()


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    assert sweep(ModelStore(tmp_path / "none")) == Swept()
    assert not (tmp_path / "none").exists()


def test_a_file_that_goes_away_meanwhile_is_no_error(store, monkeypatch):
    gone = store.blobs / "Q4_K_M123"
    monkeypatch.setattr("app.runtime.store_sweep._used", lambda _: gone.unlink() or set())
    assert sweep(store).files > 0
