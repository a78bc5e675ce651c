"""The recorded session of a real Ollama, played against our runtime as a process: every case of the index.

The cases that are not played are in `NEXT`, each with its reason. The order is that of the session; states of the
store that the session reached by create are put there as the recorded manifests say.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import golden_compare
from tests.recordings import names, recording
from tests.runtime_process import FP16, Reply, RuntimeProcess, install_recorded, runtime
from tests.served import wait_for
from tests.starter_cache import variant_gguf

pytestmark = [pytest.mark.model, pytest.mark.xdist_group("golden")]

_DIALECT = "the OpenAI and Anthropic dialects come next"
_CREATE = "played by test_runtime_golden_create, on a store of its own"
_PUSH = "played by test_push"
_PULL = "played by the pull tests, with a registry of their own"
NEXT = {
    **{name: _DIALECT for name in names("v1_*")},
    **{name: _CREATE for name in names("create_*")},
    **{name: _PULL for name in names("pull_*")},
    "blob_create": _CREATE, "blob_again": _CREATE, "blob_wrong_digest": _CREATE,
    "missing_create": "needs a machine without a name server", "missing_push": _PUSH, "bad_name_push": _PUSH,
    "missing_pull": "needs a machine without a name server",
    "show_pulled": _PULL, "tags_after_pull": _PULL,
    "wrong_type_create": "", "wrong_type_push": "",
}  # fmt: skip
for _built in ("wrong_type_create", "wrong_type_push"):  # decoding is built, whatever follows it
    del NEXT[_built]

EMPTY_STORE = [
    "root_get", "root_head", "version", "version_head", "status", "tags_empty", "ps_empty", "unknown_path",
    "wrong_method", "wrong_method_delete", "host_evil", "origin_evil", "origin_local", "preflight",
    *names("empty_body_*"), *names("malformed_*"), *names("wrong_type_*"), *names("no_model_*"),
    *(name for name in names("bad_name_*") if name not in NEXT),
    *(name for name in names("missing_*") if name not in NEXT),
    "blob_head_missing", "blob_bad_digest",
]  # fmt: skip
SESSION = [
    "blob_head", "copy", "tags", "show", "show_verbose", "show_name_key", "show_derived", "show_q4_K_M",
    "generate_load", "ps", "generate_stream", "generate_plain", "generate_raw", "generate_length",
    "generate_logprobs", "generate_logprobs_plain", "generate_const", "generate_json", "generate_bad_format",
    "generate_bad_schema", "generate_bad_option", "generate_unknown_option", "generate_bad_keep_alive",
    "generate_bad_image", "generate_images", "generate_suffix", "generate_think", "generate_think_bad",
    "generate_top_logprobs_21", "generate_top_logprobs_negative", "generate_render", "generate_long_truncate",
    "generate_long_no_truncate", "generate_past_context_no_shift", "generate_same_prompt_again",
    "generate_same_prompt_third", "chat_load", "chat_stream", "chat_plain", "chat_system", "chat_multi_turn",
    "chat_logprobs", "chat_content_parts", "chat_images", "chat_tools", "chat_think", "chat_render", "chat_derived",
    "embed", "embed_list", "embed_dimensions", "embed_bad_type", "embed_empty", "embeddings", "ps_before_unload",
    "generate_unload", "ps_after_unload", "chat_unload_not_loaded", "chat_q4_K_M", "ps_forever", "delete",
    "delete_again", "delete_loaded", "tags_after", "delete_q8_0",
]  # fmt: skip
BUSY = ["generate_after_client_left", "busy_warm", "busy_queue_full"]


def test_every_case_of_the_index_is_played_or_has_a_reason():
    played = [*EMPTY_STORE, *SESSION, *BUSY]
    assert len(played) == len(set(played))
    assert sorted([*played, *NEXT]) == names()
    assert all(NEXT.values())


def play(server: RuntimeProcess, case: str) -> Reply:
    asked = recording(case).request
    path = asked.path
    if case == "blob_head":  # the session's upload; here our own file is asked for, which has another digest
        path = f"/api/blobs/{variant_gguf('fp16').name.replace('-', ':')}"
    return server.send(asked.method, path, asked.content, asked.headers)


Replies = dict[str, Reply]


@pytest.fixture(scope="module")
def before_any_model(tmp_path_factory: pytest.TempPathFactory) -> Replies:
    folder = tmp_path_factory.mktemp("empty")
    with runtime(folder / "store", folder / "log") as server:
        return {case: play(server, case) for case in EMPTY_STORE}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Replies:
    folder = tmp_path_factory.mktemp("session")
    recorded_store(folder / "store")
    with runtime(folder / "store", folder / "log") as server:
        replies = {}
        for case in SESSION:
            for step in BEFORE.get(case, ()):
                step(server)
            replies[case] = play(server, case)
        return replies


def recorded_store(store: Path) -> None:
    """What the session had created before it began to look: seven models but for the alias, which is copied."""
    library = "registry.ollama.ai__library__"
    install_recorded(store, f"{library}smollm2__135m-instruct-fp16")
    for tag in ("q8_0", "q4_K_M"):
        install_recorded(store, f"{library}smollm2__135m-instruct-fp16", tag=tag, name=f"smollm2:135m-instruct-{tag}")
    for name in ("pirate", "pirate2", "x"):
        install_recorded(store, f"{library}{name}__latest")


def load_for_ever(server: RuntimeProcess) -> None:
    """The session's `keep_alive: -1`, whose answer was not kept."""
    model = "smollm2:135m-instruct-q4_K_M"
    reply = server.send("POST", "/api/generate", {"model": model, "keep_alive": -1, "options": {"num_ctx": 512}})
    assert reply.json["done_reason"] == "load"


