"""Memory, reloads, the line, crashes and hanging, with real workers under a real supervisor."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.runtime_process import Connection, Reply, RuntimeProcess, runtime
from tests.served import wait_for
from tests.tiny_model import CONTEXT, HEADS, install, tiny

pytestmark = pytest.mark.model
MIB = 1 << 20
NAMES = ("a", "b", "c")


def filled(folder: Path) -> Path:
    """A store of three models of some 8 MB each, and another name of the first."""
    for index, name in enumerate(NAMES, 1):
        install(folder, name, tiny(index).bytes())
    install(folder, "again", tiny(1).bytes())
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """For runtimes of a test's own, one after another."""
    return filled(tmp_path_factory.mktemp("scheduling") / "store")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RuntimeProcess]:
    """One for the tests that change no setting; each leaves it with no model loaded."""
    folder = tmp_path_factory.mktemp("one")
    with runtime(filled(folder / "store"), folder / "log") as process:
        yield process


def body(model: str, **options: Any) -> dict[str, Any]:
    given = {"num_predict": 1, "num_ctx": 256, "temperature": 0} | options
    given = {name: value for name, value in given.items() if value is not None}
    return {"model": model, "prompt": "Hi", "raw": True, "stream": False, "options": given}


def ask(server: RuntimeProcess, model: str, **options: Any) -> Reply:
    return server.send("POST", "/api/generate", body(model, **options))


def loaded(server: RuntimeProcess) -> dict[str, dict[str, Any]]:
    return {row["name"].removesuffix(":latest"): row for row in server.send("GET", "/api/ps").json["models"]}


def endless(server: RuntimeProcess, model: str) -> tuple[Connection, HTTPResponse]:
    """An answer under way that does not end by itself for a while: weights of nothing make every token as likely."""
    at_random = {"num_predict": 100_000, "num_ctx": CONTEXT, "temperature": 1, "top_k": 0, "top_p": 1, "seed": 1}
    connection, answer = server.open("/api/generate", body(model, **at_random) | {"stream": True})
    answer.readline()
    return connection, answer


def two_workers(server: RuntimeProcess, **options: Any) -> tuple[psutil.Process, psutil.Process]:
    """Those of the models a and b, loaded."""
    assert ask(server, "b").status == 200
    second = server.one_worker()
    assert ask(server, "a", **options).status == 200
    return next(worker for worker in server.workers() if worker.pid != second.pid), second


# memory


def test_of_two_models_in_a_budget_that_holds_one_the_second_takes_the_place_of_the_first(store: Path, log: Path):
    with runtime(store, log, LOUPE_RUNTIME_MEMORY="120MiB") as server:
        for name in ("a", "b", "a"):
            assert ask(server, name).status == 200
            assert set(loaded(server)) == {name}
            assert len(server.workers()) == 1


def test_models_that_fit_together_stay_together(store: Path, log: Path):
    with runtime(store, log, LOUPE_RUNTIME_MEMORY="300MiB") as server:
        for name in NAMES:
            assert ask(server, name).status == 200
        assert set(loaded(server)) == set(NAMES)


def test_a_model_that_cannot_fit_is_refused_with_what_to_do_and_the_others_stay(store: Path, log: Path):
    with runtime(store, log, LOUPE_RUNTIME_MEMORY="30MiB", OLLAMA_NUM_PARALLEL="16") as server:
        assert ask(server, "a").status == 200
        refused = ask(server, "c", num_ctx=CONTEXT * 4)
        assert refused.status == 500
        assert refused.json["error"].startswith("model requires more system memory (")
        assert "raise LOUPE_RUNTIME_MEMORY" in refused.json["error"]
        assert set(loaded(server)) == {"a"}


@pytest.mark.parametrize(
    "environment",
    [
        {"OLLAMA_NUM_PARALLEL": "4"},
        {"OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": "1"},
        {"OLLAMA_FLASH_ATTENTION": "0"},
    ],
    ids=["four slots", "a smaller cache", "without flash attention"],
)
def test_ps_reports_what_llama_cpp_says_it_took(store: Path, log: Path, environment: dict[str, str]):
    from app.models.gguf_file import read_gguf
    from app.models.memory_fit import facts_of_file, predict
    from app.runtime.model_store import ModelStore
    from app.wire.model_names import parse_reference

    slots, kv_type = int(environment.get("OLLAMA_NUM_PARALLEL", 1)), environment.get("OLLAMA_KV_CACHE_TYPE", "f16")
    manifest = ModelStore(store).manifest(parse_reference("c"))
    facts = facts_of_file(read_gguf(ModelStore(store).blob_path(manifest.layers[0].digest)))
    made = predict(facts, context=1024, slots=slots, batch=128, kv_type=kv_type)
    with runtime(store, log, **environment) as server:
        assert ask(server, "c", num_ctx=1024).status == 200
        row = loaded(server)["c"]
    assert row["context_length"] == 1024 and row["size_vram"] == 0
    assert made.total is not None
    scores = 4 * 128 * 1024 * HEADS if environment.get("OLLAMA_FLASH_ATTENTION") == "0" else 0
    assert -MIB // 4 < row["size"] - made.total < MIB // 4 + scores  # the log has two decimals


def test_a_cache_that_needs_flash_attention_says_what_to_set(store: Path, log: Path):
    with runtime(store, log, OLLAMA_KV_CACHE_TYPE="q4_0", OLLAMA_FLASH_ATTENTION="false") as server:
        refused = ask(server, "a")
        assert refused.status == 500
        assert "V cache" in refused.json["error"] and "OLLAMA_FLASH_ATTENTION=1" in refused.json["error"]


