"""The starter model for tests: downloaded and made once, kept under build/test-cache, shared by all workers.

    starter_gguf()            the Q4_1 file as it comes
    starter_store()           a store with all eight variants; not to be changed
    linked_store(folder, …)   a store of a test's own with the same blobs, at no cost: they are hard links, so a test
                              that damages one replaces the file and does not write into it

`STARTER_TEST_CACHE` names another folder. What is there is checked each time, and made where it is not.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from app.runtime.model_store import ModelStore
from app.runtime.starter import LADDER
from app.runtime.starter_download import FILE_NAME, starter_file

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("STARTER_TEST_CACHE") or ROOT / "build" / "test-cache")  # read before a test can change it
CACHE.mkdir(parents=True, exist_ok=True)  # whichever test of a fresh checkout comes first
TAGS = tuple(step.tag for step in LADDER)


@cache
def starter_gguf() -> Path:
    """The starter's file, downloaded at the first use on this machine."""
    folder = CACHE / "data" / "starter"
    with locked():
        return starter_file(folder, lambda *_: None, lambda: False)


@cache
def starter_store() -> Path:
    """A store with the whole family. Tests that change a store take `linked_store`."""
    store = CACHE / "store"
    with locked():
        made = subprocess.run(
            [sys.executable, "-m", "app.runtime.starter", "--store", str(store), "--data", str(CACHE / "data")],
            cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
    assert made.returncode == 0, f"the starter family could not be made: {made.stdout[-500:]}{made.stderr[-2000:]}"
    return store


def linked_store(folder: Path, tags: tuple[str, ...] = TAGS) -> Path:
    """A store in `folder` with the variants `tags`, its blobs hard-linked (or copied, across file systems)."""
    source, target = ModelStore(starter_store()), ModelStore(folder)
    target.prepare()
    for tag in tags:
        manifest = source.manifest(f"smollm2:135m-instruct-{tag}")
        for layer in manifest.everything:
            _link(source.blob_path(layer.digest), target.blob_path(layer.digest))
        target.write_manifest(manifest.name, manifest.config, manifest.layers)
    return folder


def reference_gguf() -> Path:
    """The F16 file of the family."""
    return _model_file("fp16")


def variant_gguf(tag: str) -> Path:
    """The GGUF of one variant, for example of "q4_K_M"."""
    return _model_file(tag)


def _model_file(tag: str) -> Path:
    store = ModelStore(starter_store())
    layer = store.manifest(f"smollm2:135m-instruct-{tag}").layers[0]
    return store.blob_path(layer.digest)


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        target.write_bytes(source.read_bytes())


@contextmanager
def locked() -> Iterator[None]:
    """One worker makes, the others wait. The pip process a test starts may use the network; the test itself not."""
    folder = CACHE / "data" / "starter"
    folder.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


__all__ = ["FILE_NAME", "linked_store", "reference_gguf", "starter_gguf", "locked", "starter_store", "variant_gguf"]
