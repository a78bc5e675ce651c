"""The recorded session of a real Ollama as a script: every case of the index in order, and what happened in between
without being kept. It is played against whatever speaks the protocol: our runtime, and later whatever stands before it.

    with golden_registry() as registry:
        replies = play_session(target, registry)     a fresh target with an empty store
        replies |= play_busy(target)                 on that store, with OLLAMA_NUM_PARALLEL=1 and OLLAMA_MAX_QUEUE=1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.creating import uploaded_gguf
from tests.golden_registry import RECORDED_HOST, GoldenRegistry
from tests.http_target import HttpTarget, Reply
from tests.recordings import names, recording
from tests.served import wait_for

FP16, Q8_0, Q4_K_M = (f"smollm2:135m-instruct-{tag}" for tag in ("fp16", "q8_0", "q4_K_M"))

Outcome = Reply | Exception
Step = Callable[[HttpTarget, GoldenRegistry], object]

# Where the store lies, on the recording machine and here.
_PLACE = re.compile(rb"""(?:/[^\s"\\/]+)*/(?=blobs/sha256-|manifests/registry\.ollama\.ai)""")


def play(target: HttpTarget, registry: GoldenRegistry | None, case: str) -> Reply:
    """One case. Places that the reply names are called as in the recordings: <models>, and the registry's address."""
    asked = recording(case).request
    content = uploaded_gguf().read_bytes() if case in ("blob_create", "blob_again") else asked.content
    host = registry.host_for(case).encode() if registry is not None else RECORDED_HOST
    content = content.replace(RECORDED_HOST, host)
    reply = target.send(asked.method, asked.path, content, asked.headers)
    body = _PLACE.sub(b"<models>/", reply.body).replace(host, RECORDED_HOST)
    return replace(reply, body=body, sent=reply.body)


def _play_all(target: HttpTarget, registry: GoldenRegistry | None, steps: Sequence[str | Step]) -> dict[str, Outcome]:
    """Every case once. One that breaks is an outcome too, so that the others are still compared."""
    outcomes: dict[str, Outcome] = {}
    for step in steps:
        try:
            if isinstance(step, str):
                outcomes[step] = play(target, registry, step)
            else:
                assert registry is not None
                step(target, registry)
        except Exception as error:  # noqa: BLE001 - told by the test of the case
            if not isinstance(step, str):
                raise
            outcomes[step] = error
    return outcomes


# What the session did and did not keep


def _make_x(target: HttpTarget, _: GoldenRegistry) -> None:
    """A model with a parameter that is none; only what it left in the store was recorded."""
    made = target.send("POST", "/api/create", {"model": "x", "from": FP16, "parameters": {"nonsense": 3}})
    assert made.lines[-1] == {"status": "success"}, made.body


def _leave_only_fp16(target: HttpTarget, _: GoldenRegistry) -> None:
    """Unloads what earlier cases left: in the session its time had run out."""
    for row in target.send("GET", "/api/ps").json["models"]:
        if row["name"] != FP16:
            target.send("POST", "/api/generate", {"model": row["name"], "keep_alive": 0})


def _load_for_ever(target: HttpTarget, _: GoldenRegistry) -> None:
    reply = target.send("POST", "/api/generate", {"model": Q4_K_M, "keep_alive": -1, "options": {"num_ctx": 512}})
    assert reply.json["done_reason"] == "load"


def _deleting(model: str) -> Step:
    def step(target: HttpTarget, registry: GoldenRegistry) -> None:
        target.send("DELETE", "/api/delete", {"model": f"{registry.host}/library/{model}:q8_0"})

    return step


EMPTY_STORE: list[str | Step] = [
    "root_get", "root_head", "version", "version_head", "status", "tags_empty", "ps_empty", "v1_models_empty",
    "unknown_path", "wrong_method", "wrong_method_delete", "host_evil", "origin_evil", "origin_local", "preflight",
    *names("empty_body_*"), *names("malformed_*"), *names("wrong_type_*"), *names("no_model_*"), *names("bad_name_*"),
    *(name for name in names("missing_*") if name not in ("missing_pull", "missing_create")),
    "blob_head_missing", "blob_bad_digest",
]  # fmt: skip
CREATION: list[str | Step] = [
    "blob_create", "blob_again", "blob_head", "blob_wrong_digest", "create_from_gguf", "create_quantize_q8_0",
    "create_quantize_q4_K_M", "create_quantize_q3", "create_bad_quantize", "create_derived", "create_not_stream",
    "create_missing_blob", "create_no_source", "create_template_bad", _make_x, "copy",
]  # fmt: skip
INFERENCE: list[str | Step] = [
    "tags", "v1_models", "v1_model", "v1_model_missing", "show", "show_verbose", "show_name_key", "show_derived",
    "show_q4_K_M", "generate_load", "ps", "generate_stream", "generate_plain", "generate_raw", "generate_length",
    "generate_logprobs", "generate_logprobs_plain", "generate_const", "generate_json", "generate_bad_format",
    "generate_bad_schema", "generate_bad_option", "generate_unknown_option", "generate_bad_keep_alive",
    "generate_bad_image", "generate_images", "generate_suffix", "generate_think", "generate_think_bad",
    "generate_top_logprobs_21", "generate_top_logprobs_negative", "generate_render", "generate_long_truncate",
    "generate_long_no_truncate", "generate_past_context_no_shift", "generate_same_prompt_again",
    "generate_same_prompt_third", "chat_load", "chat_stream", "chat_plain", "chat_system", "chat_multi_turn",
    "chat_logprobs", "chat_content_parts", "chat_images", "chat_tools", "chat_think", "chat_render", "chat_derived",
    "embed", "embed_list", "embed_dimensions", "embed_bad_type", "embed_empty", "embeddings",
]  # fmt: skip
DIALECTS: list[str | Step] = [
    "v1_chat", "v1_chat_stream", "v1_chat_stream_usage", "v1_chat_json", "v1_chat_logprobs", "v1_chat_schema",
    "v1_chat_bad_temperature", "v1_chat_malformed", "v1_chat_missing", "v1_completions", "v1_completions_stream",
    "v1_embeddings", "v1_messages",
]  # fmt: skip
LEAVING: list[str | Step] = [
    _leave_only_fp16, "ps_before_unload", "generate_unload", "ps_after_unload", "chat_unload_not_loaded",
    "chat_q4_K_M", _load_for_ever, "ps_forever", "delete", "delete_again", "delete_loaded", "tags_after",
    "delete_q8_0",
]  # fmt: skip
PULLS: list[str | Step] = [
    "pull_ok", "show_pulled", _deleting("ok"), GoldenRegistry.cut_each_part_once, "pull_cut", _deleting("cut"),
    GoldenRegistry.flip_a_bit, "pull_wrong", GoldenRegistry.tell_the_truth, "pull_missing",
    "pull_insecure_refused", "pull_before_again",
    "pull_again", "pull_plain", "tags_after_pull",
]  # fmt: skip
SESSION = [*EMPTY_STORE, *CREATION, *INFERENCE, *DIALECTS, *LEAVING, *PULLS]
BUSY = ["generate_after_client_left", "busy_warm", "busy_queue_full"]
OFFLINE = ["missing_pull", "missing_create"]
"""They look a name up that must not be found; see offline_replay.py."""


def cases() -> list[str]:
    """Every case of the script, in the order of the session."""
    return [*OFFLINE, *(step for step in SESSION if isinstance(step, str)), *BUSY]


def play_session(target: HttpTarget, registry: GoldenRegistry) -> dict[str, Outcome]:
    return _play_all(target, registry, SESSION)


def play_busy(target: HttpTarget) -> dict[str, Outcome]:
    """On a store with the recorded F16 model."""
    options = {"num_ctx": 512, "num_predict": 4000, "seed": 1}
    endless = {"model": FP16, "prompt": "Tell a story.", "options": options}
    connection, answer = target.open("/api/generate", endless)
    answer.readline()
    connection.close()
    outcomes = _play_all(target, None, BUSY[:2])
    holding, answer = target.open("/api/generate", endless)
    answer.readline()
    waiting = [
        target.start("/api/generate", {"model": FP16, "prompt": "Hi", "options": {"num_ctx": 1024}}) for _ in range(6)
    ]

    def refused() -> Reply | None:
        reply = play(target, None, "busy_queue_full")
        return reply if reply.status != 200 else None

    outcomes["busy_queue_full"] = wait_for("the queue to be full", refused)
    for left in (holding, *waiting):
        left.close()
    return outcomes