# reloads


@pytest.mark.parametrize(
    ("before", "after", "reloads"),
    [
        ({}, {"temperature": 1.0, "num_predict": 2}, False),
        ({"num_ctx": 512}, {"num_ctx": 1024}, True),
        ({"num_ctx": CONTEXT}, {"num_ctx": 9999}, False),
        ({}, {"num_batch": 64}, True),
        ({}, {"num_thread": 1}, True),
        ({}, {"num_gpu": -1}, False),
        ({}, {"use_mmap": False}, False),
        ({"use_mmap": True}, {}, True),
    ],
)
def test_the_worker_is_replaced_exactly_where_ollama_replaces_its_runner(
    server: RuntimeProcess, before: dict, after: dict, reloads: bool
):
    assert ask(server, "a", **before).status == 200
    pid = server.one_worker().pid
    assert ask(server, "a", **after).status == 200
    assert (server.one_worker().pid != pid) is reloads
    server.send("POST", "/api/generate", {"model": "a", "keep_alive": 0})


def test_two_names_of_one_file_share_a_worker(server: RuntimeProcess):
    assert ask(server, "a").status == ask(server, "again").status == 200
    assert len(server.workers()) == 1
    server.send("POST", "/api/generate", {"model": "again", "keep_alive": 0})
    assert loaded(server) == {}


def test_a_reload_waits_for_an_answer_under_way(store: Path, log: Path):
    with runtime(store, log, OLLAMA_NUM_PARALLEL="2") as server:
        connection, _ = endless(server, "a")
        worker = server.one_worker()
        waiting = server.start("/api/generate", body("a", num_ctx=512))
        assert ask(server, "a", num_ctx=CONTEXT).status == 200  # of the old kind: served meanwhile
        assert server.one_worker().pid == worker.pid
        connection.close()
        assert json.loads(waiting.getresponse().read())["done"] is True
        assert loaded(server)["a"]["context_length"] == 512


# keep_alive


@pytest.mark.parametrize(("keep_alive", "stays"), [("0s", False), (0, False), ("-1m", True), (-1, True), ("1h", True)])
def test_keep_alive_in_every_spelling(server: RuntimeProcess, keep_alive: Any, stays: bool):
    assert server.send("POST", "/api/generate", body("a") | {"keep_alive": keep_alive}).status == 200
    wait_for("the model to be where it should be", lambda: ("a" in loaded(server)) is stays)
    server.send("POST", "/api/generate", {"model": "a", "keep_alive": 0})


# crashes and hanging


def test_a_model_whose_worker_dies_three_times_is_stopped_with_a_clear_word_and_unloading_it_helps(
    store: Path, log: Path
):
    with runtime(store, log) as server:
        for _ in range(3):
            doomed, sound = two_workers(server)
            doomed.kill()
            wait_for("the dead worker to be noticed", lambda: "a" not in loaded(server))
        stopped = wait_for("the crash to be counted", lambda: (r := ask(server, "a")).status == 503 and r)
        assert "crashed 3 times within 5 minutes (signal: SIGKILL)" in stopped.json["error"]
        assert 0 < int(stopped.headers["retry-after"]) <= 300
        assert ask(server, "b").status == 200 and server.one_worker().pid == sound.pid
        assert server.send("POST", "/api/generate", {"model": "a", "keep_alive": 0}).json["done_reason"] == "unload"
        assert ask(server, "a").status == 200


def test_a_worker_that_hangs_under_a_request_is_ended_with_one_error_and_the_next_request_works(store: Path, log: Path):
    with runtime(store, log, LOUPE_RUNTIME_HANG_SECONDS="1") as server:
        worker, _ = two_workers(server, num_ctx=CONTEXT)
        _, answer = endless(server, "a")
        os.kill(worker.pid, signal.SIGSTOP)
        lines = [json.loads(line) for line in answer.read().splitlines()]
        errors = [line["error"] for line in lines if "error" in line]
        assert len(errors) == 1 and "did not answer for" in errors[0]
        assert set(loaded(server)) == {"b"}
        assert ask(server, "a").status == 200


def test_a_worker_that_takes_more_memory_than_it_may_ends_with_one_error_and_the_others_go_on(store: Path, log: Path):
    with runtime(store, log) as server:
        worker, _ = two_workers(server)
        given, hard = worker.rlimit(psutil.RLIMIT_AS)
        assert 0 < given < 8 << 30
        worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + MIB, hard))
        failed = server.send("POST", "/api/generate", body("a") | {"prompt": "word " * 200_000})
        assert failed.status == 500
        assert "ran out of memory" in failed.json["error"] and "num_ctx" in failed.json["error"]
        assert ask(server, "b").status == 200
        assert ask(server, "a").status == 200
        assert not psutil.pid_exists(worker.pid)


def test_a_load_that_says_nothing_for_long_is_given_up(store: Path, log: Path):
    with runtime(store, log, OLLAMA_LOAD_TIMEOUT="2") as server:
        waiting = server.start("/api/generate", body("a"))
        os.kill(server.one_worker().pid, signal.SIGSTOP)
        answer = waiting.getresponse()
        error = json.loads(answer.read())["error"]
        assert answer.status == 500
        assert error.startswith("timed out waiting for llama-server to start - ")
        assert "OLLAMA_LOAD_TIMEOUT" in error
        assert server.workers() == []
        assert ask(server, "a").status == 200
