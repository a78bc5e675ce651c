"""The embedded runtime under faults: parents and workers that die, clients that leave, files that are damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.runtime_process import FP16, ROOT, RuntimeProcess, command, is_gone, runtime
from tests.served import wait_for
from tests.starter_cache import linked_store, variant_gguf

pytestmark = pytest.mark.model

Q4 = "smollm2:135m-instruct-q4_0"
# Greedy and raw, this model goes on counting and never ends by itself.
COUNTING = {"model": Q4, "prompt": "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", "raw": True}
ENDLESS = {**COUNTING, "options": {"num_predict": 4000, "temperature": 0, "num_ctx": 512}}
SHORT = {"model": Q4, "prompt": "Hi", "stream": False, "options": {"num_predict": 1, "num_ctx": 512}}
GONE_SECONDS = 3.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return linked_store(tmp_path / "store", ("q4_0",))


@pytest.fixture
def server(store: Path, tmp_path: Path) -> Iterator[RuntimeProcess]:
    with runtime(store, tmp_path / "log", OLLAMA_NUM_PARALLEL="1") as process:
        yield process


def loading_worker(server: RuntimeProcess, path: Path) -> psutil.Process:
    """A worker that has begun to read its model, stopped there: a load that takes for ever."""
    server_request = server.start("/api/generate", {**SHORT})
    worker = server.one_worker()
    name = path.name

    def reading() -> bool:
        return any(Path(file.path).name == name for file in worker.open_files())

    wait_for("the worker to open its model", reading, every=0.002)
    worker.send_signal(signal.SIGSTOP)
    worker.server_request = server_request  # type: ignore[attr-defined] # the connection stays open with it
    return worker


def model_blob(store: Path) -> Path:
    return next(path for path in (store / "blobs").iterdir() if path.stat().st_size > 1 << 20)


def all_gone(pids: list[int]) -> Callable[[], bool]:
    return lambda: all(is_gone(pid) for pid in pids)


@pytest.mark.parametrize("phase", ["answering", "loading"])
@pytest.mark.parametrize("end", ["kill", "pipe"])
def test_nothing_lives_on_when_the_parent_of_the_runtime_or_the_runtime_is_gone(
    store: Path, tmp_path: Path, phase: str, end: str
):
    with runtime(store, tmp_path / "log", LOUPE_PARENT_PIPE="1") as server:
        if phase == "answering":
            _, answer = server.open("/api/generate", ENDLESS)
            answer.readline()
            worker = server.one_worker()
        else:
            worker = loading_worker(server, model_blob(store))
        began = time.monotonic()
        if end == "kill":
            server.process.kill()
        else:
            assert server.process.stdin is not None
            server.process.stdin.close()
        wait_for("supervisor and worker to be gone", all_gone([server.pid, worker.pid]), GONE_SECONDS, 0.01)
        assert time.monotonic() - began < GONE_SECONDS


def test_a_worker_killed_in_mid_answer_gives_one_error_and_the_next_request_works(server: RuntimeProcess):
    _, answer = server.open("/api/generate", ENDLESS)
    lines = [json.loads(answer.readline()) for _ in range(3)]
    server.one_worker().kill()
    lines += [json.loads(line) for line in answer.read().splitlines()]
    errors = [line["error"] for line in lines if "error" in line]
    assert len(errors) == 1
    assert "error was encountered while running the model" in errors[0]
    assert "error" in lines[-1]
    assert server.send("POST", "/api/generate", SHORT).json["done"] is True


def test_a_worker_killed_under_a_whole_answer_gives_a_500(server: RuntimeProcess):
    server.send("POST", "/api/generate", SHORT)
    connection = server.start("/api/generate", {**ENDLESS, "stream": False})
    worker = server.one_worker()
    wait_for("the answer to be under way", lambda: worker.cpu_percent(0.05) > 30)
    worker.kill()
    answer = connection.getresponse()
    assert answer.status == 500
    assert list(json.loads(answer.read())) == ["error"]
    assert server.send("POST", "/api/generate", SHORT).status == 200


def test_a_damaged_model_says_what_is_wrong_and_the_others_go_on(store: Path, tmp_path: Path):
    damage(store, "cut", variant_gguf("q2_K").read_bytes()[: 20 << 20])
    with runtime(store, tmp_path / "log") as server:
        reply = server.send("POST", "/api/generate", {**SHORT, "model": "cut"})
        assert reply.status == 500
        assert reply.json["error"].startswith("llama-server process has terminated: ")
        assert "not within the file bounds" in reply.json["error"]
        assert {row["name"] for row in server.send("GET", "/api/tags").json["models"]} == {"cut:latest", Q4}
        assert server.send("POST", "/api/generate", SHORT).status == 200


def test_a_model_file_that_aborts_llama_cpp_is_one_error(store: Path, tmp_path: Path):
    content = bytearray(variant_gguf("q2_K").read_bytes())
    at = content.index(b"llama.block_count") + len(b"llama.block_count") + 4
    content[at : at + 4] = (0).to_bytes(4, "little")
    damage(store, "aborts", bytes(content))
    with runtime(store, tmp_path / "log") as server:
        reply = server.send("POST", "/api/generate", {**SHORT, "model": "aborts"})
        assert (reply.status, "GGML_ASSERT" in reply.json["error"]) == (500, True)
        assert server.send("POST", "/api/generate", SHORT).status == 200


def damage(store: Path, name: str, content: bytes) -> None:
    from app.runtime.manifests import MODEL
    from app.runtime.model_store import ModelStore

    target = ModelStore(store)
    config = target.add_blob(b'{"model_format":"gguf","model_family":"llama"}')
    target.write_manifest(name, config, [target.add_blob(content, media_type=MODEL)])


def finished(store: Path, *more: str, **environment: str) -> tuple[int, str]:
    """Exit status and standard error of a runtime that should not start."""
    ended = subprocess.run(
        [*command(store), *more], cwd=ROOT, env=os.environ | environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


def test_a_taken_port_is_one_clear_line(server: RuntimeProcess, tmp_path: Path):
    status, said = finished(tmp_path / "other", "--port", str(server.port))
    assert status != 0
    assert said.splitlines() == [f"port {server.port} on 127.0.0.1 cannot be used: Address already in use"]


def test_a_second_runtime_on_one_store_is_refused_with_the_pid_of_the_first(server: RuntimeProcess, store: Path):
    status, said = finished(store)
    assert status != 0
    assert said.splitlines() == [f"the model store {store} is in use by another runtime (pid {server.pid})"]


def test_a_store_that_cannot_be_made_is_one_clear_line(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    status, said = finished(tmp_path / "file" / "store")
    assert status != 0
    assert said.startswith(f"the model store {tmp_path / 'file' / 'store'} cannot be used") and said.count("\n") == 1


def test_a_bad_setting_is_named_with_what_is_allowed(tmp_path: Path):
    status, said = finished(tmp_path, LOUPE_RUNTIME_MEMORY="lots", OLLAMA_KV_CACHE_TYPE="q9")
    assert status != 0
    assert len(said.splitlines()) == 2
    assert "LOUPE_RUNTIME_MEMORY='lots'" in said and "OLLAMA_KV_CACHE_TYPE='q9'" in said


def test_sigterm_lets_a_running_answer_end_and_exits_with_0(server: RuntimeProcess):
    _, answer = server.open(
        "/api/generate", {**ENDLESS, "options": {"num_predict": 40, "temperature": 0, "num_ctx": 512}}
    )
    answer.readline()
    server.process.terminate()
    last = json.loads(answer.read().splitlines()[-1])
    assert last["done"] is True
    assert server.process.wait(20) == 0
    wait_for("the workers to be gone", lambda: not server.workers())


LONG_PROMPT = " ".join(f"word{number}" for number in range(700))
LEFT_BEHIND: dict[str, dict[str, Any]] = {
    "streamed": ENDLESS,
    "whole": {**ENDLESS, "stream": False},
    "prefill": {**ENDLESS, "prompt": LONG_PROMPT, "options": {"num_ctx": 4096, "num_predict": 1}},
}


@pytest.mark.parametrize("kind", LEFT_BEHIND)
def test_a_client_that_leaves_frees_its_slot(server: RuntimeProcess, kind: str):
    num_ctx = LEFT_BEHIND[kind]["options"]["num_ctx"]
    short = {**SHORT, "options": {"num_predict": 1, "num_ctx": num_ctx}}
    server.send("POST", "/api/generate", short)
    worker = server.one_worker()
    connection = server.start("/api/generate", LEFT_BEHIND[kind])
    wait_for("the answer to be under way", lambda: worker.cpu_percent(0.05) > 30)
    connection.close()
    wait_for("the worker to be idle again", lambda: worker.cpu_percent(0.1) < 10, 5)
    assert server.send("POST", "/api/generate", short).status == 200
    assert server.one_worker().pid == worker.pid


def test_a_client_that_leaves_while_its_model_loads_ends_the_load(server: RuntimeProcess, store: Path):
    worker = loading_worker(server, model_blob(store))
    worker.server_request.close()  # type: ignore[attr-defined]
    wait_for("the worker to be gone", lambda: is_gone(worker.pid), 5)
    assert server.send("POST", "/api/generate", SHORT).status == 200


def test_a_client_that_leaves_the_line_does_not_end_the_load_of_the_other(server: RuntimeProcess, store: Path):
    worker = loading_worker(server, model_blob(store))
    second = server.start("/api/generate", SHORT)
    worker.server_request.close()  # type: ignore[attr-defined]
    wait_for("the supervisor to notice", lambda: server.send("GET", "/api/version").status == 200)
    worker.send_signal(signal.SIGCONT)
    assert second.getresponse().status == 200
    assert server.one_worker().pid == worker.pid


def test_with_a_key_only_the_greeting_is_free(store: Path, tmp_path: Path):
    with runtime(store, tmp_path / "log", LOUPE_RUNTIME_KEY="secret") as server:
        assert server.send("GET", "/").status == 200
        assert server.send("GET", "/api/tags").status == 401
        assert server.send("GET", "/api/tags", headers={"Authorization": "Bearer wrong"}).status == 401
        assert server.send("GET", "/api/tags", headers={"Authorization": "Bearer secret"}).status == 200


def test_a_model_goes_when_its_time_is_over_and_stays_while_it_answers(server: RuntimeProcess):
    server.send("POST", "/api/generate", {**SHORT, "keep_alive": "300ms"})
    assert [row["name"] for row in server.send("GET", "/api/ps").json["models"]] == [Q4]
    wait_for("the model to go", lambda: not server.send("GET", "/api/ps").json["models"], 10)
    assert wait_for("its worker to go", lambda: not server.workers())


def test_another_context_length_needs_another_worker_and_the_same_one_does_not(server: RuntimeProcess):
    server.send("POST", "/api/generate", SHORT)
    first = server.one_worker().pid
    server.send("POST", "/api/generate", SHORT)
    assert server.one_worker().pid == first
    server.send("POST", "/api/generate", {**SHORT, "options": {"num_predict": 1, "num_ctx": 1024}})
    assert [worker.pid for worker in server.workers()] != [first]
    assert server.send("GET", "/api/ps").json["models"][0]["context_length"] == 1024


def test_the_idle_model_used_longest_ago_makes_room_and_one_in_use_never_does(tmp_path: Path):
    store = linked_store(tmp_path / "store", ("q4_0", "q2_K", "q3_K_M"))
    q2, q3 = (f"smollm2:135m-instruct-{tag}" for tag in ("q2_K", "q3_K_M"))
    with runtime(store, tmp_path / "log", OLLAMA_MAX_LOADED_MODELS="2") as server:
        connection, answer = server.open("/api/generate", ENDLESS)
        answer.readline()
        for model in (q2, q3):
            assert server.send("POST", "/api/generate", {**SHORT, "model": model}).status == 200
        assert {row["name"] for row in server.send("GET", "/api/ps").json["models"]} == {Q4, q3}
        assert json.loads(answer.readline())["done"] is False
        connection.close()


def test_four_slots_answer_side_by_side_with_the_text_of_one_alone(store: Path, tmp_path: Path):
    asked = {
        **SHORT,
        "prompt": "Name the capital of France.",
        "options": {"temperature": 0, "num_predict": 12, "num_ctx": 512},
    }
    with runtime(store, tmp_path / "log", OLLAMA_NUM_PARALLEL="4") as server:
        alone = server.send("POST", "/api/generate", asked).json["response"]
        waiting = [server.start("/api/generate", asked) for _ in range(4)]
        assert [json.loads(each.getresponse().read())["response"] for each in waiting] == [alone] * 4


def test_requests_that_are_hostile_get_one_clear_answer_and_the_runtime_lives(server: RuntimeProcess):
    deep = b'{"model":"x","options":' + b"[" * 5000 + b"]" * 5000 + b"}"
    assert server.send("POST", "/api/generate", deep).status == 400
    bomb: dict[str, Any] = {}
    for _ in range(60):
        bomb = {"type": "object", "properties": {"a": bomb}}
    refused = server.send("POST", "/api/generate", {**SHORT, "format": bomb})
    assert (refused.status, "nested too deeply" in refused.json["error"]) == (400, True)
    odd = {
        "num_predict": 10**30,
        "top_k": -5,
        "seed": -9,
        "num_thread": 10**9,
        "num_ctx": 512,
        "num_batch": -1,
        "stop": [],
    }
    reply = server.send("POST", "/api/generate", {**SHORT, "options": {**odd, "num_predict": 1}})
    assert reply.status == 200
    assert server.send("POST", "/api/generate", {**SHORT, "model": FP16}).status == 404
