"""Creating beside other changes, cancelled, killed at any moment, and out of disk space: the store stays sound."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from app.runtime.manifests import MODEL
from app.runtime.model_store import ModelStore
from app.runtime.store_sweep import GRACE, sweep
from tests.creating import created, loose_files, put, sound_names, tiny
from tests.starter_cache import linked_store

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
SUCCESS = {"status": "success"}
FP16 = "smollm2:135m-instruct-fp16"

# Creates what it is told to, and kills itself at the KILL-th change of a file (0: never); tells how many there were.
CREATE = """
import asyncio, json, os, resource, signal, sys
from app.core.errors import LoupeError
from app.runtime.create import create
from app.runtime.model_store import ModelStore

store, body, kill, limit = ModelStore(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
changes = 0

def watch(event, arguments):
    global changes
    flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
    writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if not (writing or event in ("os.rename", "os.remove", "os.mkdir", "os.chmod", "os.utime", "os.rmdir")):
        return
    if not str(arguments[0]).startswith(str(store.root)):
        return
    changes += 1
    if changes == kill:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async for record in create(store, body):
        print(json.dumps(record), flush=True)

if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.addaudithook(watch)
try:
    asyncio.run(main())
except LoupeError as error:
    print(json.dumps({"error": error.message, "code": error.code}), flush=True)
print(json.dumps({"changes": changes}), flush=True)
"""

# On a file system of its own, too small for what is to be made.
FULL = """
import os, subprocess, sys
folder, size, program, *rest = sys.argv[1:]
os.makedirs(folder + "/small")
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "none", folder + "/small"], check=True)
subprocess.run(["cp", "-r", folder + "/models", folder + "/small/"], check=True)
done = subprocess.run([sys.executable, "-c", program, folder + "/small/models", *rest])
subprocess.run(["cp", "-r", folder + "/small/models", folder + "/after"], check=True)
sys.exit(done.returncode)
"""


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def run(store: ModelStore, body: dict, kill: int = 0, limit: int = 0) -> list[dict]:
    """The records of a creation in a process of its own; the last one counts its changes, if it came to its end."""
    command = [sys.executable, "-c", CREATE, str(store.root), json.dumps(body), str(kill), str(limit)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    return [json.loads(line) for line in done.stdout.splitlines()]


def copied(store: ModelStore, to: Path) -> ModelStore:
    shutil.copytree(store.root, to, symlinks=True)
    return ModelStore(to)


def until(what, seconds: float = 20.0) -> None:
    """Polls `what` until it is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


async def test_killed_at_every_change_of_a_file_the_store_is_sound(store, tmp_path):
    """Replacing a model by a new import with texts of its own, which is every kind of change there is."""
    assert (await created(store, {"model": "a", "files": {"m": put(store, tiny())}, "system": "old"}))[-1] == SUCCESS
    old = store.manifest("a").raw
    body = {
        "model": "a",
        "files": {"m": put(store, tiny(layers=2))},
        "system": "new",
        "license": ["x"],
        "quantize": "q8_0",
    }
    trial = copied(store, tmp_path / "trial")
    *records, told = run(trial, body)
    assert records[-1] == SUCCESS
    new = trial.manifest("a").raw
    assert told["changes"] > 20
    seen = set()
    for kill in range(1, told["changes"] + 1):
        target = copied(store, tmp_path / str(kill))
        run(target, body, kill)
        assert sound_names(target) == {"a:latest"}
        seen.add(target.manifest("a").raw)
        sweep(target, now=time.time() + 2 * GRACE)
        assert loose_files(target) == set()
        assert sound_names(target) == {"a:latest"}
        shutil.rmtree(target.root)
    assert seen == {old, new}  # both outcomes were met, and no third


async def test_a_creation_goes_through_after_a_kill_whatever_was_left(store, tmp_path):
    body = {"model": "a", "files": {"m": put(store, tiny(layers=2))}, "quantize": "q8_0", "system": "s"}
    changes = run(copied(store, tmp_path / "trial"), body)[-1]["changes"]
    for kill in range(2, changes + 1, 5):
        target = copied(store, tmp_path / str(kill))
        run(target, body, kill)
        assert (await created(target, body))[-1] == SUCCESS
        assert sound_names(target) == {"a:latest"}


@pytest.mark.model
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("quantize", ["", "q8_0"], ids=["copied", "quantized"])
def test_killed_while_the_model_file_is_written_nothing_goes_on_and_nothing_is_listed(tmp_path, share, quantize):
    store = ModelStore(linked_store(tmp_path / "models", ("fp16",)))
    upload = store.manifest(FP16).layer(MODEL)
    body = {"model": "a", "files": {"m.gguf": upload.digest}} | ({"quantize": quantize} if quantize else {})
    whole = upload.size if not quantize else 144_811_072
    command = [sys.executable, "-c", CREATE, str(store.root), json.dumps(body), "0", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)

    def reached() -> bool:
        return any(path.stat().st_size >= share * whole for path in store.blobs.glob(".create.*"))

    until(lambda: process.poll() is not None or reached(), 60)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.wait()
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))
    names = {manifest.name.shortest for manifest in store.all()}
    assert names in ({FP16}, {FP16, "a:latest"})
    assert names == {FP16} or share >= 0.9
    sweep(store, now=time.time() + 2 * GRACE)
    assert loose_files(store) == set()


