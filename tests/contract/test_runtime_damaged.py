"""Damaged model files in the store, against real workers: one clear error each, the other models go on, nothing stays.

What /api/create refuses never gets this far (test_create_damaged); this is what a failing disk, another program or an
Ollama's own store may hold. Some of these files make llama.cpp abort its process.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.gguf_samples import ARRAY, F32, STRING, U32, Sample, Tensor, string
from tests.runtime_process import RuntimeProcess, runtime
from tests.served import wait_for
from tests.tiny_model import WIDTH, install, tiny

pytestmark = pytest.mark.model
GOOD = "good"


def ask(server: RuntimeProcess, model: str):
    options = {"num_predict": 1, "num_ctx": 256, "temperature": 0}
    return server.send(
        "POST", "/api/generate", {"model": model, "prompt": "Hi", "raw": True, "stream": False, "options": options}
    )


def entry(key: str, kind: int, value: object) -> Callable[[], bytes]:
    """The sound file with another value for `key`, or with one more entry."""

    def made() -> bytes:
        sample = tiny()
        kept = [(name, of, old) for name, of, old in sample.entries if name != key]
        return Sample([*kept, (key, kind, value)], sample.tensors, raw=sample.raw).bytes()

    return made


def without(key: str) -> Callable[[], bytes]:
    def made() -> bytes:
        sample = tiny()
        kept = [one for one in sample.entries if one[0] != key]
        return Sample(kept, sample.tensors, raw=sample.raw).bytes()

    return made


def tensors(change: Callable[[list[Tensor]], list[Tensor]]) -> Callable[[], bytes]:
    def made() -> bytes:
        sample = tiny()
        return Sample(sample.entries, change(sample.tensors), raw=sample.raw).bytes()

    return made


def patched(offset: int, value: bytes) -> Callable[[], bytes]:
    def made() -> bytes:
        whole = tiny().bytes()
        return whole[:offset] + value + whole[offset + len(value) :]

    return made


def cut(share: Callable[[int, int], int]) -> Callable[[], bytes]:
    """The first so many bytes, of those of the header and of the whole."""

    def made() -> bytes:
        sample = tiny()
        whole = sample.bytes()
        return whole[: share(len(sample.header()), len(whole))]

    return made


def at_tensor(field: int, value: bytes) -> Callable[[], bytes]:
    """The description of the token embedding with other bytes, `field` bytes behind its name."""

    def made() -> bytes:
        whole = tiny().bytes()
        start = whole.index(string("token_embd.weight")) + len(string("token_embd.weight")) + field
        return whole[:start] + value + whole[start + len(value) :]

    return made


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def _norm(value: float) -> Callable[[list[Tensor]], list[Tensor]]:
    return lambda found: [
        Tensor(one.name, one.type, one.shape, struct.pack("<f", value) * WIDTH)
        if one.name == "output_norm.weight"
        else one
        for one in found
    ]


REFUSED: dict[str, Callable[[], bytes]] = {
    "nothing at all": lambda: b"",
    "only the magic": lambda: b"GGUF",
    "another magic": patched(0, b"GGML"),
    "version 0": patched(4, struct.pack("<I", 0)),
    "version 99": patched(4, struct.pack("<I", 99)),
    "big endian": patched(4, struct.pack(">I", 3)),
    "cut in the metadata": cut(lambda header, _: header // 2),
    "cut in the tensor list": cut(lambda header, _: header - 20),
    "cut in the data": cut(lambda _, whole: whole - 5000),
    "more tensors than there are": patched(8, u64(1 << 40)),
    "endless metadata": patched(16, u64(1 << 60)),
    "a key without end": patched(24, u64(1 << 50)),
    "five dimensions": at_tensor(0, struct.pack("<I", 5)),
    "a huge row": at_tensor(4, u64(1 << 62)),
    "an unknown tensor type": at_tensor(20, struct.pack("<I", 1000)),
    "an offset outside": at_tensor(24, u64(1 << 50)),
    "alignment 0": entry("general.alignment", U32, 0),
    "no architecture": without("general.architecture"),
    "an unknown architecture": entry("general.architecture", STRING, "tomorrow"),
    "an architecture that is a number": entry("general.architecture", U32, 3),
    "no layers": entry("llama.block_count", U32, 0),
    "too many layers": entry("llama.block_count", U32, 99999),
    "one layer too many": entry("llama.block_count", U32, 2),
    "no width": entry("llama.embedding_length", U32, 0),
    "another width": entry("llama.embedding_length", U32, 2 * WIDTH),
    "no heads": entry("llama.attention.head_count", U32, 0),
    "three heads": entry("llama.attention.head_count", U32, 3),
    "more KV heads than heads": entry("llama.attention.head_count_kv", U32, 99999),
    "an odd rotation": entry("llama.rope.dimension_count", U32, 7),
    "no epsilon": without("llama.attention.layer_norm_rms_epsilon"),
    "an unknown tokenizer": lambda: tiny().bytes().replace(b"gpt2", b"gpt9", 1),
    "no tensors": tensors(lambda _: []),
    "a tensor missing": tensors(lambda found: found[:-1]),
    "a tensor twice": tensors(lambda found: [*found, found[-1]]),
    "a norm of another size": tensors(
        lambda found: [
            Tensor(one.name, "F32", (WIDTH // 2,), bytes(2 * WIDTH)) if one.name == "output_norm.weight" else one
            for one in found
        ]
    ),
}
# Wrong in ways that do not matter to llama.cpp, or that it finds out only when it computes: it may refuse
# or answer, but the runtime lives.
BORNE: dict[str, Callable[[], bytes]] = {
    "no context": entry("llama.context_length", U32, 0),
    "no KV heads": entry("llama.attention.head_count_kv", U32, 0),
    "weights that are not numbers": tensors(_norm(float("nan"))),
    "infinite weights": tensors(_norm(float("inf"))),
    "an epsilon that is not a number": entry("llama.attention.layer_norm_rms_epsilon", F32, float("nan")),
    "a token that does not exist": entry("tokenizer.ggml.cls_token_id", U32, 10**9),
    "another vocabulary's size": entry("llama.vocab_size", U32, 7),
    "a template that is none": entry("general.languages", ARRAY, (STRING, ["{% for %}"])),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RuntimeProcess]:
    """A runtime with one sound model, loaded, and every damaged one."""
    folder = tmp_path_factory.mktemp("damaged")
    install(folder / "store", GOOD, tiny().bytes())
    for index, made in enumerate([*REFUSED.values(), *BORNE.values()]):
        install(folder / "store", f"m{index}", made())
    with runtime(folder / "store", folder / "log", OLLAMA_KEEP_ALIVE="-1") as process:
        assert ask(process, GOOD).status == 200
        yield process


NAMES = {kind: f"m{index}" for index, kind in enumerate([*REFUSED, *BORNE])}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_damaged_model_is_one_clear_error_and_the_others_go_on(server: RuntimeProcess, kind: str):
    sound = loaded(server)[f"{GOOD}:latest"]
    reply = ask(server, NAMES[kind])
    assert reply.status == 500
    assert list(reply.json) == ["error"]
    error = reply.json["error"]
    assert error.startswith("llama-server process has terminated: ")
    assert not any(word in error for word in ("exit status", "signal:", "RuntimeError", "Traceback")), "no reason"
    assert "pull or create it again" in error or "a newer Loupe" in error
    assert "\n" not in error and len(error) < 600
    assert ask(server, GOOD).status == 200
    assert loaded(server) == {f"{GOOD}:latest": sound}


@pytest.mark.parametrize("kind", BORNE)
def test_a_model_that_is_odd_harms_nobody_else(server: RuntimeProcess, kind: str):
    reply = ask(server, NAMES[kind])
    assert reply.status in (200, 400, 500)
    assert ("error" in reply.json) is (reply.status != 200)
    server.send("POST", "/api/generate", {"model": NAMES[kind], "keep_alive": 0})
    assert ask(server, GOOD).status == 200
    assert set(loaded(server)) == {f"{GOOD}:latest"}


def test_the_list_of_models_and_their_details_bear_damaged_files(server: RuntimeProcess):
    listed = {row["name"] for row in server.send("GET", "/api/tags").json["models"]}
    assert f"{GOOD}:latest" in listed
    for name in NAMES.values():
        assert server.send("POST", "/api/show", {"model": name}).status in (200, 500)


def _lives(worker: psutil.Process) -> bool:
    try:
        return bool(worker.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def loaded(server: RuntimeProcess) -> dict[str, str]:
    """Name and digest of what is loaded; there is one worker process for each."""
    rows = server.send("GET", "/api/ps").json["models"]
    # One that was unloaded a moment ago may still be on its way out.
    wait_for("one worker for each", lambda: len(list(filter(_lives, server.workers()))) == len(rows))
    return {row["name"]: row["digest"] for row in rows}
