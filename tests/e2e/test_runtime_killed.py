"""kill -9, again and again, of the runtime's supervisor under load and of its workers.

`RUNTIME_KILL_TRIALS` says how often (docs/development.md gives the command for fifty).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.runtime.model_store import ModelStore
from app.runtime.store_sweep import GRACE, sweep
from tests.runtime_process import RuntimeProcess, is_gone, runtime
from tests.served import wait_for
from tests.starter_cache import linked_store

TRIALS = int(os.environ.get("RUNTIME_KILL_TRIALS", "2"))
pytestmark = [pytest.mark.model, pytest.mark.timeout(120 + 30 * TRIALS)]

Q4, Q2 = "smollm2:135m-instruct-q4_0", "smollm2:135m-instruct-q2_K"
SHORT: dict[str, Any] = {"model": Q4, "prompt": "Hi", "stream": False, "options": {"num_predict": 1, "num_ctx": 512}}
COUNTING = {"prompt": "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", "raw": True}
ENDLESS = {**SHORT, **COUNTING, "stream": True, "options": {"num_predict": 4000, "temperature": 0, "num_ctx": 512}}
GONE_SECONDS = 3.0


class Load:
    """Clients of a supervisor that is going to die: two models answer, one client waits, one creates models."""

    def __init__(self, server: RuntimeProcess) -> None:
        self._server = server
        self._answers = [server.open("/api/generate", {**ENDLESS, "model": model})[1] for model in (Q4, Q2)]
        server.start("/api/generate", ENDLESS)
        self._creating = threading.Thread(target=self._create)
        self._creating.start()

    def read(self, lines: int) -> None:
        """So far into the answers."""
        for _ in range(lines):
            for answer in self._answers:
                answer.readline()

    def _create(self) -> None:
        number = 0
        try:
            while True:
                number += 1
                made = {"model": f"made-{number % 3}", "from": Q4, "system": f"system {number}", "stream": False}
                self._server.send("POST", "/api/create", made)
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            pass  # the supervisor is gone: before its answer, within its head, its body or its JSON

    def end(self) -> None:
        self._creating.join(20)
        assert not self._creating.is_alive()


def check_store(folder: Path, *, contents: bool = False) -> None:
    """Every model that is listed is whole: all its blobs are there, of the size (and the bytes) that it names."""
    store = ModelStore(folder)
    manifests = store.all()
    assert {Q4, Q2} <= {manifest.name.shortest for manifest in manifests}
    for layer in {layer for manifest in manifests for layer in manifest.everything}:
        path = store.blob_path(layer.digest)
        assert path.stat().st_size == layer.size
        if contents:
            assert f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" == layer.digest


def test_kill_9_of_the_supervisor_under_load_leaves_no_process_and_a_whole_store(tmp_path: Path) -> None:
    store, rng = linked_store(tmp_path / "store", ("q4_0", "q2_K")), random.Random(8)
    for trial in range(TRIALS):
        with runtime(store, tmp_path / "log", OLLAMA_NUM_PARALLEL="1", OLLAMA_MAX_LOADED_MODELS="2") as server:
            assert server.send("POST", "/api/generate", SHORT).json["done"] is True, f"trial {trial}"
            load = Load(server)
            load.read(rng.randrange(0, 30))  # at any moment of loading, prefill, decode and create
            family = [server.pid, *(child.pid for child in psutil.Process(server.pid).children(recursive=True))]
            server.process.kill()
            wait_for("every process to be gone", lambda family=family: all(map(is_gone, family)), GONE_SECONDS, 0.01)
            load.end()
        check_store(store)
    with runtime(store, tmp_path / "log") as server:
        assert server.send("POST", "/api/generate", SHORT).json["done"] is True
        check_store(store, contents=True)
    sweep(ModelStore(store), now=time.time() + GRACE + 60)  # as a start does, for what is older than an hour
    named = {layer.digest.replace(":", "-") for made in ModelStore(store).all() for layer in made.everything}
    assert {path.name for path in (store / "blobs").iterdir()} == named


def test_kill_9_of_a_worker_gives_one_error_and_the_next_request_is_answered(tmp_path: Path) -> None:
    store, rng = linked_store(tmp_path / "store", ("q4_0",)), random.Random(9)
    with runtime(store, tmp_path / "log", OLLAMA_NUM_PARALLEL="1", LOUPE_RUNTIME_CRASHES="0") as server:
        killed: set[int] = set()
        open_before = 0
        for trial in range(TRIALS):
            assert server.send("POST", "/api/generate", SHORT).json["done"] is True, f"trial {trial}"
            open_before = open_before or psutil.Process(server.pid).num_fds()
            connection, answer = server.open("/api/generate", ENDLESS)
            lines = [answer.readline() for _ in range(rng.randrange(0, 20))]
            worker = server.one_worker()
            worker.kill()
            killed.add(worker.pid)
            rest = answer.read().splitlines()
            errors = [line for line in (*lines, *rest) if b'"error"' in line]
            assert len(errors) == 1 and rest[-1] == errors[0]
            connection.close()
        assert server.send("POST", "/api/generate", SHORT).json["done"] is True
        assert len(killed) == TRIALS
        wait_for("one worker alone to be left", lambda: len(psutil.Process(server.pid).children()) == 1)
        assert all(map(is_gone, killed))
        assert psutil.Process(server.pid).num_fds() <= open_before + 2