@pytest.mark.parametrize("names", [("a", "a"), ("a", "A"), ("a", "b")])
async def test_two_creations_at_once_leave_whole_models(store, names):
    digests = [put(store, tiny()), put(store, tiny(layers=2))]
    await created(store, {"model": "base", "files": {"m.gguf": digests[0]}, "system": "s"})
    asked = [
        {"model": name, "files": {"m.gguf": digest}, "system": text} if text else {"model": name, "from": "base"}
        for name, digest, text in zip(names * 2, digests * 2, ("one", "two", "", "one"), strict=True)
    ]
    for outcome in await asyncio.gather(*(created(store, body) for body in asked)):
        assert outcome[-1] == SUCCESS
    listed = sound_names(store)
    assert len({name.casefold() for name in listed}) == len(listed) == len({name.casefold() for name in names}) + 1
    uploads = {store.blob_path(digest).name for digest in digests}
    assert loose_files(store) <= uploads


async def test_a_model_that_is_deleted_while_another_is_made_from_it(store):
    """Either everything was there, or one clear error, and nothing half."""
    for number in range(6):
        await created(store, {"model": "base", "files": {"m.gguf": put(store, tiny())}, "system": "s"})
        making = asyncio.create_task(created(store, {"model": "a", "from": "base", "quantize": "q8_0"}))
        await asyncio.wait({making}, timeout=number * 0.08)
        store.delete("base")
        *_, last = await making
        if last == SUCCESS:
            assert "a:latest" in sound_names(store)
            store.delete("a")
        else:
            assert any(told in last["error"] for told in ("not found", "removed", "no such file", "is not there"))
        assert sound_names(store) == set()
        assert not list(store.blobs.glob(".*"))


async def test_a_replaced_model_takes_its_own_layers_along_unless_they_are_to_stay(store):
    digest = put(store, tiny())
    for prune in (True, False):
        await created(store, {"model": "a", "files": {"m.gguf": digest}, "system": "old", "license": "a licence"})
        await created(store, {"model": "b", "from": "a"})
        store.delete("b")
        old = {layer.digest for layer in store.manifest("a").everything}
        await created(store, {"model": "a", "files": {"m.gguf": digest}, "system": f"new {prune}"}, prune=prune)
        gone = old - {layer.digest for layer in store.manifest("a").everything}
        assert [store.blob_path(one).exists() for one in sorted(gone)] == [not prune] * len(gone)
        assert len(gone) == 2


async def test_names_are_one_whatever_their_case(store):
    digest = put(store, tiny())
    await created(store, {"model": "Some/Model:Tag", "files": {"m.gguf": digest}})
    await created(store, {"model": "some/MODEL:tag", "from": "SOME/model:TAG", "system": "s"})
    assert sound_names(store) == {"Some/Model:Tag"}
    assert store.manifest("some/model:tag").layer(MODEL).source == "Some/Model:Tag"
    await created(store, {"model": "some/model:other", "files": {"m.gguf": digest}})
    assert sound_names(store) == {"Some/Model:Tag", "Some/Model:other"}


@pytest.mark.parametrize("limit", [3000, 60_000, 150_000])
@pytest.mark.parametrize("quantize", [None, "q8_0"], ids=["copied", "quantized"])
async def test_a_file_that_cannot_grow_is_one_clear_error(store, limit, quantize):
    body = {"model": "a", "files": {"m": put(store, tiny(layers=3))}, "system": "x" * 4000, "quantize": quantize}
    before = {path.name for path in store.blobs.iterdir()}
    *_, failed, _ = run(store, body, limit=limit)
    assert failed["code"] in ("disk_full", "store")
    assert {path.name for path in store.blobs.iterdir()} == before
    assert sound_names(store) == set()


def run_on_a_small_disk(store: ModelStore, folder: Path, room: int, body: dict) -> list[dict]:
    """As `run`, on a copy of the store with `room` bytes free; what is there afterwards is folder/after."""
    used = sum(-(-path.stat().st_size // 4096) * 4096 for path in store.root.rglob("*") if path.is_file())
    command = ["unshare", "-Urm", sys.executable, "-c", FULL, str(folder), str(used + room), CREATE]
    command += [json.dumps(body), "0", "0"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, timeout=20, check=False
    )
    return tried.returncode == 0


@pytest.mark.skipif(not can_mount(), reason="no small file system can be mounted here")
@pytest.mark.parametrize("room", [4096, 40_960, 81_920, 163_840])
@pytest.mark.parametrize("quantize", [None, "q8_0"], ids=["copied", "quantized"])
async def test_a_full_disk_is_one_clear_error_and_leaves_the_store_as_it_was(store, tmp_path, room, quantize):
    await created(store, {"model": "kept", "files": {"m": put(store, tiny())}})
    body = {"model": "a", "files": {"m": put(store, tiny(layers=2))}, "system": "x" * 100_000, "quantize": quantize}
    *_, failed, _ = run_on_a_small_disk(store, tmp_path, room, body)
    assert failed["code"] == "disk_full"
    assert "no space left" in failed["error"]
    after = ModelStore(tmp_path / "after")
    assert sound_names(after) == {"kept:latest"}
    assert {path.name for path in after.blobs.iterdir()} == {path.name for path in store.blobs.iterdir()}