def only_the_recorded_model(server: RuntimeProcess) -> None:
    """Unloads what earlier cases left: in the session its time had run out."""
    for row in server.send("GET", "/api/ps").json["models"]:
        if row["name"] != FP16:
            server.send("POST", "/api/generate", {"model": row["name"], "keep_alive": 0})


BEFORE: dict[str, tuple[Callable[[RuntimeProcess], object], ...]] = {
    "ps_before_unload": (only_the_recorded_model,),
    "ps_forever": (load_for_ever,),
}


@pytest.mark.parametrize("case", EMPTY_STORE)
def test_before_any_model_the_answer_is_ollamas(before_any_model: Replies, case: str):
    golden_compare.check(recording(case), before_any_model[case])


@pytest.mark.parametrize("case", SESSION)
def test_in_the_session_the_answer_is_ollamas(session: Replies, case: str):
    golden_compare.check(recording(case), session[case])


def test_a_full_queue_is_refused_in_ollamas_words_and_an_abandoned_answer_frees_its_slot(tmp_path: Path):
    install_recorded(tmp_path / "store", "registry.ollama.ai__library__smollm2__135m-instruct-fp16")
    limits = {"OLLAMA_NUM_PARALLEL": "1", "OLLAMA_MAX_QUEUE": "1"}
    with runtime(tmp_path / "store", tmp_path / "log", **limits) as server:
        endless = {
            "model": FP16,
            "prompt": "Tell a story.",
            "options": {"num_ctx": 512, "num_predict": 4000, "seed": 1},
        }
        connection, answer = server.open("/api/generate", endless)
        answer.readline()
        connection.close()
        golden_compare.check(recording("generate_after_client_left"), play(server, "generate_after_client_left"))
        golden_compare.check(recording("busy_warm"), play(server, "busy_warm"))
        holding, answer = server.open("/api/generate", endless)
        answer.readline()
        waiting = [
            server.start("/api/generate", {"model": FP16, "prompt": "Hi", "options": {"num_ctx": 1024}})
            for _ in range(6)
        ]
        refused = wait_for("the queue to be full", lambda: _refused(play(server, "busy_queue_full")))
        golden_compare.check(recording("busy_queue_full"), refused)
        for left in (holding, *waiting):
            left.close()


def _refused(reply: Reply) -> Reply | None:
    return reply if reply.status != 200 else None
