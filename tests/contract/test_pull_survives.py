"""A pull in a process of its own: killed in the middle, killed again and again, and out of disk space."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.runtime.model_store import ModelStore
from app.runtime.pull import Puller
from app.runtime.registry.pace import Pace
from tests.stub_registry import Answer, Published, StubRegistry

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]

PULL = """
import asyncio, json, sys
from pathlib import Path
from app.core.errors import LoupeError
from app.runtime.model_store import ModelStore
from app.runtime.pull import Puller
from app.runtime.registry.pace import Pace

async def main(store, name):
    pace = Pace(parts=4, smallest_part=1000, tick=0.005)
    async for record in Puller(ModelStore(store), pace=pace).pull(name, insecure=True):
        print(json.dumps(record), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""

# Fills the small file system as soon as the first bytes are there, tells so, and tries once more with room again.
FILL = """
import asyncio, json, subprocess, sys
from pathlib import Path
from app.core.errors import LoupeError
from app.runtime.model_store import ModelStore
from app.runtime.pull import Puller
from app.runtime.registry.pace import Pace

async def main(folder, name):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", folder], check=True)
    filler = Path(folder, "filler")
    store = ModelStore(Path(folder, "models"))
    pace = Pace(parts=1, tick=0.005)
    for attempt in range(2):
        try:
            async for record in Puller(store, pace=pace).pull(name, insecure=True):
                if record.get("completed") == 65536 and attempt == 0 and not filler.exists():
                    with filler.open("wb", buffering=0) as file:
                        try:
                            while file.write(bytes(4096)):
                                pass
                        except OSError:
                            print(json.dumps({"filled": True}), flush=True)
            print(json.dumps({"end": record["status"], "names": [n.full for n in store.names()]}), flush=True)
        except LoupeError as error:
            listed = [n.full for n in store.names()]
            print(json.dumps({"error": error.message, "code": error.code, "names": listed}), flush=True)
            filler.unlink(missing_ok=True)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def told(running: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    while line := await asyncio.wait_for(running.stdout.readline(), 60):
        yield json.loads(line)


async def completed(running: asyncio.subprocess.Process, amount: int) -> None:
    async for record in told(running):
        if record.get("completed", 0) >= amount:
            return
    raise AssertionError(f"the pull ended before {amount} bytes")


def assert_installed(store: ModelStore, name: str, model: Published) -> None:
    assert store.manifest(name).raw == model.raw
    assert {path.name for path in store.blobs.iterdir()} == {
        digest.replace(":", "-") for digest in model.contents
    }  # nothing but whole blobs
    for digest, content in model.contents.items():
        assert store.blob_path(digest).read_bytes() == content


async def test_after_kill_9_no_byte_that_was_fetched_is_fetched_again(tmp_path):
    async with StubRegistry().running() as registry:
        model = registry.publish("library/ok", "q8_0", weights=2_000_000)
        storage = f"storage {model.weights.digest}"
        held = [Answer(hold=amount) for amount in (300_000, 200_000, 100_000, 0)]
        registry.tell(storage, *held)
        name = registry.name("library/ok:q8_0")
        async with process(sys.executable, "-c", PULL, str(tmp_path / "models"), name) as running:
            await completed(running, 600_000)
            running.kill()
            await running.wait()
        store = ModelStore(tmp_path / "models")
        assert store.all() == []
        assert registry.sent[model.weights.digest] == 600_000

        first = None
        async for record in Puller(store, pace=Pace(tick=0.005)).pull(name, insecure=True):
            if first is None and record.get("digest") == model.weights.digest:
                first = record
        assert first["completed"] == 600_000
        assert registry.sent[model.weights.digest] == 2_000_000
        assert_installed(store, name, model)


async def test_nine_kills_in_full_flow_leave_a_store_that_ends_up_right(tmp_path):
    """Each at another amount, so that requests, notes, hashing and renaming are met in different places."""
    async with StubRegistry().running() as registry:
        model = registry.publish("library/ok", "q8_0", weights=8_000_000)
        name = registry.name("library/ok:q8_0")
        store = ModelStore(tmp_path / "models")
        for _ in range(9):
            # The four parts get 200,000 bytes each and no more: the kill comes while those are on their way.
            registry.tell(f"storage {model.weights.digest}", *(Answer(hold=200_000) for _ in range(4)))
            async with process(sys.executable, "-c", PULL, str(store.root), name) as running:
                await completed(running, there(store) + 1)
                running.kill()
                await running.wait()
            for note in store.blobs.glob("*-partial-*"):
                assert set(json.loads(note.read_text())) == {"N", "Offset", "Size", "Completed"}  # Ollama can read it
            assert store.all() == []
            registry._told.clear()
        async for record in Puller(store).pull(name, insecure=True):
            last = record
        assert last == {"status": "success"}
        assert_installed(store, name, model)


def there(store: ModelStore) -> int:
    """Bytes of the weights on disk, as the notes say."""
    return sum(json.loads(note.read_text())["Completed"] for note in store.blobs.glob("*-partial-*"))


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, timeout=20, check=False
    )
    return tried.returncode == 0


@pytest.mark.skipif(not can_mount(), reason="no small file system can be mounted here")
async def test_a_full_disk_is_one_clear_error_and_the_next_pull_goes_on(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    async with StubRegistry().running() as registry:
        model = registry.publish("library/ok", "q8_0", weights=2_000_000)
        held = Answer(hold=65_536)
        registry.tell(f"storage {model.weights.digest}", held)
        name = registry.name("library/ok:q8_0")
        command = ("unshare", "-Urm", sys.executable, "-c", FILL, str(folder), name)
        async with process(*command) as running:
            lines = told(running)
            assert await anext(lines) == {"filled": True}
            held.gate.set()
            failed, ended = [line async for line in lines]
        assert failed["error"].startswith("no space left for the model store")
        assert (failed["code"], failed["names"]) == ("disk_full", [])
        assert ended == {"end": "success", "names": [name]}
        starts = [seen.range[0] for seen in registry.asked(f"storage {model.weights.digest}")]
        assert starts[0] == 0
        assert starts[1] >= 65_536


@pytest.mark.skipif(not can_mount(), reason="no small file system can be mounted here")
async def test_a_model_larger_than_the_disk_is_refused_before_it_is_fetched(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    async with StubRegistry().running() as registry:
        model = registry.publish("library/ok", "q8_0", weights=4_000_000)
        name = registry.name("library/ok:q8_0")
        async with process("unshare", "-Urm", sys.executable, "-c", FILL, str(folder), name) as running:
            outcomes = [line async for line in told(running)]
        assert [outcome["code"] for outcome in outcomes] == ["disk_full", "disk_full"]
        assert "needs 4000000 bytes" in outcomes[0]["error"]
        assert registry.asked(f"blob {model.weights.digest}") == []
