"""`python -m app runtime` as a process of a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.http_target import Connection, HttpTarget, Reply
from tests.recordings import FOLDER
from tests.served import wait_for
from tests.starter_cache import variant_gguf

ROOT = Path(__file__).parents[1]
FP16 = "smollm2:135m-instruct-fp16"
_MODEL = "application/vnd.ollama.image.model"


class RuntimeProcess(HttpTarget):
    """A supervisor that is ready. `url` and `pid` are what its ready line says."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the runtime did not start:\n{log.read_text()[-2000:]}"
        ready = json.loads(line)
        assert ready["ready"] is True
        super().__init__(ready["url"])
        self.pid = ready["pid"]

    def workers(self) -> list[psutil.Process]:
        """The processes under the supervisor that run a model."""
        return [child for child in _children(self.pid) if any("worker.py" in word for word in words_of(child))]

    def one_worker(self) -> psutil.Process:
        workers: list[psutil.Process] = wait_for("a worker", self.workers)
        return workers[0]


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def words_of(process: psutil.Process) -> list[str]:
    """Its command line; nothing where it is gone."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        return []


def is_gone(pid: int) -> bool:
    """No such process, or only its exit status is left."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def command(store: Path, port: int = 0) -> list[str]:
    return [sys.executable, "-m", "app", "runtime", "--port", str(port), "--store", str(store)]


@contextmanager
def runtime(store: Path, log: Path, **environment: str) -> Iterator[RuntimeProcess]:
    """A supervisor over `store`, ended by its own pid."""
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command(store), cwd=ROOT, env=os.environ | environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink,
        )  # fmt: skip
    server = None
    try:
        server = RuntimeProcess(process, log)
        yield server
    finally:
        if server is not None:
            server.leave()
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def install_recorded(store_folder: Path, recorded: str, *, tag: str = "fp16", name: str | None = None) -> None:
    """Puts a model of the recorded store into `store_folder`, with our file of the variant `tag` as its model layer.

    `recorded` names a file under tests/data/ollama/store; `name` gives the model another name.
    """
    from app.runtime.manifests import Layer
    from app.runtime.model_store import ModelStore

    store = ModelStore(store_folder)
    data = json.loads((FOLDER / "store" / f"{recorded}.json").read_text())
    manifest = json.loads(data["manifest_text"])
    blobs = {digest: text.encode() for digest, text in data["small_blobs"].items()}
    file = variant_gguf(tag)
    model = Layer(f"sha256:{file.name.removeprefix('sha256-')}", file.stat().st_size, _MODEL)
    store.prepare()
    target = store.blob_path(model.digest)
    if not target.exists():
        target.hardlink_to(file) if target.parent.stat().st_dev == file.stat().st_dev else store.add_blob(file)
    layers = [
        Layer(model.digest, model.size, _MODEL, layer.get("from", ""))
        if layer["mediaType"] == _MODEL
        else Layer(
            store.add_blob(blobs[layer["digest"]]).digest, layer["size"], layer["mediaType"], layer.get("from", "")
        )
        for layer in manifest["layers"]
    ]
    config = blobs[manifest["config"]["digest"]]
    if tag != "fp16":
        config = config.replace(b'"F16"', json.dumps(tag.replace("q", "Q", 1)).encode())
    host, namespace, model_name, model_tag = recorded.split("__")
    wanted = name or f"{host}/{namespace}/{model_name}:{model_tag}"
    store.write_manifest(wanted, store.add_blob(config), layers)


__all__ = [
    "FP16", "ROOT", "Connection", "Reply", "RuntimeProcess", "command", "install_recorded", "is_gone", "runtime",
]  # fmt: skip
